// SPDX-License-Identifier: Apache-2.0
/* Tiers without files: what goes into ram comes out, space is given back, and model time is exact.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tier/tier.h"

enum { KIB = 1 << 10, MIB = 1 << 20, PAGE = 64 * KIB };

static struct tier_worker *worker_get(struct tier *t)
{
	struct tier_worker *w = NULL;
	assert_int_equal(t->ops->worker_open(t, NULL, 32, &w), 0);
	return w;
}

static struct tier *ram_get(uint64_t limit_bytes)
{
	struct tier *t = NULL;
	struct error err = {0};
	assert_int_equal(tier_ram_new(TIER_CPU, limit_bytes, &t, &err), 0);
	assert_string_equal(t->ops->kind, "ram");
	assert_int_equal(t->caps, TIER_CAP_COPIES);
	assert_int_equal(t->class, TIER_CPU);
	assert_true(t->limit_bytes == limit_bytes);
	assert_int_equal(t->header_bytes, 0);
	assert_int_equal(t->granule_bytes, PAGE);
	return t;
}

/* For code that runs on other threads too, where cmocka's assertions cannot be used. */
static void must(bool ok)
{
	if (!ok)
		abort();
}

/* Submit one operation and poll until it is back. */
static int run_op(struct tier *t, struct tier_worker *w, struct tier_op *op)
{
	struct tier_op *done = NULL;
	t->ops->submit(w, op, 0);
	while (!t->ops->poll(w, 0, &done, 1))
		must(t->ops->deadline(w) == 0);
	must(done == op);
	must(t->ops->deadline(w) == UINT64_MAX);
	return op->result;
}

static int run_kind(struct tier *t, struct tier_worker *w, struct tier_object *obj,
		    enum tier_op_kind kind)
{
	struct tier_op op = {.kind = kind, .obj = obj, .buffer_index = -1};
	return run_op(t, w, &op);
}

/* Move the whole entry in chunks of @chunk bytes. */
static void run_chunks(struct tier *t, struct tier_worker *w, struct tier_object *obj,
		       enum tier_op_kind kind, char *buf, uint64_t chunk)
{
	uint64_t stored = tier_stored_bytes(obj->payload_bytes);
	for (uint64_t at = 0; at < stored; at += chunk) {
		struct tier_op op = {.kind = kind, .obj = obj, .offset = at, .buf = buf + at};
		op.len = MIN(chunk, stored - at);
		int rc = run_op(t, w, &op);
		must(rc == 0);
	}
}

static void pattern_fill(char *buf, uint64_t bytes, uint64_t key)
{
	struct rng r = rng_stream(key);
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t x = rng_next(&r);
		memcpy(buf + i, &x, 8);
	}
}

static void entry_write(struct tier *t, struct tier_worker *w, struct tier_object *obj, char *buf,
			uint64_t chunk)
{
	pattern_fill(buf, tier_stored_bytes(obj->payload_bytes), obj->key);
	int rc = run_kind(t, w, obj, TIER_CREATE);
	must(rc == 0);
	run_chunks(t, w, obj, TIER_WRITE, buf, chunk);
	rc = run_kind(t, w, obj, TIER_SYNC) | run_kind(t, w, obj, TIER_COMMIT);
	must(rc == 0);
}

/* Read an entry, known by location alone, and compare. Return: is it what was written? */
static bool entry_check(struct tier *t, struct tier_worker *w, const struct tier_object *obj,
			char *buf, uint64_t chunk)
{
	struct tier_object reader = {
		.key = obj->key, .payload_bytes = obj->payload_bytes, .location = obj->location};
	uint64_t stored = tier_stored_bytes(obj->payload_bytes);
	memset(buf, 0, stored);
	int rc = run_kind(t, w, &reader, TIER_OPEN);
	must(rc == 0);
	run_chunks(t, w, &reader, TIER_READ, buf, chunk);
	rc = run_kind(t, w, &reader, TIER_CLOSE);
	must(rc == 0);
	struct rng r = rng_stream(obj->key);
	for (uint64_t i = 0; i < stored; i += 8) {
		uint64_t x = rng_next(&r);
		if (memcmp(buf + i, &x, 8) != 0)
			return false;
	}
	return true;
}

