// SPDX-License-Identifier: Apache-2.0
/* The fault wrapper around memory and around nothing: each fault does what it says to the operation it was aimed at, and to no other. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tier/tier.h"

enum { ENTRY = 256 << 10, CHUNK = 64 << 10, CHUNKS = ENTRY / CHUNK, LIMIT = 4 << 20 };
enum { ANY = (1 << 9) - 1, GENERATION = 5 };

struct rig {
	struct config_fault_plan plan;
	struct payload *payload;
	struct tier *tier;
	struct tier_worker *w;
	uint64_t now_ns;
	char buf[ENTRY] __attribute__((aligned(64)));
};

static struct rig g;

static void rig_open(struct config_fault fault, enum payload_check check, bool has_data)
{
	struct error err = {0};
	struct tier *inner;
	g = (struct rig){.plan = {.seed = 3, .count = 1}};
	fault.tier = -1;
	fault.count = fault.count ? fault.count : 1;
	fault.operations = fault.operations ? fault.operations : ANY;
	g.plan.v[0] = fault;
	g.payload = payload_new(1, check);
	assert_int_equal(has_data ? tier_ram_new(TIER_CPU, LIMIT, &inner, &err) : tier_null_new(TIER_CPU, LIMIT, &inner), 0);
	const struct tier_fault_setup setup = {.plan = &g.plan, .payload = g.payload};
	assert_int_equal(tier_fault_new(inner, &setup, &g.tier), 0);
	assert_string_equal(g.tier->ops->kind, has_data ? "ram" : "null");
	assert_int_equal(g.tier->ops->worker_open(g.tier, NULL, 32, &g.w), 0);
}

static void rig_close(void)
{
	g.tier->ops->worker_close(g.w);
	tier_free(g.tier);
	payload_free(g.payload);
}

static struct tier_op op_of(enum tier_op_kind kind, struct tier_object *obj, uint64_t offset)
{
	struct tier_op op;
	tier_op_init(&op, kind, obj, NULL);
	op.offset = offset;
	op.len = CHUNK;
	op.buf = g.buf + offset;
	return op;
}

/* Return: false: it did not come back, and no time was named when it will. */
static bool finish(struct tier_op *op)
{
	struct tier_op *done = NULL;
	while (!g.tier->ops->poll(g.w, g.now_ns, &done, 1)) {
		uint64_t at = g.tier->ops->deadline(g.w);
		if (at == UINT64_MAX)
			return false;
		g.now_ns = MAX(g.now_ns, at);
	}
	assert_ptr_equal(done, op);
	return true;
}

static int run(enum tier_op_kind kind, struct tier_object *obj, uint64_t offset)
{
	struct tier_op op = op_of(kind, obj, offset);
	g.tier->ops->submit(g.w, &op, g.now_ns);
	assert_true(finish(&op));
	assert_int_equal(op.len, CHUNK); /* also when less was written */
	return op.result;
}

static struct payload_id id_of(const struct tier_object *obj)
{
	return (struct payload_id){.key = obj->key, .generation = obj->generation};
}

/* Write an entry; it must go well. */
static struct tier_object written(uint64_t key)
{
	struct tier_object obj = {.key = key, .generation = GENERATION, .payload_bytes = ENTRY, .fd = -1};
	struct payload_id id = id_of(&obj);
	payload_fill(g.payload, &id, 0, g.buf, ENTRY);
	assert_int_equal(run(TIER_CREATE, &obj, 0), 0);
	for (uint64_t i = 0; i < CHUNKS; i++)
		assert_int_equal(run(TIER_WRITE, &obj, i * CHUNK), 0);
	assert_int_equal(run(TIER_COMMIT, &obj, 0), 0);
	return obj;
}

/* Return: chunks in which a check of what is read finds something wrong; the last in @ret. */
static unsigned wrong_chunks(struct tier_object *obj, struct payload_mismatch *ret)
{
	struct payload_id id = id_of(obj);
	unsigned wrong = 0;
	memset(g.buf, 0, ENTRY);
	assert_int_equal(run(TIER_OPEN, obj, 0), 0);
	for (uint64_t i = 0; i < CHUNKS; i++) {
		assert_int_equal(run(TIER_READ, obj, i * CHUNK), 0);
		wrong += payload_verify(g.payload, &id, i * CHUNK, g.buf + i * CHUNK, CHUNK, ret) < 0;
	}
	assert_int_equal(run(TIER_CLOSE, obj, 0), 0);
	return wrong;
}