static void entry_delete(struct tier *t, struct tier_worker *w, const struct tier_object *obj)
{
	struct tier_object gone = {
		.key = obj->key, .payload_bytes = obj->payload_bytes, .location = obj->location};
	int rc = run_kind(t, w, &gone, TIER_DELETE);
	must(rc == 0);
}

static void test_ram_round_trip(void **state)
{
	(void)state;
	static const uint64_t sizes[] = {1, 4096, 4097, PAGE, PAGE + 1, 3 * MIB - 512, 8 * MIB};
	static const uint64_t chunks[] = {4 * KIB, 12 * KIB, PAGE, 1 * MIB, 8 * MIB};
	struct tier *t = ram_get(64 * MIB);
	struct tier_worker *w = worker_get(t);
	char *buf = mem_reserve(8 * MIB);

	for (size_t c = 0; c < ARRAY_LEN(chunks); c++) {
		struct tier_object obj[ARRAY_LEN(sizes)];
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			obj[i] = (struct tier_object){.key = i, .payload_bytes = sizes[i]};
			entry_write(t, w, &obj[i], buf, chunks[c]);
		}
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			for (size_t d = 0; d < ARRAY_LEN(chunks); d++)
				assert_true(entry_check(t, w, &obj[i], buf, chunks[d]));
		}
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
			entry_delete(t, w, &obj[i]);
	}
	mem_unreserve(buf, 8 * MIB);
	t->ops->worker_close(w);
	tier_free(t);
}

/* Exactly limit / 64 KiB pages exist, before and after any number of deletions and aborts in any
 * order. */
static void test_ram_space(void **state)
{
	(void)state;
	enum { PAGES = 37, ROUNDS = 200 };
	struct tier *t = ram_get(PAGES * PAGE + PAGE - 1);
	struct tier_worker *w = worker_get(t);
	struct rng r = rng_stream(5);

	for (int round = 0; round < ROUNDS; round++) {
		struct tier_object obj[PAGES + 1];
		unsigned count = 0;
		uint64_t pages = 0;
		while (pages < PAGES) {
			uint64_t want = rng_range(&r, 1, MIN(9, PAGES - pages));
			obj[count] = (struct tier_object){.payload_bytes = want * PAGE - 4096};
			assert_int_equal(run_kind(t, w, &obj[count], TIER_CREATE), 0);
			pages += want;
			count++;
		}
		obj[count] = (struct tier_object){.payload_bytes = 1};
		assert_int_equal(run_kind(t, w, &obj[count], TIER_CREATE), -ENOSPC);
		assert_int_equal(run_kind(t, w, &obj[count], TIER_ABORT), 0);
		while (count) {
			unsigned pick = (unsigned)rng_below(&r, count--);
			if (rng_next(&r) & 1) {
				assert_int_equal(run_kind(t, w, &obj[pick], TIER_ABORT), 0);
			} else {
				assert_int_equal(run_kind(t, w, &obj[pick], TIER_COMMIT), 0);
				entry_delete(t, w, &obj[pick]);
			}
			obj[pick] = obj[count];
		}
	}
	t->ops->worker_close(w);
	tier_free(t);
}

/* A copy larger than the bound comes back only after several polls, and others in the queue stay in
 * order. */