static void test_error(void **state)
{
	static const enum tier_op_kind kinds[] = {TIER_CREATE, TIER_WRITE, TIER_COMMIT};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		rig_open((struct config_fault){.kind = FAULT_ERROR, .operations = 1 << kinds[i], .nth = 1, .error = ENOSPC},
			 PAYLOAD_STAMPS, true);
		struct tier_object obj = {.key = 1, .generation = 1, .payload_bytes = ENTRY};
		assert_int_equal(run(TIER_CREATE, &obj, 0), kinds[i] == TIER_CREATE ? -ENOSPC : 0);
		if (kinds[i] != TIER_CREATE)
			assert_int_equal(run(TIER_WRITE, &obj, 0), kinds[i] == TIER_WRITE ? -ENOSPC : 0);
		if (kinds[i] == TIER_COMMIT)
			assert_int_equal(run(TIER_COMMIT, &obj, 0), -ENOSPC);
		assert_int_equal(run(TIER_ABORT, &obj, 0), 0);
		assert_int_equal(tier_fault_struck(g.tier, 0), 1);
		/* All of the memory is there again. */
		for (uint64_t key = 0; key < LIMIT / ENTRY; key++)
			written(key);
		assert_int_equal(tier_fault_struck(g.tier, 0), 1);
		rig_close();
	}
}

/* What gives back does so, and fails: memory is not lost by it. */
static void test_error_of_giving_back(void **state)
{
	(void)state;
	rig_open((struct config_fault){.kind = FAULT_ERROR,
				       .operations = 1 << TIER_DELETE | 1 << TIER_CLOSE | 1 << TIER_ABORT,
				       .nth = 1,
				       .count = 1000,
				       .error = EIO},
		 PAYLOAD_STAMPS, true);
	for (int round = 0; round < 3 * LIMIT / ENTRY; round++) {
		struct tier_object obj = written(7);
		assert_int_equal(run(TIER_OPEN, &obj, 0), 0);
		assert_int_equal(run(TIER_CLOSE, &obj, 0), -EIO);
		assert_int_equal(run(TIER_DELETE, &obj, 0), -EIO);
		struct tier_object other = {.key = 8, .payload_bytes = ENTRY};
		assert_int_equal(run(TIER_CREATE, &other, 0), 0);
		assert_int_equal(run(TIER_ABORT, &other, 0), -EIO);
	}
	rig_close();
}

/* Every kind of damage, to what is written and to what is read, is found in one chunk, and by the check that can find it. */
static void test_damage(void **state)
{
	static const struct {
		struct config_fault fault;
		bool found_by_stamps, found_by_hash;
	} cases[] = {
		{{.kind = FAULT_BIT_FLIP, .part = FAULT_PART_STAMP}, true, true},
		{{.kind = FAULT_BIT_FLIP, .part = FAULT_PART_PAYLOAD}, false, true},
		{{.kind = FAULT_STALE}, true, true},
		{{.kind = FAULT_SWAP}, true, true},
		{{.kind = FAULT_TORN}, true, true},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (int kind = 0; kind < (cases[i].fault.kind == FAULT_TORN ? 1 : 2); kind++) {
			for (int check = PAYLOAD_STAMPS; check <= PAYLOAD_FULL; check++) {
				struct config_fault fault = cases[i].fault;
				struct payload_mismatch m = {0};
				fault.operations = kind ? 1 << TIER_READ : 1 << TIER_WRITE;
				fault.nth = 2;
				rig_open(fault, check, true);
				struct tier_object obj = written(9);
				bool is_found = check == PAYLOAD_FULL ? cases[i].found_by_hash : cases[i].found_by_stamps;
				assert_int_equal(wrong_chunks(&obj, &m), is_found);
				assert_int_equal(tier_fault_struck(g.tier, 0), 1);
				if (is_found)
					assert_in_range(m.offset_bytes, CHUNK, 2 * CHUNK - 1);
				if (fault.kind == FAULT_STALE)
					assert_int_equal(m.found.generation, GENERATION - 1);
				if (fault.kind == FAULT_SWAP)
					assert_true(m.found.generation == GENERATION && m.found.key == 9 && !m.is_foreign);
				if (fault.kind == FAULT_TORN)
					assert_int_equal(m.offset_bytes, CHUNK + CHUNK / 2);
				/* On the medium it stays, in the transfer it was once. */
				assert_int_equal(wrong_chunks(&obj, &m), is_found && !kind);
				rig_close();
			}
		}
	}
}

static void test_delay_and_hang(void **state)
{
	(void)state;
	for (int has_data = 0; has_data <= 1; has_data++) {
		struct tier_object obj = {.key = 1, .payload_bytes = ENTRY};
		rig_open((struct config_fault){.kind = FAULT_DELAY, .operations = 1 << TIER_WRITE, .nth = 1, .delay_ms = 5},
			 PAYLOAD_OFF, has_data);
		if (has_data)
			assert_int_equal(run(TIER_CREATE, &obj, 0), 0);
		assert_int_equal(run(TIER_WRITE, &obj, 0), 0);
		assert_int_equal(g.now_ns, 5 * NS_PER_MS);
		assert_int_equal(run(TIER_WRITE, &obj, CHUNK), 0);
		assert_int_equal(g.now_ns, 5 * NS_PER_MS);
		rig_close();

		for (int is_final = 0; is_final <= 1; is_final++) {
			rig_open((struct config_fault){.kind = FAULT_HANG, .operations = 1 << TIER_WRITE, .nth = 1, .is_final = is_final},
				 PAYLOAD_OFF, has_data);
			obj = (struct tier_object){.key = 1, .payload_bytes = ENTRY};
			if (has_data)
				assert_int_equal(run(TIER_CREATE, &obj, 0), 0);
			struct tier_op op = op_of(TIER_WRITE, &obj, 0);
			g.tier->ops->submit(g.w, &op, 0);
			assert_false(finish(&op));
			assert_true(op.end_ns == UINT64_MAX);
			assert_int_equal(tier_fault_struck(g.tier, 0), 1);
			assert_int_equal(run(TIER_WRITE, &obj, CHUNK), 0); /* others go on */
			g.tier->ops->cancel(g.w);
			assert_int_equal(finish(&op), !is_final);
			if (!is_final)
				assert_int_equal(op.result, -ECANCELED);
			rig_close();
		}
	}
}

/* What gives back and hangs is done when nobody waits any longer: memory is not lost by it. */
static void test_hang_of_giving_back(void **state)
{
	(void)state;
	rig_open((struct config_fault){.kind = FAULT_HANG, .operations = 1 << TIER_DELETE, .nth = 1}, PAYLOAD_OFF, true);
	struct tier_object obj = written(100);
	struct tier_op op = op_of(TIER_DELETE, &obj, 0);
	g.tier->ops->submit(g.w, &op, 0);
	assert_false(finish(&op));
	g.tier->ops->cancel(g.w);
	assert_true(finish(&op));
	assert_int_equal(op.result, 0);
	for (uint64_t key = 0; key < LIMIT / ENTRY; key++)
		written(key);
	rig_close();
}

/* A rate is met over many operations, the same ones each time, up to its count. */
static void test_rate(void **state)
{
	enum { OPS = 20000 };
	static char first[OPS];
	(void)state;
	for (int round = 0; round < 3; round++) {
		rig_open((struct config_fault){.kind = FAULT_ERROR, .error = EIO, .rate = 0.1, .count = round < 2 ? OPS : 5},
			 PAYLOAD_OFF, false);
		struct tier_object obj = {.key = 1, .payload_bytes = ENTRY};
		unsigned failed = 0;
		for (int i = 0; i < OPS; i++) {
			bool is_failed = run(TIER_READ, &obj, 0) != 0;
			failed += is_failed;
			if (round == 0)
				first[i] = is_failed;
			else if (round == 1)
				assert_int_equal(first[i], is_failed);
		}
		if (round < 2)
			assert_in_range(failed, OPS / 10 - OPS / 100, OPS / 10 + OPS / 100);
		else
			assert_int_equal(failed, 5);
		assert_int_equal(tier_fault_struck(g.tier, 0), failed);
		rig_close();
	}
}

/* Rules for what a tier does not have never strike. */
static void test_rules_of_other_tiers(void **state)
{
	static const struct {
		enum config_fault_kind kind;
		bool has_data;
	} cases[] = {{FAULT_BIT_FLIP, false}, {FAULT_AGAIN, true}, {FAULT_SHORT, true}};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rig_open((struct config_fault){.kind = cases[i].kind, .nth = 1, .attempts = 1}, PAYLOAD_STAMPS, cases[i].has_data);
		struct tier_object obj = {.key = 1, .payload_bytes = ENTRY};
		if (cases[i].has_data)
			assert_int_equal(run(TIER_CREATE, &obj, 0), 0);
		assert_int_equal(run(TIER_WRITE, &obj, 0), 0);
		assert_int_equal(tier_fault_struck(g.tier, 0), 0);
		rig_close();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error),	       cmocka_unit_test(test_error_of_giving_back),
		cmocka_unit_test(test_damage),	       cmocka_unit_test(test_delay_and_hang),
		cmocka_unit_test(test_hang_of_giving_back),
		cmocka_unit_test(test_rate),	       cmocka_unit_test(test_rules_of_other_tiers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