static void test_ram_yields(void **state)
{
	(void)state;
	struct tier *t = ram_get(16 * MIB);
	struct tier_worker *w = worker_get(t);
	struct tier_object obj = {.payload_bytes = 4 * MIB};
	char *buf = mem_reserve(4 * MIB);
	struct tier_op *done[8];
	assert_int_equal(run_kind(t, w, &obj, TIER_CREATE), 0);

	struct tier_op write = {.kind = TIER_WRITE, .obj = &obj, .len = 4 * MIB, .buf = buf};
	struct tier_op commit = {.kind = TIER_COMMIT, .obj = &obj};
	t->ops->submit(w, &write, 0);
	t->ops->submit(w, &commit, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(t->ops->poll(w, 0, done, 8), 0);
	assert_int_equal(t->ops->poll(w, 0, done, 8), 2);
	assert_ptr_equal(done[0], &write);
	assert_ptr_equal(done[1], &commit);

	struct tier_op read[4];
	for (uint64_t i = 0; i < 4; i++) {
		read[i] = (struct tier_op){.kind = TIER_READ, .obj = &obj, .offset = i * MIB};
		read[i].len = MIB;
		read[i].buf = buf + i * MIB;
		t->ops->submit(w, &read[i], 0);
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(t->ops->poll(w, 0, done, 8), 1);
		assert_ptr_equal(done[0], &read[i]);
	}
	entry_delete(t, w, &obj);
	mem_unreserve(buf, 4 * MIB);
	t->ops->worker_close(w);
	tier_free(t);
}

static void test_ram_refused(void **state)
{
	(void)state;
	struct tier *t = NULL;
	struct error err = {0};
	assert_int_equal(tier_ram_new(TIER_CPU, UINT64_C(1) << 50, &t, &err), -ENOMEM);
	assert_null(t);
	assert_int_equal(err.code, ERR_FS_FULL);
	assert_non_null(strstr(err.message, "cpu"));
	tier_free(NULL);
}

/* One of two workers: writes, checks and deletes entries of its own. */
struct worker_job {
	struct tier *t;
	uint64_t seed;
	int bad;
};

static void *worker_run(void *arg)
{
	struct worker_job *job = arg;
	struct tier_worker *w = NULL;
	int rc = job->t->ops->worker_open(job->t, NULL, 8, &w);
	must(rc == 0);
	char *buf = mem_reserve(2 * MIB);
	struct tier_object held[4] = {0};
	struct rng r = rng_stream(job->seed);
	for (unsigned i = 0; i < 200; i++) {
		struct tier_object *obj = &held[i % 4];
		if (obj->payload_bytes) {
			job->bad += !entry_check(job->t, w, obj, buf, 256 * KIB);
			entry_delete(job->t, w, obj);
		}
		*obj = (struct tier_object){.key = rng_next(&r),
					    .payload_bytes = rng_range(&r, 1, 2 * MIB)};
		entry_write(job->t, w, obj, buf, 256 * KIB);
	}
	mem_unreserve(buf, 2 * MIB);
	job->t->ops->worker_close(w);
	return NULL;
}

static void test_ram_two_workers(void **state)
{
	(void)state;
	struct tier *t = ram_get(16 * MIB); /* 2 x 4 entries of 2 MiB: never a page to spare */
	struct worker_job jobs[2] = {{.t = t, .seed = 1}, {.t = t, .seed = 2}};
	pthread_t thread[2];
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, worker_run, &jobs[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(jobs[i].bad, 0);
	}
	tier_free(t);
}

static void test_null(void **state)
{
	(void)state;
	struct tier *t = NULL;
	assert_int_equal(tier_null_new(TIER_STORAGE, 1000, &t), 0);
	assert_string_equal(t->ops->kind, "null");
	assert_int_equal(t->caps, TIER_CAP_WHOLE | TIER_CAP_VIRTUAL);
	struct tier_worker *w = worker_get(t);
	struct tier_object obj = {.key = 0xabc, .generation = 2};
	struct tier_op op[5], *done[5];
	assert_true(t->ops->deadline(w) == UINT64_MAX);
	for (int i = 0; i < 5; i++) {
		op[i] = (struct tier_op){.kind = i % 2 ? TIER_READ : TIER_WRITE, .obj = &obj};
		op[i].result = -1;
		t->ops->submit(w, &op[i], 0);
		assert_int_equal(op[i].result, -1);
	}
	assert_true(t->ops->deadline(w) == 0);
	assert_int_equal(t->ops->poll(w, 0, done, 3), 3);
	assert_int_equal(t->ops->poll(w, 0, done + 3, 5), 2);
	assert_int_equal(t->ops->poll(w, 0, done, 5), 0);
	for (int i = 0; i < 5; i++) {
		assert_ptr_equal(done[i], &op[i]);
		assert_int_equal(op[i].result, 0);
	}
	char text[128];
	t->ops->describe(t, &op[0], text, sizeof(text));
	assert_string_equal(text, "tier 'null' entry 0000000000000abc generation 2 offset 0");
	t->ops->worker_close(w);
	tier_free(t);
}

static struct tier *model_get(double read_gbps, double write_gbps, double latency_us)
{
	struct tier *t = NULL;
	struct config_model_tier m = {read_gbps, write_gbps, latency_us};
	assert_int_equal(tier_model_new(TIER_STORAGE, 1 << 30, &m, &t), 0);
	assert_string_equal(t->ops->kind, "model");
	assert_int_equal(t->caps, TIER_CAP_WHOLE | TIER_CAP_VIRTUAL);
	return t;
}

/* read 2 GB/s, write 1 GB/s, 10 us: 1,000,000 bytes are read in 500 us and written in 1000 us. */
static void test_model_times(void **state)
{
	(void)state;
	static const struct {
		enum tier_op_kind kind;
		uint64_t now, begin, end;
	} steps[] = {
		{TIER_READ, 1000, 1000, 501000},     /* idle: starts at once */
		{TIER_WRITE, 2000, 501000, 1501000}, /* waits for the read */
		{TIER_READ, 2000, 1501000, 2001000},
		{TIER_READ, 5000000, 5000000, 5500000}, /* idle again */
	};
	struct tier *t = model_get(2, 1, 10);
	struct tier_worker *w = worker_get(t);
	struct tier_op op[ARRAY_LEN(steps)], *done[8];
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		op[i] = (struct tier_op){.kind = steps[i].kind, .len = 1000000};
		t->ops->submit(w, &op[i], steps[i].now);
		assert_true(op[i].begin_ns == steps[i].begin);
		assert_true(op[i].end_ns == steps[i].end);
	}
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		uint64_t when = steps[i].end + 10000;
		assert_true(t->ops->deadline(w) == when);
		assert_int_equal(t->ops->poll(w, when - 1, done, 8), 0);
		assert_int_equal(t->ops->poll(w, when, done, 8), 1);
		assert_ptr_equal(done[0], &op[i]);
		assert_int_equal(op[i].result, 0);
	}
	assert_true(t->ops->deadline(w) == UINT64_MAX);
	t->ops->worker_close(w);
	tier_free(t);
}

/* 1 byte at 3 GB/s is a third of a nanosecond: rounded up, as every transfer is; 2^40 bytes do not
 * overflow. */
static void test_model_rounding(void **state)
{
	(void)state;
	struct tier *t = model_get(3, 0.001, 0);
	struct tier_worker *w = worker_get(t);
	struct tier_op op[3] = {{.kind = TIER_READ, .len = 1},
				{.kind = TIER_READ, .len = 3000},
				{.kind = TIER_WRITE, .len = UINT64_C(1) << 40}};
	for (int i = 0; i < 3; i++)
		t->ops->submit(w, &op[i], 0);
	assert_true(op[0].end_ns == 1);
	assert_true(op[1].end_ns == 1001);
	assert_true(op[2].end_ns == 1001 + (UINT64_C(1000) << 40));
	struct tier_op *done[3];
	assert_int_equal(t->ops->poll(w, op[2].end_ns, done, 3), 3);
	t->ops->worker_close(w);
	tier_free(t);
}

/* Two workers queue at one server, and each gets back only its own. */
static void test_model_shared(void **state)
{
	(void)state;
	struct tier *t = model_get(1, 1, 1);
	struct tier_worker *a = worker_get(t), *b = worker_get(t);
	struct tier_op first = {.kind = TIER_READ, .len = 1000};
	struct tier_op second = {.kind = TIER_READ, .len = 1000};
	struct tier_op *done[2];
	t->ops->submit(a, &first, 0);
	t->ops->submit(b, &second, 0);
	assert_true(second.begin_ns == 1000 && second.end_ns == 2000);
	assert_true(t->ops->deadline(a) == 2000);
	assert_true(t->ops->deadline(b) == 3000);
	assert_int_equal(t->ops->poll(b, 3000, done, 2), 1);
	assert_ptr_equal(done[0], &second);
	assert_int_equal(t->ops->poll(a, 3000, done, 2), 1);
	assert_ptr_equal(done[0], &first);
	t->ops->worker_close(a);
	t->ops->worker_close(b);
	tier_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ram_round_trip),  cmocka_unit_test(test_ram_space),
		cmocka_unit_test(test_ram_yields),      cmocka_unit_test(test_ram_refused),
		cmocka_unit_test(test_ram_two_workers), cmocka_unit_test(test_null),
		cmocka_unit_test(test_model_times),     cmocka_unit_test(test_model_rounding),
		cmocka_unit_test(test_model_shared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
