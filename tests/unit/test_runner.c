// SPDX-License-Identifier: Apache-2.0
/*
 * The runner end to end, without a machine under it: what is recorded must follow from what was asked. Most runs are on the virtual
 * clock and are compared with numbers computed here; the real clock is for races, and no test looks at how long it took.
 *
 * A fake tier counts, delays, fails and lies on request, and checks the contract of tier.h from the tier's side.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <xxhash.h>

#include "base/rng.h"
#include "runner/internal.h"

/* ---- a tier that counts, delays, fails and lies ---- */

enum {
	OP_KINDS = TIER_DELETE + 1,
	FAKE_ENTRIES = 1 << 16,
	FAKE_LOG = 1 << 14,
	PPM = 1000000,
};

/* In obj->chain: what the entry is being used for. */
enum { FAKE_NOTHING, FAKE_CREATED, FAKE_OPENED };

struct fake_event {
	enum tier_op_kind kind;
	uint64_t key, at_ns, end_ns;
};

struct fake_entry {
	uint64_t key;
	uint32_t generation, readers;
	bool is_live;
};

enum { FAKE_NOISE = 8192 };

/* What was in a write beside its stamps. */
struct fake_noise {
	uint64_t key, offset, hash;
};

struct fake_tier {
	struct tier tier;
	/* behaviour: set before the run */
	const struct payload *payload;
	uint64_t delay_ns;
	bool has_random_delay; /* 0..delay_ns, so that operations overtake each other */
	uint32_t fail_ppm[OP_KINDS];
	bool breaks_worker_open;
	int hang_kind; /* the next operation of this kind never completes; -1: none */
	bool keeps_hanging; /* also when it is asked back */
	uint64_t lie_key; /* the first read of this key returns one wrong bit */
	uint64_t grid_bytes; /* no chunk may cross this grid in the file, header and all, unless it is the whole entry; 0: it may */
	bool logs;
	pthread_mutex_t lock; /* guards the rest */
	struct rng rng;
	uint32_t workers_open;
	uint64_t done[OP_KINDS], failed[OP_KINDS];
	uint32_t ops, ops_max;         /* in flight */
	uint32_t writing, writing_max; /* entries */
	uint64_t dirty, dirty_max;     /* bytes written, neither synced nor committed */
	uint64_t live;
	uint32_t lies;
	uint32_t entry_count;
	struct fake_entry entry[FAKE_ENTRIES];
	uint32_t event_count;
	struct fake_event event[FAKE_LOG];
	uint32_t noise_count; /* writes logged in noise, if there is room for them */
	struct fake_noise *noise;
	char wrong[160]; /* the first breach of the contract; "" is none */
};

struct tier_worker {
	struct fake_tier *fake;
	struct list queue;
};

static struct fake_tier *fake_of(struct tier *t)
{
	return container_of(t, struct fake_tier, tier);
}

static void fake_breach(struct fake_tier *f, const struct tier_op *op, const char *what)
{
	if (!f->wrong[0])
		snprintf(f->wrong, sizeof(f->wrong), "op %d of key %016llx: %s", op->kind,
			 (unsigned long long)op->obj->key, what);
}

static struct fake_entry *fake_entry(struct fake_tier *f, const struct tier_op *op)
{
	struct fake_entry *e = &f->entry[op->obj->location % FAKE_ENTRIES];
	if (!e->is_live || e->key != op->obj->key || e->generation != op->obj->generation)
		fake_breach(f, op, "no such entry");
	return e;
}

static struct payload_id fake_id(const struct tier_op *op)
{
	return (struct payload_id){.key = op->obj->key, .generation = op->obj->generation};
}

static void fake_check_grid(struct fake_tier *f, const struct tier_op *op)
{
	bool is_whole = op->len == tier_stored_bytes(op->obj->payload_bytes);
	uint64_t begin = op->offset ? f->tier.header_bytes + op->offset : 0; /* the header goes with the first */
	uint64_t end = f->tier.header_bytes + op->offset + op->len;
	if (f->grid_bytes && !is_whole && begin / f->grid_bytes != (end - 1) / f->grid_bytes)
		fake_breach(f, op, "off the grid");
}

/* What must hold when an operation is handed over. */
static void fake_check_submit(struct fake_tier *f, const struct tier_op *op)
{
	const struct tier_object *obj = op->obj;
	struct payload_mismatch mismatch;
	struct payload_id id = fake_id(op);
	if (op->kind == TIER_READ || op->kind == TIER_WRITE)
		fake_check_grid(f, op);
	switch (op->kind) {
	case TIER_CREATE:
		if (obj->chain != FAKE_NOTHING)
			fake_breach(f, op, "created twice");
		break;
	case TIER_WRITE:
		if (obj->chain != FAKE_CREATED)
			fake_breach(f, op, "write without create");
		else if (payload_verify(f->payload, &id, op->offset, op->buf, op->len, &mismatch) <
			 0)
			fake_breach(f, op, "wrong data to write");
		if (f->noise && f->noise_count < FAKE_NOISE)
			f->noise[f->noise_count++] = (struct fake_noise){
				op->obj->key, op->offset, XXH3_64bits((char *)op->buf + 64, 448)};
		break;
	case TIER_COMMIT:
		if (obj->chain != FAKE_CREATED ||
		    obj->cursor != tier_stored_bytes(obj->payload_bytes))
			fake_breach(f, op, "commit of half an entry");
		break;
	case TIER_OPEN:
	case TIER_DELETE:
		if (fake_entry(f, op)->readers && op->kind == TIER_DELETE)
			fake_breach(f, op, "deleted under a reader");
		break;
	case TIER_READ:
	case TIER_CLOSE:
		if (obj->chain != FAKE_OPENED)
			fake_breach(f, op, "not open");
		break;
	default:
		break;
	}
}

static void fake_commit(struct fake_tier *f, struct tier_op *op)
{
	if (f->entry_count == FAKE_ENTRIES) {
		fake_breach(f, op, "too many entries for this test");
		return;
	}
	op->obj->location = f->entry_count;
	f->entry[f->entry_count++] = (struct fake_entry){
		.key = op->obj->key,
		.generation = op->obj->generation,
		.is_live = true,
	};
	f->live++;
}

static void fake_read(struct fake_tier *f, struct tier_op *op)
{
	struct payload_id id = fake_id(op);
	payload_fill(f->payload, &id, op->offset, op->buf, op->len);
	if (op->obj->key == f->lie_key && !f->lies) {
		f->lies++;
		((unsigned char *)op->buf)[3] ^= 0x10;
	}
}

/* What an operation does to the tier when it ends. */
static void fake_apply(struct fake_tier *f, struct tier_op *op)
{
	struct tier_object *obj = op->obj;
	bool is_ok = !op->result;
	switch (op->kind) {
	case TIER_CREATE:
		obj->chain = FAKE_CREATED; /* a failed one may have left something to abort, too */
		break;
	case TIER_WRITE:
		obj->cursor += is_ok ? op->len : 0;
		obj->cursor_offset += is_ok ? op->len : 0; /* dirty bytes of the entry */
		f->dirty += is_ok ? op->len : 0;
		f->dirty_max = MAX(f->dirty_max, f->dirty);
		break;
	case TIER_COMMIT:
		if (is_ok)
			fake_commit(f, op);
		break;
	case TIER_OPEN:
		if (is_ok)
			fake_entry(f, op)->readers++;
		obj->chain = is_ok ? FAKE_OPENED : FAKE_NOTHING;
		break;
	case TIER_READ:
		if (is_ok)
			fake_read(f, op);
		break;
	case TIER_CLOSE:
		fake_entry(f, op)->readers--;
		obj->chain = FAKE_NOTHING;
		break;
	case TIER_DELETE:
		fake_entry(f, op)->is_live = false; /* a failed one stays on the medium, unused */
		f->live--;
		break;
	default:
		break;
	}
	bool is_settled = op->kind == TIER_ABORT ||
			  (is_ok && (op->kind == TIER_SYNC || op->kind == TIER_COMMIT));
	if (is_settled) {
		f->dirty -= obj->cursor_offset;
		obj->cursor_offset = 0;
	}
}

static bool fake_is_whole(const struct fake_tier *f)
{
	return f->tier.caps & TIER_CAP_WHOLE;
}

static int fake_worker_open(struct tier *t, struct io *io, uint32_t ops_max,
			    struct tier_worker **ret)
{
	(void)io, (void)ops_max;
	struct fake_tier *f = fake_of(t);
	pthread_mutex_lock(&f->lock);
	bool is_broken = f->breaks_worker_open && f->workers_open++;
	pthread_mutex_unlock(&f->lock);
	struct tier_worker *w = is_broken ? NULL : malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->fake = f;
	list_init(&w->queue);
	*ret = w;
	return 0;
}

static void fake_worker_close(struct tier_worker *w)
{
	free(w);
}

static bool fake_begins_writing(const struct fake_tier *f, const struct tier_op *op)
{
	return op->kind == (fake_is_whole(f) ? TIER_WRITE : TIER_CREATE);
}

static bool fake_ends_writing(const struct fake_tier *f, const struct tier_op *op)
{
	if (fake_is_whole(f))
		return op->kind == TIER_WRITE;
	return op->kind == TIER_ABORT || (op->kind == TIER_COMMIT && !op->result);
}

static void fake_submit(struct tier_worker *w, struct tier_op *op, uint64_t now_ns)
{
	struct fake_tier *f = w->fake;
	pthread_mutex_lock(&f->lock);
	if (!fake_is_whole(f))
		fake_check_submit(f, op);
	f->ops++;
	f->ops_max = MAX(f->ops_max, f->ops);
	f->writing += fake_begins_writing(f, op);
	f->writing_max = MAX(f->writing_max, f->writing);
	op->io_ns =
		now_ns + (f->has_random_delay ? rng_below(&f->rng, f->delay_ns + 1) : f->delay_ns);
	if (f->logs && f->event_count < FAKE_LOG)
		f->event[f->event_count++] = (struct fake_event){op->kind, op->obj->key, now_ns, op->io_ns};
	if (fake_is_whole(f)) {
		op->begin_ns = now_ns;
		op->end_ns = op->io_ns;
	}
	op->result = rng_below(&f->rng, PPM) < f->fail_ppm[op->kind] ? -EIO : 0;
	if ((int)op->kind == f->hang_kind) {
		f->hang_kind = -1;
		op->io_ns = UINT64_MAX;
		op->end_ns = UINT64_MAX;
	}
	pthread_mutex_unlock(&f->lock);
	list_push_back(&w->queue, &op->node);
}

static unsigned fake_poll(struct tier_worker *w, uint64_t now_ns, struct tier_op **ret,
			  unsigned max)
{
	struct fake_tier *f = w->fake;
	unsigned count = 0;
	pthread_mutex_lock(&f->lock);
	for (struct list *node = w->queue.next, *next; node != &w->queue && count < max;
	     node = next) {
		struct tier_op *op = list_entry(node, struct tier_op, node);
		next = node->next;
		if (op->io_ns > now_ns)
			continue;
		list_remove(node);
		if (!fake_is_whole(f))
			fake_apply(f, op);
		f->done[op->kind] += !op->result;
		f->failed[op->kind] += op->result != 0;
		f->ops--;
		f->writing -= fake_ends_writing(f, op);
		ret[count++] = op;
	}
	pthread_mutex_unlock(&f->lock);
	return count;
}

static void fake_cancel(struct tier_worker *w)
{
	list_for_each (node, &w->queue) {
		struct tier_op *op = list_entry(node, struct tier_op, node);
		if (op->io_ns == UINT64_MAX && !w->fake->keeps_hanging) {
			op->io_ns = 0;
			op->result = -ECANCELED;
		}
	}
}

static uint64_t fake_deadline(const struct tier_worker *w)
{
	uint64_t at = UINT64_MAX;
	list_for_each (node, &w->queue)
		at = MIN(at, list_entry(node, struct tier_op, node)->io_ns);
	return at;
}

static void fake_describe(const struct tier *t, const struct tier_op *op, char *buf, size_t size)
{
	(void)t;
	snprintf(buf, size, "fake tier, key %016llx, offset %llu", (unsigned long long)op->obj->key,
		 (unsigned long long)op->offset);
}

static void fake_free(struct tier *t)
{
	struct fake_tier *f = fake_of(t);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static const struct tier_ops fake_ops = {
	.kind = "fake",
	.worker_open = fake_worker_open,
	.worker_close = fake_worker_close,
	.submit = fake_submit,
	.poll = fake_poll,
	.cancel = fake_cancel,
	.deadline = fake_deadline,
	.describe = fake_describe,
	.free = fake_free,
};

static struct fake_tier *fake_new(enum tier_class class, unsigned caps, uint64_t limit_bytes)
{
	struct fake_tier *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->tier = (struct tier){
		.ops = &fake_ops,
		.class = class,
		.caps = caps | TIER_CAP_VIRTUAL, /* its times are the runner's */
		.limit_bytes = limit_bytes,
		.granule_bytes = TIER_PAYLOAD_ALIGN,
	};
	f->rng = rng_stream(7);
	f->hang_kind = -1;
	pthread_mutex_init(&f->lock, NULL);
	return f;
}

/* ---- a run and its parts ---- */

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

struct rig {
	struct config cfg;
	unsigned char source[128];
	struct opt_group group;
	struct opt_set set;
	char yaml[32], trace[32]; /* files made for this run; "" is none */
	struct workload *workload;
	struct cache *cache;
	struct payload *payload;
	struct tier *tier[TIER_CLASSES];
	unsigned tier_count;
	struct error_log errors;
	struct strlist notices;
	struct runner_setup setup;
	struct runner *runner;
	struct metrics *m;
	struct runner_outcome outcome;
};

/* One user template with one size of everything, so that a test can compute with it. */
#define FIXED_USERS(context, generation, think)               \
 "user_templates:\n"                                          \
 "  chatbot:\n"                                               \
 "  coding:\n"                                                \
 "  document:\n"                                              \
 "  fixed:\n"                                                 \
 "    context_range: [" #context ", " #context "]\n"          \
 "    generation_range: [" #generation ", " #generation "]\n" \
 "    think_time_range: [" #think ", " #think "]\n"
#define FIXED_DRAWS             \
 "  think_jitter: [1.0, 1.0]\n" \
 "  context_min_divisor: 1\n"   \
 "  generation_min_divisor: 1\n"

static int temp_file(char path[32])
{
	strcpy(path, "/tmp/test_runner_XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	return fd;
}

static void write_text(char path[32], const char *text)
{
	int fd = temp_file(path);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void rig_options(struct rig *g, const char *options)
{
	struct strlist argv = {0};
	struct problems problems = {0};
	bool wants_help;
	assert_int_equal(strlist_add_split(&argv, options, " "), 0);
	if (g->yaml[0]) {
		assert_int_equal(strlist_add(&argv, "--config"), 0);
		assert_int_equal(strlist_add(&argv, g->yaml), 0);
	}
	if (g->trace[0]) {
		assert_int_equal(strlist_add(&argv, "--trace"), 0);
		assert_int_equal(strlist_add(&argv, g->trace), 0);
	}
	assert_int_equal(opt_defaults(&g->set), 0);
	assert_int_equal(opt_parse(&g->set, (int)argv.count, argv.v, &problems, &wants_help), 0);
	assert_int_equal(config_load(&g->group, &g->cfg, &problems), 0);
	if (problems.count)
		print_error("%s\n", problems.list[0].message);
	assert_int_equal(problems.count, 0);
	strlist_release(&argv);
}

static uint32_t rig_workers(const struct config_options *o)
{
	return o->simulate ? 1 : (uint32_t)MAX(o->workers, 1);
}

/**
 * rig_new() - a config from options and, when not NULL, a workload file; a trace was put into g->trace before
 * Tiers follow by rig_tier(); then g->setup may be changed, and rig_run().
 */
static void rig_new(struct rig *g, const char *options, const char *yaml)
{
	size_t count;
	const struct opt *table = config_option_table(&count);
	assert_true(count <= sizeof(g->source));
	g->group = (struct opt_group){
		.opts = table, .count = count, .target = &g->cfg.opt, .source = g->source};
	g->set = (struct opt_set){.groups = &g->group, .count = 1};
	if (yaml)
		write_text(g->yaml, yaml);
	rig_options(g, options);
	struct error err = {0};
	if (workload_new(&g->cfg, 42, 0, &g->workload, &err))
		fail_msg("%s", err.message);
	g->payload = payload_new(1, g->cfg.opt.verify == VERIFY_FULL ? PAYLOAD_FULL : PAYLOAD_STAMPS);
	assert_non_null(g->payload);
	error_log_init(&g->errors);
	const struct config_options *o = &g->cfg.opt;
	g->setup = (struct runner_setup){
		.cfg = &g->cfg,
		.workload = g->workload,
		.payload = g->payload,
		.errors = &g->errors,
		.notices = &g->notices,
		.is_virtual = o->simulate,
		.drain_ns = (uint64_t)o->drain_timeout_s * NS_PER_S,
		.workers = rig_workers(o),
		.in_service_max = (uint32_t)MIN(o->num_users, RUNNER_IN_SERVICE_MAX),
		.io_depth = (uint32_t)o->io_depth,
		.ops_in_flight = (uint32_t)(o->ops_in_flight ? o->ops_in_flight : o->io_depth),
		.warmup_ns = (uint64_t)o->warmup_s * NS_PER_S,
		.duration_ns = (uint64_t)o->duration_s * NS_PER_S,
	};
}

static void rig_tier(struct rig *g, struct tier *t)
{
	g->tier[g->tier_count++] = t;
}

static struct fake_tier *rig_fake(struct rig *g, enum tier_class class, unsigned caps,
				  uint64_t limit_bytes)
{
	struct fake_tier *f = fake_new(class, caps, limit_bytes);
	f->payload = g->payload;
	rig_tier(g, &f->tier);
	return f;
}

static void rig_null(struct rig *g)
{
	struct tier *t;
	assert_int_equal(tier_null_new(TIER_STORAGE, 1024 * GIB, &t), 0);
	rig_tier(g, t);
}

static void rig_model(struct rig *g, enum tier_class class, uint64_t limit_bytes)
{
	struct tier *t;
	assert_int_equal(tier_model_new(class, limit_bytes, &g->cfg.model_tier[class], &t), 0);
	rig_tier(g, t);
}

static void rig_ram(struct rig *g, uint64_t limit_bytes)
{
	struct tier *t;
	struct error err = {0};
	assert_int_equal(tier_ram_new(TIER_CPU, limit_bytes, &t, &err), 0);
	rig_tier(g, t);
}

static void rig_cache(struct rig *g)
{
	struct cache_setup setup = {
		.tier_count = g->tier_count,
		.target_usage_ratio = g->cfg.workload.target_usage_ratio,
		.large_entry_limit_ratio = g->cfg.workload.large_entry_limit_ratio,
		.entries_max = 1 << 22,
	};
	for (unsigned i = 0; i < g->tier_count; i++)
		setup.tier[i] = (struct cache_tier){
			.class = g->tier[i]->class,
			.limit_bytes = g->tier[i]->limit_bytes,
			.header_bytes = g->tier[i]->header_bytes,
			.granule_bytes = g->tier[i]->granule_bytes,
		};
	assert_int_equal(cache_new(&setup, &g->cache), 0);
	g->setup.cache = g->cache;
	g->setup.tier_count = g->tier_count;
	memcpy(g->setup.tier, g->tier, sizeof(g->tier));
}

static void rig_begin(struct rig *g)
{
	struct error err = {0};
	rig_cache(g);
	if (runner_new(&g->setup, &g->runner, &err))
		fail_msg("%s", err.message);
	runner_start(g->runner);
}

static void check_run(struct rig *g);

static void rig_end(struct rig *g)
{
	if (!runner_wait(g->runner, 100 * NS_PER_S))
		fail_msg("the run is stuck");
	g->m = metrics_new();
	assert_non_null(g->m);
	assert_int_equal(runner_collect(g->runner, g->m, &g->outcome), 0);
	check_run(g);
}

static void rig_run(struct rig *g)
{
	rig_begin(g);
	rig_end(g);
}

static void rig_release(struct rig *g)
{
	runner_free(g->runner);
	metrics_free(g->m);
	cache_free(g->cache);
	for (unsigned i = 0; i < g->tier_count; i++)
		tier_free(g->tier[i]);
	payload_free(g->payload);
	workload_free(g->workload);
	strlist_release(&g->notices);
	config_release(&g->cfg);
	if (g->yaml[0])
		unlink(g->yaml);
	if (g->trace[0])
		unlink(g->trace);
	*g = (struct rig){0};
}

static uint64_t counter(const struct rig *g, enum metric_counter c)
{
	return g->m->count[c];
}

static const struct hist *hist(const struct rig *g, enum metric_hist h)
{
	return &g->m->hist[h];
}

static uint64_t hist_sum(const struct rig *g, enum metric_hist h)
{
	return (hist(g, h)->sum_high << 32) + hist(g, h)->sum_low;
}

/* ---- what holds for every run ---- */

static void check_hist(const struct rig *g, enum metric_hist h, bool may_be_zero)
{
	char name[64];
	if (!may_be_zero && hist(g, h)->count && !hist(g, h)->min_ns)
		fail_msg("%s: an operation that took no time", metrics_hist_name(h, name));
}

/* total = device + host, for each tier and direction, as sums of integers. */
static void check_parts(const struct rig *g, bool may_be_zero)
{
	for (int t = 0; t < TIER_CLASSES; t++) {
		for (int d = 0; d < DIRECTIONS; d++) {
			uint64_t ops = counter(g, COUNT_TIER_OPS(t, d));
			for (int p = 0; p < PARTS; p++)
				assert_int_equal(hist(g, HIST_TIER(t, d, p))->count, ops);
			assert_int_equal(hist_sum(g, HIST_TIER(t, d, PART_TOTAL)),
					 hist_sum(g, HIST_TIER(t, d, PART_DEVICE)) +
						 hist_sum(g, HIST_TIER(t, d, PART_HOST)));
			check_hist(g, HIST_TIER(t, d, PART_TOTAL), may_be_zero);
			check_hist(g, HIST_TIER(t, d, PART_DEVICE), may_be_zero);
		}
	}
	check_hist(g, HIST_PREFILL, may_be_zero);
	check_hist(g, HIST_DECODE, may_be_zero);
}

static void check_requests(const struct rig *g)
{
	uint64_t completed = counter(g, COUNT_REQUESTS_COMPLETED);
	assert_int_equal(metrics_qos_total(g->m, QOS_COMPLETED), completed);
	static const enum metric_hist each[] = {HIST_RESPONSE, HIST_QUEUE_WAIT, HIST_SERVICE,
						HIST_REQUEST_STORAGE, HIST_GENERATION};
	for (size_t i = 0; i < ARRAY_LEN(each); i++)
		assert_int_equal(hist(g, each[i])->count, completed);
	assert_int_equal(hist_sum(g, HIST_QUEUE_WAIT) + hist_sum(g, HIST_SERVICE),
			 hist_sum(g, HIST_RESPONSE));
	uint64_t by_level = 0;
	for (int q = 0; q < QOS_COUNT; q++) {
		assert_int_equal(hist(g, HIST_QOS(q))->count,
				 counter(g, COUNT_QOS(q, QOS_COMPLETED)));
		assert_true(counter(g, COUNT_QOS(q, QOS_VIOLATIONS)) <=
			    counter(g, COUNT_QOS(q, QOS_COMPLETED)));
		by_level += hist_sum(g, HIST_QOS(q));
	}
	assert_int_equal(by_level, hist_sum(g, HIST_RESPONSE));
}

/* Nobody is lost: who arrived was admitted or waits; who was admitted completed or was cut off. */
static void check_conservation(const struct rig *g)
{
	const struct admission *a = &g->runner->admission;
	for (int q = 0; q < QOS_COUNT && g->outcome.window_ns; q++)
		assert_int_equal(a->due_before[q] +
					 counter(g, COUNT_QOS(q, QOS_OFFERED)),
				 a->admitted[q] + counter(g, COUNT_QOS(q, QOS_QUEUED_AT_END)));
	/* An end in real time may be set while others are a moment ahead of it. */
	if (g->setup.warmup_ns || (g->outcome.is_interrupted && !g->setup.is_virtual))
		return;
	for (int q = 0; q < QOS_COUNT; q++) {
		uint64_t admitted = counter(g, COUNT_QOS(q, QOS_ADMITTED));
		assert_int_equal(admitted, a->admitted[q]);
		assert_int_equal(admitted, counter(g, COUNT_QOS(q, QOS_COMPLETED)) +
						   counter(g, COUNT_QOS(q, QOS_FAILED)) +
						   counter(g, COUNT_QOS(q, QOS_CANCELLED)));
	}
}

static void check_cache_counters(const struct rig *g)
{
	assert_int_equal(counter(g, COUNT_CACHE_HITS), counter(g, COUNT_HITS_SYSTEM) +
							       counter(g, COUNT_HITS_MULTI_TURN) +
							       counter(g, COUNT_HITS_USER));
	assert_int_equal(counter(g, COUNT_HITS_MULTI_TURN), counter(g, COUNT_MULTI_TURN_HITS));
	assert_true(counter(g, COUNT_MISSES_IN_FLIGHT) <= counter(g, COUNT_CACHE_MISSES));
	uint64_t ops[DIRECTIONS] = {0};
	for (int t = 0; t < TIER_CLASSES; t++)
		for (int d = 0; d < DIRECTIONS; d++)
			ops[d] += counter(g, COUNT_TIER_OPS(t, d));
	assert_int_equal(counter(g, COUNT_READ_OPS), ops[DIR_READ]);
	assert_int_equal(counter(g, COUNT_WRITE_OPS), ops[DIR_WRITE]);
	assert_int_equal(counter(g, COUNT_EVICTIONS),
			 hist(g, HIST_DEMOTE)->count + hist(g, HIST_DELETE)->count);
	const char *why = "";
	if (cache_check(g->cache, &why))
		fail_msg("cache: %s", why);
}

static void check_fakes(const struct rig *g)
{
	for (unsigned i = 0; i < g->tier_count; i++) {
		if (g->tier[i]->ops != &fake_ops)
			continue;
		const struct fake_tier *f = fake_of(g->tier[i]);
		if (f->wrong[0])
			fail_msg("%s", f->wrong);
		if (fake_is_whole(f))
			continue;
		assert_int_equal(f->ops, 0);
		assert_int_equal(f->writing, 0);
		assert_int_equal(f->dirty, 0);
		assert_true(f->live >= cache_usage(g->cache, i).entries);
	}
}

static void check_run(struct rig *g)
{
	/* Null tiers on a virtual clock are the one place where no time passes. */
	bool may_be_zero = false;
	for (unsigned i = 0; i < g->tier_count; i++)
		may_be_zero |= g->setup.is_virtual && strcmp(g->tier[i]->ops->kind, "model") != 0;
	check_parts(g, may_be_zero);
	check_requests(g);
	check_conservation(g);
	check_cache_counters(g);
	check_fakes(g);
}

/* After a trace that was served to its end: everything is back where it came from. */
static void check_pools_full(const struct rig *g)
{
	for (uint32_t i = 0; i < g->runner->worker_count; i++) {
		struct worker *w = &g->runner->workers[i];
		uint32_t chunks = 0, tasks = 0, transfers = 0;
		list_for_each (node, &w->chunks_free)
			chunks++;
		list_for_each (node, &w->chunks_noise)
			chunks++;
		assert_int_equal(w->chunks_busy, 0);
		assert_int_equal(w->chunks_copying, 0);
		list_for_each (node, &w->tasks_free)
			tasks++;
		list_for_each (node, &w->transfers_free)
			transfers++;
		assert_int_equal(chunks, w->chunk_count);
		assert_int_equal(tasks, w->task_count);
		assert_int_equal(transfers, w->transfer_count);
		assert_int_equal(w->transfers_free_count, w->transfer_count);
		assert_int_equal(w->ops_active, 0);
		assert_int_equal(w->room_active, 0);
		assert_int_equal(w->dirty_bytes, 0);
		assert_int_equal(w->tasks_busy, 0);
		assert_true(list_empty(&w->hungry) && list_empty(&w->planning) &&
			    list_empty(&w->active));
	}
	assert_int_equal(g->runner->permits.free, g->cfg.opt.max_concurrent_allocs);
	assert_int_equal(g->runner->admission.in_service, 0);
}

/* ---- a known device is recovered ---- */

#define MODEL_7_5 "--model-tier storage:read_gbps=7,write_gbps=5,latency_us=80 "

static double busy_share(const struct rig *g)
{
	double s = (double)g->outcome.window_ns / 1e9;
	return (double)counter(g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_READ)) / s / 7e9 +
	       (double)counter(g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_WRITE)) / s / 5e9;
}

static void test_saturated_model_gives_its_bandwidth(void **state)
{
	(void)state;
	static const struct {
		const char *options, *yaml;
		double reads_per_write_min;
	} cases[] = {
		{"--num-users 100 --duration 30 --warmup 10", NULL, 1},
		{"--num-users 100 --duration 30 --warmup 10", "workload:\n  arrival: closed\n", 1},
		{"--num-users 600 --duration 7 --warmup 3 --request-parallel 1 --ops-in-flight 3",
		 NULL, 0},
		/* write-only */
		{"--num-users 50 --duration 30 --warmup 1 --disable-multi-turn",
		 "workload:\n  prefill_only_tokens: 1\n", 0},
		/* read-mostly: decodes of 8000 tokens */
		{"--num-users 50 --duration 60 --warmup 20 --disable-multi-turn",
		 "workload:\n" FIXED_DRAWS FIXED_USERS(200, 8000, 0.2), 50},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct rig g = {0};
		char options[256];
		snprintf(options, sizeof(options),
			 "--simulate --generation-mode none " MODEL_7_5 "%s", cases[i].options);
		rig_new(&g, options, cases[i].yaml);
		rig_model(&g, TIER_STORAGE, 4096 * GIB);
		rig_run(&g);
		double busy = busy_share(&g);
		if (busy < 0.999 || busy > 1.0 + 1e-9)
			fail_msg("case %zu: %.9f of the device's time is accounted for", i, busy);
		assert_true((double)counter(&g, COUNT_READ_OPS) >=
			    cases[i].reads_per_write_min * (double)counter(&g, COUNT_WRITE_OPS));
		assert_true(counter(&g, COUNT_WRITE_OPS) > 0);
		rig_release(&g);
	}
}

/* 1000 tokens are 131,072,000 bytes; a seventh of that in ns, rounded up, and the latency. */
static const uint64_t entry_ns[DIRECTIONS] = {
	[DIR_READ] = 18724572 + 80000, [DIR_WRITE] = 26214400 + 80000};

static void known_device_run(struct rig *g, const char *options)
{
	char all[256];
	snprintf(
		all, sizeof(all),
		"--simulate --duration 100 --generation-mode none --disable-multi-turn --disable-prefix-caching " MODEL_7_5
		"%s",
		options);
	rig_new(g, all, "workload:\n  arrival: closed\n" FIXED_DRAWS FIXED_USERS(1000, 64, 0.5));
	rig_model(g, TIER_STORAGE, 4096 * GIB);
	rig_run(g);
	for (int d = 0; d < DIRECTIONS; d++) {
		const struct hist *device = hist(g, HIST_TIER(TIER_STORAGE, d, PART_DEVICE));
		assert_true(device->count > 100);
		assert_int_equal(device->min_ns, entry_ns[d]);
		assert_int_equal(device->max_ns, entry_ns[d]);
		double p50 = hist_percentile_ns(device, 50);
		assert_true(p50 > (double)entry_ns[d] * 0.999 && p50 < (double)entry_ns[d] * 1.001);
	}
}

/* One user alone. A request is one write, a probe and 64 / 32 reads, one after the other. */
static void test_idle_model_gives_its_latency(void **state)
{
	struct rig g = {0};
	(void)state;
	known_device_run(&g, "--num-users 1");
	uint64_t service = entry_ns[DIR_WRITE] + 3 * entry_ns[DIR_READ];
	assert_int_equal(hist(&g, HIST_TIER(TIER_STORAGE, DIR_READ, PART_HOST))->max_ns, 0);
	assert_int_equal(hist(&g, HIST_TIER(TIER_STORAGE, DIR_WRITE, PART_HOST))->max_ns, 0);
	assert_int_equal(hist(&g, HIST_QUEUE_WAIT)->max_ns, 0);
	assert_int_equal(hist(&g, HIST_SERVICE)->min_ns, service);
	assert_int_equal(hist(&g, HIST_SERVICE)->max_ns, service);
	assert_int_equal(hist(&g, HIST_REQUEST_STORAGE)->max_ns, service);
	assert_int_equal(hist(&g, HIST_DECODE)->max_ns, 3 * entry_ns[DIR_READ]);
	assert_int_equal(hist(&g, HIST_PREFILL)->max_ns, entry_ns[DIR_WRITE]);
	/* The n-th one ends after n think times and n services. */
	assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED),
			 100 * NS_PER_S / (500000000 + service));
	rig_release(&g);
}

/* Many users and one operation at a time: the device is as fast as ever, the waiting is the host's. */
static void test_waiting_for_a_slot_is_the_hosts(void **state)
{
	struct rig g = {0};
	(void)state;
	known_device_run(&g, "--num-users 20 --ops-in-flight 1");
	assert_true(hist(&g, HIST_TIER(TIER_STORAGE, DIR_READ, PART_HOST))->max_ns >
		    entry_ns[DIR_READ]);
	assert_true(hist(&g, HIST_TIER(TIER_STORAGE, DIR_WRITE, PART_HOST))->max_ns >
		    entry_ns[DIR_READ]);
	rig_release(&g);
}

/* ---- the window's two edges ---- */

/* One byte per ns; entries of 131,072,000 bytes; a request each 0.1 s after the last one's end (closed) or begin (open). */
#define EDGE_OPTIONS                                                                              \
 "--simulate --num-users 1 --generation-mode none --disable-multi-turn --disable-prefix-caching " \
 "--model-tier storage:read_gbps=1,write_gbps=1,latency_us="
#define EDGE_YAML(arrival)        \
 "workload:\n  arrival: " arrival \
 "\n  prefill_only_tokens: 1\n" FIXED_DRAWS FIXED_USERS(1000, 1, 0.1)

static void check_edges(const char *options, const char *yaml, uint64_t begin_ns, uint64_t end_ns,
			uint64_t bytes, uint64_t completed)
{
	struct rig g = {0};
	rig_new(&g, options, yaml);
	rig_model(&g, TIER_STORAGE, 4096 * GIB);
	g.setup.warmup_ns = begin_ns;
	g.setup.duration_ns = end_ns - begin_ns;
	rig_run(&g);
	assert_int_equal(g.outcome.window_ns, end_ns - begin_ns);
	assert_int_equal(counter(&g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_WRITE)), bytes);
	assert_int_equal(counter(&g, COUNT_WRITE_OPS), completed);
	assert_int_equal(counter(&g, COUNT_WRITE_BYTES), completed * 131072000);
	assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED), completed);
	rig_release(&g);
}

static void test_bytes_are_shared_at_the_edges(void **state)
{
	(void)state;
	/* Closed: 0.100 - 0.231072, 0.331072 - 0.462144, 0.562144 - 0.693216 */
	const char *closed = EDGE_YAML("closed");
	check_edges(EDGE_OPTIONS "0", closed, 150000000, 450000000, 81072000 + 118928000, 1);
	check_edges(EDGE_OPTIONS "0", closed, 0, 450000000, 131072000 + 118928000, 1);
	check_edges(EDGE_OPTIONS "0", closed, 150000000, 600000000, 81072000 + 131072000 + 37856000,
		    2);
	check_edges(EDGE_OPTIONS "0", closed, 120000000, 130000000, 10000000,
		    0);                                                    /* inside one transfer */
	check_edges(EDGE_OPTIONS "0", closed, 240000000, 330000000, 0, 0); /* between two */
	/* 10 ms of latency: the window ends after the bytes went, before the write is done */
	check_edges(EDGE_OPTIONS "10000", closed, 150000000, 235000000, 81072000, 0);
	/* and begins between them: a write is completed whose bytes were before */
	check_edges(EDGE_OPTIONS "10000", closed, 235000000, 300000000, 0, 1);
	/* Open: arrivals at 0.1, 0.2, 0.3 ...; the device is busy from 0.1 on. The one in service runs alone (one user). */
	const char *open = EDGE_YAML("open");
	check_edges(EDGE_OPTIONS "0", open, 150000000, 450000000, 300000000, 2);
	/* Arrivals at 0.1 .. 0.4 are offered before 0.45, two of them before 0.25. */
	struct rig g = {0};
	rig_new(&g, EDGE_OPTIONS "0", open);
	rig_model(&g, TIER_STORAGE, 4096 * GIB);
	g.setup.warmup_ns = 250000000;
	g.setup.duration_ns = 200000000;
	rig_run(&g);
	assert_int_equal(metrics_qos_total(g.m, QOS_OFFERED), 2);
	assert_int_equal(metrics_qos_total(g.m, QOS_ADMITTED), 1);      /* at 0.362144 */
	assert_int_equal(metrics_qos_total(g.m, QOS_COMPLETED), 1);     /* at 0.362144 */
	assert_int_equal(metrics_qos_total(g.m, QOS_CANCELLED), 1);     /* would have ended at 0.493216 */
	assert_int_equal(metrics_qos_total(g.m, QOS_QUEUED_AT_END), 1); /* of 0.4 */
	assert_int_equal(hist(&g, HIST_RESPONSE)->max_ns, 162144000);
	assert_int_equal(hist(&g, HIST_QUEUE_WAIT)->max_ns, 31072000);
	rig_release(&g);
}

#define EDGE_FILES \
 "--simulate --num-users 1 --generation-mode none --disable-multi-turn --disable-prefix-caching --io-size 16MiB "

/*
 * A tier of files, where each operation takes 10 ms, one chunk at a time: created at 0.11, eight chunks of 16 MiB, the last one shorter,
 * at 0.12 - 0.19, committed at 0.2. A chunk counts where it completes, or with the sync or commit after it where bytes count only then.
 */
static void check_chunks_at_edges(unsigned caps, uint64_t begin_ms, uint64_t end_ms, uint64_t bytes, uint64_t completed)
{
	struct rig g = {0};
	rig_new(&g, EDGE_FILES "--io-depth 1", EDGE_YAML("closed"));
	rig_fake(&g, TIER_STORAGE, caps, 4096 * GIB)->delay_ns = 10000000;
	g.setup.warmup_ns = begin_ms * 1000000;
	g.setup.duration_ns = (end_ms - begin_ms) * 1000000;
	rig_run(&g);
	assert_int_equal(counter(&g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_WRITE)), bytes);
	assert_int_equal(counter(&g, COUNT_WRITE_OPS), completed);
	assert_int_equal(counter(&g, COUNT_WRITE_BYTES), completed * 131072000);
	rig_release(&g);
}

static void test_chunks_at_the_edges(void **state)
{
	(void)state;
	check_chunks_at_edges(0, 0, 205, 131072000, 1);
	check_chunks_at_edges(0, 0, 155, 4 * 16 * MIB, 0);
	check_chunks_at_edges(0, 125, 155, 3 * 16 * MIB, 0);
	check_chunks_at_edges(0, 120, 150, 3 * 16 * MIB, 0); /* at its first moment, not at its last */
	check_chunks_at_edges(0, 195, 205, 0, 1);	     /* a write is completed whose bytes were before */
	/* 64 MiB may be dirty: synced at 0.16, the others committed at 0.21 */
	check_chunks_at_edges(TIER_CAP_COMMIT_COUNTS, 125, 160, 0, 0);
	check_chunks_at_edges(TIER_CAP_COMMIT_COUNTS, 125, 205, 4 * 16 * MIB, 0);
	check_chunks_at_edges(TIER_CAP_COMMIT_COUNTS, 160, 210, 4 * 16 * MIB, 0);
	check_chunks_at_edges(TIER_CAP_COMMIT_COUNTS, 165, 215, 131072000 - 4 * 16 * MIB, 1);
	check_chunks_at_edges(TIER_CAP_COMMIT_COUNTS, 215, 305, 0, 0);
}

/* What fails after the window, in what the window's end cut off, is one error of the transfer; so is an abort that fails then. */
static void test_errors_after_the_window(void **state)
{
	static const struct {
		enum tier_op_kind kind;
		const char *class;
	} cases[] = {{TIER_WRITE, "storage write: EIO"}, {TIER_ABORT, "storage abort: EIO"}};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct rig g = {0};
		rig_new(&g, EDGE_FILES "--io-depth 4", EDGE_YAML("closed"));
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, 0, 4096 * GIB);
		f->delay_ns = 10000000;
		f->fail_ppm[cases[i].kind] = PPM;
		/* created, and four chunks are on their way */
		g.setup.duration_ns = 115000000;
		rig_run(&g);
		assert_int_equal(g.errors.total, 1);
		assert_string_equal(g.errors.v[0].name, cases[i].class);
		assert_int_equal(f->failed[cases[i].kind], cases[i].kind == TIER_WRITE ? 4 : 1);
		rig_release(&g);
	}
}

/* A whole entry counts as it goes, slot by slot, while nobody knows that it will fail: then nothing of it has moved. */
static void test_whole_entries_that_fail(void **state)
{
	(void)state;
	for (uint32_t fail_ppm = 0; fail_ppm <= PPM; fail_ppm += PPM) {
		struct rig g = {0};
		rig_new(&g, EDGE_FILES "--io-depth 1", EDGE_YAML("closed"));
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, 4096 * GIB);
		f->delay_ns = 3 * NS_PER_S;
		f->fail_ppm[TIER_WRITE] = fail_ppm;
		g.setup.duration_ns = 3150000000; /* one write, from 0.1 s to 3.1 s */
		rig_run(&g);
		assert_int_equal(g.errors.total, fail_ppm ? 1 : 0);
		assert_int_equal(counter(&g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_WRITE)), fail_ppm ? 0 : 131072000);
		rig_release(&g);
	}
}

/* The window ends with the request that fills --max-requests; others that end at the same instant are cut off. */
static void test_max_requests(void **state)
{
	struct rig g = {0};
	(void)state;
	rig_new(&g,
		"--simulate --num-users 20 --duration 60 --max-requests 37 --generation-mode none " MODEL_7_5,
		NULL);
	rig_model(&g, TIER_STORAGE, 4096 * GIB);
	rig_run(&g);
	assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED), 37);
	assert_true(g.outcome.window_ns < 60 * NS_PER_S);
	assert_false(g.outcome.is_interrupted);
	rig_release(&g);

	/* All users at once, in no time: 37 of the 40 that end at 0.1 s. */
	rig_new(&g,
		"--simulate --num-users 40 --duration 60 --max-requests 37 --generation-mode none",
		"workload:\n" FIXED_DRAWS FIXED_USERS(1000, 64, 0.1));
	rig_null(&g);
	rig_run(&g);
	assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED), 37);
	assert_int_equal(g.outcome.window_ns, 100000000);
	rig_release(&g);
}

/* ---- a request's steps ---- */

struct expected {
	uint64_t requests, prefix_hits, prefix_misses, turn_hits, writes, prefix_writes,
		decode_reads;
	uint64_t tokens, write_bytes, read_bytes;
	uint32_t events;
	struct fake_event event[FAKE_LOG];
};

static void expect_event(struct expected *e, enum tier_op_kind kind, uint64_t key)
{
	assert_true(e->events < FAKE_LOG);
	e->event[e->events++] = (struct fake_event){.kind = kind, .key = key};
}

static void expect_prefix(struct expected *e, const struct rig *g, const struct request *r,
			  bool *has_prefix)
{
	if (r->prefix < 0)
		return;
	const struct config_workload *w = &g->cfg.workload;
	uint64_t bytes = config_entry_bytes(&g->cfg, w->prefix_words[r->prefix]);
	if (has_prefix[r->prefix]) {
		e->prefix_hits++;
		e->read_bytes += bytes;
		expect_event(e, TIER_READ, key_prefix((uint32_t)r->prefix));
		return;
	}
	e->prefix_misses++;
	if (!w->prefix_written)
		return;
	has_prefix[r->prefix] = true;
	e->prefix_writes++;
	e->write_bytes += bytes;
	expect_event(e, TIER_WRITE, key_prefix((uint32_t)r->prefix));
}

/* Engine spec 5.5, as one user alone meets it when nothing takes time and nothing is evicted. */
static void expect_request(struct expected *e, const struct rig *g, const struct request *r,
			   bool *has_prefix, uint64_t *turn_bytes)
{
	const struct config_workload *w = &g->cfg.workload;
	uint64_t own = r->turn ? key_turn(r->user, r->conversation, r->turn)
			       : key_request(r->user, r->sequence);
	uint64_t bytes = config_entry_bytes(&g->cfg, r->context_tokens);
	expect_prefix(e, g, r, has_prefix);
	for (uint32_t turn = 1; turn < r->turn; turn++) {
		if (w->multi_turn_last_only && turn + 1 < r->turn)
			continue;
		e->turn_hits++;
		e->read_bytes += turn_bytes[turn];
		expect_event(e, TIER_READ, key_turn(r->user, r->conversation, turn));
	}
	turn_bytes[r->turn] = bytes;
	e->writes++;
	e->write_bytes += bytes;
	expect_event(e, TIER_WRITE, own);
	uint32_t reads = 0;
	if (r->phase == PHASE_BOTH)
		reads = w->decode_single_read ? 1 : 1 + (r->generated_tokens + 31) / 32;
	for (uint32_t i = 0; i < reads; i++)
		expect_event(e, TIER_READ, own);
	e->decode_reads += reads;
	e->read_bytes += reads * bytes;
	e->requests++;
	e->tokens += r->generated_tokens;
}

static void expect_user(struct expected *e, const struct rig *g, uint32_t user, bool *has_prefix)
{
	struct workload_cursor cursor = {0};
	struct request r = {0};
	uint64_t turn_bytes[64] = {0}; /* a conversation has at most 50 turns */
	while (!workload_next(g->workload, user, &cursor, &r) &&
	       cursor.gap_sum_ns < g->setup.duration_ns)
		expect_request(e, g, &r, has_prefix, turn_bytes);
}

static void assert_expected(const struct rig *g, const struct expected *e)
{
	assert_true(e->requests > 20);
	assert_int_equal(counter(g, COUNT_REQUESTS_COMPLETED), e->requests);
	assert_int_equal(counter(g, COUNT_TOKENS_GENERATED), e->tokens);
	assert_int_equal(counter(g, COUNT_PREFIX_HITS), e->prefix_hits);
	assert_int_equal(counter(g, COUNT_PREFIX_MISSES), e->prefix_misses);
	assert_int_equal(counter(g, COUNT_MULTI_TURN_HITS), e->turn_hits);
	assert_int_equal(counter(g, COUNT_MULTI_TURN_MISSES), 0);
	assert_int_equal(counter(g, COUNT_PREFILL_WRITES), e->writes + e->prefix_writes);
	assert_int_equal(counter(g, COUNT_DECODE_READS), e->decode_reads);
	assert_int_equal(counter(g, COUNT_CACHE_HITS),
			 e->prefix_hits + e->turn_hits + e->decode_reads);
	assert_int_equal(counter(g, COUNT_CACHE_MISSES), e->prefix_misses);
	assert_int_equal(counter(g, COUNT_WRITE_BYTES), e->write_bytes);
	assert_int_equal(counter(g, COUNT_READ_BYTES), e->read_bytes);
	/* Nothing is demoted, nothing is cut off: what was asked for is what moved. */
	assert_int_equal(metrics_tier_bytes(g->m, DIR_WRITE), e->write_bytes);
	assert_int_equal(metrics_tier_bytes(g->m, DIR_READ), e->read_bytes);
	assert_int_equal(metrics_qos_total(g->m, QOS_CANCELLED), 0);
	assert_int_equal(metrics_qos_total(g->m, QOS_OFFERED), e->requests);
}

static const struct {
	const char *options, *yaml;
} step_cases[] = {
	{"", NULL},
	{"--tensor-parallel 4 --num-gpus 4 --model mistral-7b", NULL},
	{"--request-parallel 1", "workload:\n  prefix_written: true\n"},
	{"", "workload:\n  decode_single_read: true\n"},
	{"", "workload:\n  multi_turn_last_only: true\n"},
	{"", "workload:\n  prefill_only_tokens: 1\n"},
	{"",
	 "workload:\n  prefill_only_tokens: 3000\n  prefix_written: true\nprefix_cache:\n  system_prompt_hit_probability: 1\n"},
	{"--disable-multi-turn", NULL},
	{"--disable-prefix-caching", NULL},
	{"--disable-prefix-caching --disable-multi-turn", "workload:\n  arrival: closed\n"},
};

static struct expected *expected_new(void)
{
	struct expected *e = calloc(1, sizeof(*e));
	assert_non_null(e);
	return e;
}

/* Several users and a tier that takes no time: every count follows from the streams alone. */
static void test_counts_follow_from_the_workload(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(step_cases); i++) {
		struct rig g = {0};
		struct expected *e = expected_new();
		bool has_prefix[CONFIG_PREFIXES_MAX] = {0};
		char options[256];
		snprintf(options, sizeof(options),
			 "--simulate --num-users 12 --duration 4 --generation-mode none %s",
			 step_cases[i].options);
		rig_new(&g, options, step_cases[i].yaml);
		rig_null(&g);
		rig_run(&g);
		for (uint32_t user = 0; user < 12; user++)
			expect_user(e, &g, user, has_prefix);
		assert_expected(&g, e);
		free(e);
		rig_release(&g);
	}
}

/* One user: also the order in which entries are asked for. */
static void test_order_of_steps(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(step_cases); i++) {
		struct rig g = {0};
		struct expected *e = expected_new();
		bool has_prefix[CONFIG_PREFIXES_MAX] = {0};
		char options[256];
		snprintf(options, sizeof(options),
			 "--simulate --num-users 1 --duration 60 --generation-mode none %s",
			 step_cases[i].options);
		rig_new(&g, options, step_cases[i].yaml);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, 1024 * GIB);
		f->logs = true;
		rig_run(&g);
		expect_user(e, &g, 0, has_prefix);
		assert_expected(&g, e);
		assert_int_equal(f->event_count, e->events);
		for (uint32_t n = 0; n < e->events; n++) {
			assert_int_equal(f->event[n].kind, e->event[n].kind);
			assert_int_equal(f->event[n].key, e->event[n].key);
		}
		free(e);
		rig_release(&g);
	}
}

/* Token generation keeps the request in service and costs the storage nothing. */
static void test_generation_takes_its_time(void **state)
{
	struct rig g = {0};
	(void)state;
	rig_new(&g,
		"--simulate --num-users 3 --duration 10 --generation-mode fast --disable-multi-turn",
		"workload:\n" FIXED_DRAWS FIXED_USERS(1000, 50, 1.0));
	rig_null(&g);
	rig_run(&g);
	assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED), 27);
	assert_int_equal(hist(&g, HIST_GENERATION)->min_ns, 100000000);
	assert_int_equal(hist(&g, HIST_SERVICE)->min_ns, 100000000);
	assert_int_equal(hist(&g, HIST_SERVICE)->max_ns, 100000000);
	assert_int_equal(hist(&g, HIST_REQUEST_STORAGE)->max_ns, 0);
	rig_release(&g);
}

/* Samples are what the histograms hold, one by one. */
static void test_raw_samples(void **state)
{
	struct rig g = {0};
	(void)state;
	rig_new(&g,
		"--simulate --num-users 5 --duration 10 --generation-mode none --raw-samples " MODEL_7_5,
		NULL);
	rig_model(&g, TIER_STORAGE, 4096 * GIB);
	rig_run(&g);
	static const struct {
		enum metric_raw raw;
		enum metric_hist hist;
	} lists[] = {
		{RAW_RESPONSE, HIST_RESPONSE},     {RAW_STORAGE, HIST_REQUEST_STORAGE},
		{RAW_GENERATION, HIST_GENERATION}, {RAW_PREFILL, HIST_PREFILL},
		{RAW_DECODE, HIST_DECODE},
	};
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		const struct metric_samples *s = &g.m->raw[lists[i].raw];
		uint64_t sum = 0;
		for (size_t n = 0; n < s->count; n++)
			sum += s->ns[n];
		assert_int_equal(s->count, hist(&g, lists[i].hist)->count);
		assert_int_equal(sum, hist_sum(&g, lists[i].hist));
		assert_true(s->count > 0);
	}
	rig_release(&g);
}

/* ---- who is served next ---- */

enum { QUEUE_USERS = 12 };

struct queue {
	const struct rig *g;
	uint64_t arrival_ns[QUEUE_USERS], sequence[QUEUE_USERS];
};

/* The user that must be served at @now: written down from the rules, without the runner's heaps. */
static int queue_pick(const struct queue *q, uint64_t now_ns)
{
	const struct config_workload *w = &q->g->cfg.workload;
	int head[QOS_COUNT] = {-1, -1, -1}, best = -1;
	for (int u = 0; u < QUEUE_USERS; u++) {
		int level = (int)workload_qos(q->g->workload, (uint32_t)u);
		if (q->arrival_ns[u] <= now_ns &&
		    (head[level] < 0 || q->arrival_ns[u] < q->arrival_ns[head[level]]))
			head[level] = u;
	}
	double best_rank = -1;
	for (int level = 0; level < QOS_COUNT; level++) {
		if (head[level] < 0)
			continue;
		double rank = w->qos[level].priority;
		if (w->priority_aging)
			rank = (double)(now_ns - q->arrival_ns[head[level]]) / 1e6 /
			       w->qos[level].target_p95_ms;
		if (rank > best_rank) {
			best_rank = rank;
			best = head[level];
		}
	}
	return best;
}

/* One server that takes 50 ms: simulate it and compare each service's time and owner. Return: requests compared. */
static unsigned check_queue(const struct rig *g, const struct fake_tier *f, uint64_t service_ns)
{
	struct queue q = {.g = g};
	uint64_t now = 0;
	unsigned n = 0;
	for (uint32_t u = 0; u < QUEUE_USERS; u++)
		q.arrival_ns[u] = workload_gap_ns(g->workload, u, 0);
	for (; n < f->event_count; n++) {
		int u = queue_pick(&q, now);
		if (u < 0) {
			now = UINT64_MAX;
			for (int i = 0; i < QUEUE_USERS; i++)
				now = MIN(now, q.arrival_ns[i]);
			u = queue_pick(&q, now);
		}
		assert_int_equal(f->event[n].at_ns, now);
		assert_int_equal(f->event[n].key, key_request((uint32_t)u, q.sequence[u]));
		q.sequence[u]++;
		q.arrival_ns[u] += workload_gap_ns(g->workload, (uint32_t)u, q.sequence[u]);
		now += service_ns;
	}
	return n;
}

#define QUEUE_YAML(more)                      \
 "workload:\n  prefill_only_tokens: 1\n" more \
 "qos_distribution:\n  interactive_probability: 0.3\n  responsive_threshold: 0.6\n"

static void test_priority_and_order_of_arrival(void **state)
{
	(void)state;
	static const char *const yaml[] = {QUEUE_YAML(""), QUEUE_YAML("  priority_aging: true\n")};
	static const uint64_t service_ns[] = {50000000,
					      25000000}; /* too slow for all; hardly fast enough */
	uint64_t batch[2] = {0};
	for (size_t i = 0; i < 4; i++) {
		struct rig g = {0};
		rig_new(&g,
			"--simulate --num-users 12 --duration 20 --generation-mode none --disable-multi-turn "
			"--disable-prefix-caching",
			yaml[i % 2]);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, 1024 * GIB);
		f->logs = true;
		f->delay_ns = service_ns[i / 2];
		g.setup.in_service_max = 1;
		rig_run(&g);
		assert_true(check_queue(&g, f, f->delay_ns) > 300);
		for (int q = 0; q < QOS_COUNT; q++)
			assert_true(counter(&g, COUNT_QOS(q, QOS_OFFERED)) > 0);
		if (i < 2)
			batch[i] = counter(&g, COUNT_QOS(QOS_BATCH, QOS_COMPLETED));
		rig_release(&g);
	}
	assert_true(batch[0] < batch[1]); /* strict priority starves, age over target does not */
}

/* Closed loop: the next request comes a think time after the completion. */
static void test_closed_loop(void **state)
{
	struct rig g = {0};
	uint64_t next_ns[5], sequence[5] = {0};
	(void)state;
	rig_new(&g,
		"--simulate --num-users 5 --duration 30 --generation-mode none --disable-multi-turn "
		"--disable-prefix-caching",
		"workload:\n  arrival: closed\n  prefill_only_tokens: 1\n");
	struct fake_tier *f = rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, 1024 * GIB);
	f->logs = true;
	f->delay_ns = 70000000;
	rig_run(&g);
	for (uint32_t u = 0; u < 5; u++)
		next_ns[u] = workload_gap_ns(g.workload, u, 0);
	assert_true(f->event_count > 100);
	for (uint32_t n = 0; n < f->event_count; n++) {
		uint32_t u = 0;
		while (u < 5 && f->event[n].key != key_request(u, sequence[u]))
			u++;
		assert_true(u < 5);
		assert_int_equal(f->event[n].at_ns, next_ns[u]);
		next_ns[u] += f->delay_ns + workload_gap_ns(g.workload, u, ++sequence[u]);
	}
	for (uint32_t u = 0; u < 5; u++)
		assert_true(next_ns[u] >= 30 * NS_PER_S); /* none is missing */
	assert_int_equal(hist(&g, HIST_QUEUE_WAIT)->max_ns, 0);
	rig_release(&g);
}

/* ---- traces ---- */

enum { BLOCK_TOKENS = 512, TRACE_BLOCKS_MAX = 24 };

struct trace_row {
	uint64_t ms;
	uint32_t input, output, count;
	uint64_t block[TRACE_BLOCKS_MAX];
};

static void trace_put(FILE *f, const struct trace_row *row)
{
	fprintf(f,
		"{\"timestamp\": %llu, \"input_length\": %u, \"output_length\": %u, \"hash_ids\": [",
		(unsigned long long)row->ms, row->input, row->output);
	for (uint32_t i = 0; i < row->count; i++)
		fprintf(f, "%s%llu", i ? ", " : "", (unsigned long long)row->block[i]);
	fputs("]}\n", f);
}

static void write_rows(char path[32], const struct trace_row *rows, size_t count)
{
	FILE *f = fdopen(temp_file(path), "w");
	assert_non_null(f);
	for (size_t i = 0; i < count; i++)
		trace_put(f, &rows[i]);
	assert_int_equal(fclose(f), 0);
}

/* Conversations that grow by a few blocks per row and share their first two, some of which come back later. */
static void make_rows(struct trace_row *rows, size_t count)
{
	enum { CONVERSATIONS = 25 };
	struct rng rng = rng_stream(3);
	uint32_t length[CONVERSATIONS] = {0};
	uint64_t version[CONVERSATIONS] = {0};
	for (size_t i = 0; i < count; i++) {
		uint64_t c = rng_below(&rng, CONVERSATIONS);
		length[c] += (uint32_t)rng_range(&rng, 1, 4);
		if (length[c] > TRACE_BLOCKS_MAX) {
			length[c] = (uint32_t)rng_range(&rng, 2, 4);
			version[c]++;
		}
		rows[i] = (struct trace_row){.ms = i * 7, .output = 40, .count = length[c]};
		rows[i].input =
			(length[c] - 1) * BLOCK_TOKENS + (uint32_t)rng_range(&rng, 1, BLOCK_TOKENS);
		for (uint32_t b = 0; b < length[c]; b++)
			rows[i].block[b] =
				b < 2 ? b : (c + CONVERSATIONS * version[c]) * TRACE_BLOCKS_MAX + b;
	}
}

enum { TRACE_ROWS = 300 };

static struct trace_row *rows_new(void)
{
	struct trace_row *rows = calloc(TRACE_ROWS, sizeof(*rows));
	assert_non_null(rows);
	make_rows(rows, TRACE_ROWS);
	return rows;
}

/* Small entries: 512 tokens are 24 KiB, six chunks. */
#define BLOCK_BYTES (UINT64_C(24) << 10)
#define TRACE_OPTIONS \
 "--model tiny-1b --num-gpus 512 --tensor-parallel 512 --generation-mode none --io-size 4KiB --duration 1000 "

static void test_trace_replay(void **state)
{
	enum { IDS = 1 << 16 };
	struct rig g = {0};
	struct trace_row *rows = rows_new();
	bool *has_block = calloc(IDS, 1);
	uint64_t hits = 0, misses = 0, writes = 0;
	(void)state;
	write_rows(g.trace, rows, TRACE_ROWS);
	rig_new(&g, "--simulate " TRACE_OPTIONS, NULL);
	rig_null(&g);
	rig_run(&g);
	for (size_t i = 0; i < TRACE_ROWS; i++) {
		uint32_t hit = 0;
		while (hit < rows[i].count && has_block[rows[i].block[hit]])
			hit++;
		hits += hit;
		misses += rows[i].count - hit;
		for (uint32_t b = hit; b < rows[i].count; b++) {
			writes += !has_block[rows[i].block[b]];
			has_block[rows[i].block[b]] = true;
		}
	}
	assert_true(hits > 1000 && misses > 500);
	assert_int_equal(counter(&g, COUNT_CACHE_HITS), hits);
	assert_int_equal(counter(&g, COUNT_HITS_USER), hits);
	assert_int_equal(counter(&g, COUNT_READ_OPS), hits);
	assert_int_equal(counter(&g, COUNT_CACHE_MISSES), misses);
	assert_int_equal(counter(&g, COUNT_PREFILL_WRITES), writes);
	assert_int_equal(counter(&g, COUNT_RESIDENT_WRITES), misses - writes);
	assert_int_equal(counter(&g, COUNT_DECODE_READS), 0);
	assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED), TRACE_ROWS);
	assert_int_equal(counter(&g, COUNT_TOKENS_GENERATED), TRACE_ROWS * 40);
	/* The run ends with the last row, one level only. */
	assert_int_equal(g.outcome.window_ns, (TRACE_ROWS - 1) * 7 * NS_PER_MS);
	assert_int_equal(counter(&g, COUNT_QOS(QOS_INTERACTIVE, QOS_OFFERED)), TRACE_ROWS);
	check_pools_full(&g);
	free(has_block);
	free(rows);
	rig_release(&g);
}

/* The longest cached prefix ends at the first block that is missing; a resident one behind it is neither read nor written. */
static void test_trace_longest_prefix(void **state)
{
	static const struct trace_row rows[] = {
		{0, 3 * BLOCK_TOKENS, 1, 3, {11, 12, 13}},
		{10, 4 * BLOCK_TOKENS, 1, 4, {11, 12, 99, 13}},
		{20, 100, 1, 1, {13}},
	};
	static const struct fake_event expected[] = {
		{TIER_WRITE, 11}, {TIER_WRITE, 12}, {TIER_WRITE, 13}, {TIER_READ, 11},
		{TIER_READ, 12},  {TIER_WRITE, 99}, {TIER_READ, 13},
	};
	struct rig g = {0};
	(void)state;
	write_rows(g.trace, rows, ARRAY_LEN(rows));
	rig_new(&g, "--simulate " TRACE_OPTIONS, NULL);
	struct fake_tier *f = rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, 1024 * GIB);
	f->logs = true;
	rig_run(&g);
	assert_int_equal(f->event_count, ARRAY_LEN(expected));
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		assert_int_equal(f->event[i].kind, expected[i].kind);
		assert_int_equal(f->event[i].key, key_block(expected[i].key));
	}
	assert_int_equal(counter(&g, COUNT_CACHE_MISSES), 3 + 2);
	assert_int_equal(counter(&g, COUNT_RESIDENT_WRITES), 1);
	rig_release(&g);
}

/* num-users bounds the requests in service; at speed 0 a request arrives when it is taken. */
static void test_trace_in_service_bound(void **state)
{
	struct trace_row *rows = rows_new();
	(void)state;
	for (uint32_t users = 1; users <= 4; users++) {
		struct rig g = {0};
		char options[256];
		write_rows(g.trace, rows, TRACE_ROWS);
		snprintf(options, sizeof(options),
			 "--simulate " TRACE_OPTIONS
			 "--trace-speedup 0 --request-parallel 1 --num-users %u",
			 users);
		rig_new(&g, options, NULL);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, 1024 * GIB);
		f->delay_ns = 1000000;
		rig_run(&g);
		assert_int_equal(f->ops_max, users);
		assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED), TRACE_ROWS);
		assert_int_equal(hist(&g, HIST_QUEUE_WAIT)->max_ns, 0);
		uint64_t ops = counter(&g, COUNT_READ_OPS) + counter(&g, COUNT_WRITE_OPS);
		assert_true(g.outcome.window_ns * users >= ops * f->delay_ns);
		if (users == 1)
			assert_int_equal(g.outcome.window_ns, ops * f->delay_ns);
		/* Everything that was asked for moved, nothing else. */
		assert_int_equal(metrics_tier_bytes(g.m, DIR_READ), counter(&g, COUNT_READ_BYTES));
		assert_int_equal(metrics_tier_bytes(g.m, DIR_WRITE), counter(&g, COUNT_WRITE_BYTES));
		check_pools_full(&g);
		rig_release(&g);
	}
	free(rows);
}

/* One worker's clock was read later than another's: what it found due is not yet due for the other. */
static void test_skewed_clocks(void **state)
{
	(void)state;
	static const char *const yamls[] = {NULL, "workload:\n  priority_aging: true\n"};
	for (size_t i = 0; i < ARRAY_LEN(yamls); i++) {
		struct rig g = {0};
		rig_new(&g, "--num-users 200 --duration 60 --generation-mode none", yamls[i]);
		g.setup.in_service_max = 100;
		struct admission a;
		assert_int_equal(admission_init(&a, &g.setup), 0);
		admission_start(&a, 0, 0);
		struct request r = {0};
		uint64_t arrival, taken = 0;
		assert_true(admission_take(&a, 2 * NS_PER_S, &r, &arrival)); /* all users are due by then */
		for (uint64_t now = 0; now < NS_PER_S; now += NS_PER_MS)
			while (admission_take(&a, now, &r, &arrival)) {
				assert_true(arrival <= now);
				taken++;
			}
		assert_true(taken > 10);
		request_release(&r);
		admission_release(&a);
		rig_release(&g);
	}
}

/* check_run() compares what arrived, was taken, and is left over, whatever the clock and the end. */
static void test_sums_at_every_end(void **state)
{
	(void)state;
	static const struct {
		const char *options, *yaml;
		bool has_trace;
	} cases[] = {
		{"--num-users 20 --duration 100 --max-requests 30 --simulate --generation-mode none", NULL, false},
		{"--num-users 300 --duration 1 --workers 4 --generation-mode none",
		 "workload: {arrival: closed}\nuser_templates: {chatbot: {think_time_range: [0, 0.001]}}\n", false},
		{"--num-users 10 --duration 1 --workers 4 --generation-mode none --trace-speedup 0", NULL, true},
		{"--num-users 20 --duration 20 --warmup 10 --simulate --generation-mode none",
		 "workload: {arrival: closed}\n", false},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct rig g = {0};
		if (cases[i].has_trace)
			write_text(g.trace, "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1, 2]}\n"
					    "{\"timestamp\": 1, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1, 3]}\n");
		rig_new(&g, cases[i].options, cases[i].yaml);
		if (g.setup.is_virtual)
			rig_model(&g, TIER_STORAGE, UINT64_C(1) << 42);
		else
			rig_null(&g);
		rig_run(&g);
		uint64_t offered = 0, admitted = 0;
		for (int q = 0; q < QOS_COUNT; q++) {
			offered += counter(&g, COUNT_QOS(q, QOS_OFFERED));
			admitted += counter(&g, COUNT_QOS(q, QOS_ADMITTED));
		}
		assert_true(admitted > 0);
		assert_true(g.setup.warmup_ns || admitted <= offered);
		rig_release(&g);
	}
}

static struct runner_fill fill_of(uint64_t (*key)(uint64_t), uint64_t count, uint64_t bytes)
{
	return (struct runner_fill){.key = key, .count = count, .payload_bytes = bytes, .parallel = 8};
}

/* Entries that are there before the run. */
static void rig_prepare(struct rig *g, uint64_t count, uint64_t bytes)
{
	struct error err = {0};
	rig_cache(g);
	g->setup.prepared = count;
	assert_int_equal(runner_new(&g->setup, &g->runner, &err), 0);
	struct runner_fill fill = fill_of(key_prepared, count, bytes);
	runner_fill(g->runner, &fill);
	assert_true(runner_wait(g->runner, 100 * NS_PER_S));
	assert_int_equal(runner_filled(g->runner), count);
}

/* Filled entries are there before the clock starts, count nowhere, and are all that a decode-only run touches. */
static void test_decode_only(void **state)
{
	(void)state;
	static const char *const options[] = {
		"--num-users 20 --duration 20 --decode-only --simulate --generation-mode none",
		"--num-users 20 --duration 1 --decode-only --workers 3 --generation-mode none",
	};
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		struct rig g = {0};
		rig_new(&g, options[i], NULL);
		if (g.setup.is_virtual)
			rig_model(&g, TIER_STORAGE, UINT64_C(1) << 42);
		else
			rig_null(&g);
		rig_prepare(&g, 50, 1 << 20);
		assert_int_equal(cache_usage(g.cache, 0).entries, 50);
		runner_start(g.runner);
		rig_end(&g);
		assert_true(counter(&g, COUNT_REQUESTS_COMPLETED) > 0);
		assert_true(counter(&g, COUNT_DECODE_READS) > 0);
		assert_int_equal(counter(&g, COUNT_CACHE_MISSES), 0);
		assert_int_equal(counter(&g, COUNT_WRITE_OPS), 0);
		assert_int_equal(metrics_tier_bytes(g.m, DIR_WRITE), 0);
		assert_int_equal(counter(&g, COUNT_READ_OPS), counter(&g, COUNT_DECODE_READS));
		assert_int_equal(cache_usage(g.cache, 0).entries, 50);
		rig_release(&g);
	}
}

/* Behind a header of 4 KiB, chunks of 64 KiB lie on the grid of the file: written and read, in as few as there can be. */
static void test_chunks_on_the_grid(void **state)
{
	enum { CHUNK = 64 << 10, HEADER = 4096, ENTRIES = 5 };
	static const struct {
		uint64_t entry_bytes, chunks;
	} cases[] = {
		{HEADER, 1}, {CHUNK - HEADER, 1}, {CHUNK, 1}, {CHUNK + 1, 2}, {2 * CHUNK - HEADER, 2}, {2 * CHUNK, 3}, {40 * CHUNK, 41},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct rig g = {0};
		rig_new(&g, "--num-users 4 --duration 2 --decode-only --simulate --generation-mode none --io-size 64KiB", NULL);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, 0, 4 * GIB);
		f->delay_ns = 1000000;
		f->tier.header_bytes = HEADER;
		f->grid_bytes = CHUNK;
		rig_prepare(&g, ENTRIES, cases[i].entry_bytes);
		assert_int_equal(f->done[TIER_WRITE], ENTRIES * cases[i].chunks);
		runner_start(g.runner);
		rig_end(&g);
		assert_true(f->done[TIER_READ] >= counter(&g, COUNT_READ_OPS) * cases[i].chunks && counter(&g, COUNT_READ_OPS));
		assert_string_equal(f->wrong, "");
		rig_release(&g);
	}
}

/* How long the data of entries of one chunk were there before the entry was closed: the longest. At @stop_ns all are closed. */
static uint64_t longest_wait_ns(const struct fake_tier *f, uint64_t stop_ns)
{
	uint64_t longest = 0;
	for (uint32_t i = 0; i < f->event_count && f->event[i].at_ns < stop_ns; i++) {
		const struct fake_event *close = &f->event[i];
		uint64_t there_ns = 0;
		for (uint32_t n = 0; n < i && close->kind == TIER_CLOSE; n++)
			if (f->event[n].kind == TIER_READ && f->event[n].key == close->key && f->event[n].end_ns <= close->at_ns)
				there_ns = MAX(there_ns, f->event[n].end_ns);
		longest = there_ns ? MAX(longest, close->at_ns - there_ns) : longest;
	}
	return longest;
}

/* What a deep queue has read waits a little for its check. All of it is checked, also when the window ends, and a wrong bit is found. */
static void test_checks_that_wait(void **state)
{
	enum { ENTRIES = 8 }; /* few, so that each is read */
	static const struct {
		const char *options;
		uint64_t chunks;
		bool waits;
	} cases[] = {
		{"--io-depth 16", 1, true}, {"--io-depth 16", 40, true}, {"--io-depth 7", 1, false}, {"--io-depth 1", 40, false},
	};
	(void)state;
	for (size_t i = 0; i < 8 * ARRAY_LEN(cases); i++) {
		struct rig g = {0};
		char options[200];
		snprintf(options, sizeof(options),
			 "--num-users 64 --ops-in-flight 64 --decode-only --simulate --generation-mode none --io-size 64KiB %s", cases[i / 8].options);
		rig_new(&g, options, NULL);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, 0, 4 * GIB);
		f->delay_ns = 400000000;
		f->has_random_delay = true;
		rig_prepare(&g, ENTRIES, cases[i / 8].chunks << 16);
		f->logs = cases[i / 8].chunks == 1;
		f->lie_key = i % 2 ? key_prepared(i % ENTRIES) : 0;
		g.runner->setup.duration_ns = 20 * NS_PER_S + i * 777777;
		runner_start(g.runner);
		rig_end(&g);
		uint64_t read = counter(&g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_READ));
		assert_true(read > 0);
		assert_int_equal(f->lies, i % 2);
		assert_int_equal(g.errors.total, f->lies);
		if (!f->lies)
			assert_int_equal(counter(&g, COUNT_VERIFIED_BLOCKS) * PAYLOAD_BLOCK, read);
		if (f->logs) {
			assert_int_equal(longest_wait_ns(f, g.runner->stop_ns), cases[i / 8].waits ? CHUNK_UNCHECKED_MAX_NS : 0);
			/* the latency is the data's: the wait is not in it */
			assert_true(hist(&g, HIST_TIER(TIER_STORAGE, DIR_READ, PART_DEVICE))->max_ns <= f->delay_ns);
		}
		assert_int_equal(g.runner->workers[0].chunks_busy, 0);
		assert_string_equal(f->wrong, "");
		rig_release(&g);
	}
}

static uint64_t deep_read_bytes(const char *verify)
{
	struct rig g = {0};
	char options[200];
	snprintf(options, sizeof(options),
		 "--num-users 64 --ops-in-flight 64 --decode-only --simulate --generation-mode none --io-size 64KiB --io-depth 16 --verify %s", verify);
	rig_new(&g, options, NULL);
	struct fake_tier *f = rig_fake(&g, TIER_STORAGE, 0, 4 * GIB);
	f->delay_ns = 10000000;
	f->has_random_delay = true;
	rig_prepare(&g, 8, 1000 << 16);
	g.runner->setup.duration_ns = 3 * NS_PER_S;
	runner_start(g.runner);
	rig_end(&g);
	uint64_t read = counter(&g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_READ));
	rig_release(&g);
	return read;
}

/* What waits for its check takes nothing from --io-depth: a device that could serve more at once is asked for as much as without checks. */
static void test_depth_beside_checks(void **state)
{
	(void)state;
	uint64_t unchecked = deep_read_bytes("off");
	assert_in_range(deep_read_bytes("stamp"), unchecked / 100 * 97, unchecked / 100 * 103);
}

static int compare_noise(const void *a, const void *b)
{
	const struct fake_noise *x = a, *y = b;
	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Equal noise stands together: how often it was used, and how close in one entry. Return: different pieces. */
static uint32_t check_noise(struct fake_noise *n, uint32_t count)
{
	uint32_t pieces = 0, uses = 0;
	qsort(n, count, sizeof(*n), compare_noise);
	for (uint32_t i = 0; i < count; i++) {
		bool is_new = !i || n[i].hash != n[i - 1].hash;
		uses = is_new ? 1 : uses + 1;
		pieces += is_new;
		assert_true(uses <= NOISE_USES_MAX);
		if (!is_new && n[i].key == n[i - 1].key)
			assert_true(n[i].offset - n[i - 1].offset > RUNNER_NOISE_APART_BYTES);
	}
	return pieces;
}

/* Large entries are written out of noise that was there, small ones never; and never is the same noise twice within a compressor's window. */
static void test_noise_apart(void **state)
{
	(void)state;
	static const struct {
		const char *options;
		uint64_t entry_bytes, chunk_bytes, header_bytes;
		uint32_t least, most; /* different pieces of noise */
	} runs[] = {
		{"--num-users 4 --duration 1 --workers 1 --io-depth 4 --io-size 64KiB", 20 << 20, 64 << 10, 0, 2, 100},
		{"--num-users 8 --duration 1 --workers 2 --io-depth 16 --io-size 256KiB", 20 << 20, 256 << 10, 0, 2, 60},
		{"--num-users 1 --duration 1 --workers 1 --io-depth 1 --io-size 1MiB", 20 << 20, 1 << 20, 0, 2, 3},
		{"--num-users 1 --duration 1 --workers 1 --io-depth 1 --io-size 1MiB", 20 << 20, 1 << 20, 4096, 2, 3},
		{"--num-users 8 --duration 1 --workers 1 --io-depth 4 --io-size 64KiB", 1 << 20, 64 << 10, 0, 128, 128},
		{"--num-users 4 --duration 1 --workers 1 --io-depth 4 --io-size 256KiB --verify full", 20 << 20, 256 << 10, 0, 640, 640},
	};
	for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
		struct rig g = {0};
		rig_new(&g, runs[i].options, NULL);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, 0, 4 * GIB);
		f->noise = calloc(FAKE_NOISE, sizeof(*f->noise));
		assert_non_null(f->noise);
		f->tier.header_bytes = runs[i].header_bytes;
		rig_cache(&g);
		struct error err = {0};
		assert_int_equal(runner_new(&g.setup, &g.runner, &err), 0);
		struct runner_fill fill = fill_of(key_filler, 8, runs[i].entry_bytes);
		runner_fill(g.runner, &fill);
		assert_true(runner_wait(g.runner, 100 * NS_PER_S));
		assert_string_equal(f->wrong, "");
		assert_int_equal(f->noise_count, 8 * (runs[i].entry_bytes / runs[i].chunk_bytes + (runs[i].header_bytes > 0)));
		uint32_t pieces = check_noise(f->noise, f->noise_count);
		assert_in_range(pieces, runs[i].least, runs[i].most);
		free(f->noise);
		f->noise = NULL;
		rig_release(&g);
	}
}

/* A fill that is stopped ends with what is being written, and the runner can be freed. */
static void test_fill_stopped(void **state)
{
	(void)state;
	struct rig g = {0};
	rig_new(&g, "--num-users 20 --duration 1 --workers 2 --generation-mode none", NULL);
	rig_null(&g);
	rig_cache(&g);
	struct error err = {0};
	assert_int_equal(runner_new(&g.setup, &g.runner, &err), 0);
	struct runner_fill fill = fill_of(key_filler, UINT64_C(1) << 40, 1 << 20);
	runner_fill(g.runner, &fill);
	while (!runner_filled(g.runner))
		assert_false(runner_wait(g.runner, NS_PER_MS));
	runner_stop(g.runner);
	assert_true(runner_wait(g.runner, 100 * NS_PER_S));
	assert_true(runner_filled(g.runner) < fill.count);
	g.m = metrics_new();
	assert_non_null(g.m);
	assert_int_equal(runner_collect(g.runner, g.m, &g.outcome), 0);
	assert_int_equal(g.outcome.window_ns, 0);
	assert_true(g.outcome.is_interrupted);
	rig_release(&g);
}

/* Prefill-only: a write each, and nothing is ever looked up. */
static void test_prefill_only(void **state)
{
	(void)state;
	struct rig g = {0};
	rig_new(&g, "--num-users 20 --duration 60 --prefill-only --simulate --generation-mode none", NULL);
	rig_model(&g, TIER_STORAGE, UINT64_C(1) << 42);
	rig_run(&g);
	assert_true(counter(&g, COUNT_REQUESTS_COMPLETED) > 0);
	assert_int_equal(counter(&g, COUNT_CACHE_HITS) + counter(&g, COUNT_CACHE_MISSES), 0);
	assert_int_equal(metrics_tier_bytes(g.m, DIR_READ), 0);
	assert_true(counter(&g, COUNT_PREFILL_WRITES) >= counter(&g, COUNT_REQUESTS_COMPLETED));
	rig_release(&g);
}

/* A device too slow for the trace: latency counts from the intended arrival, and rows that were due are offered. */
static void test_trace_backlog(void **state)
{
	struct trace_row *rows = rows_new();
	static const uint64_t warmup_s[] = {0, 1};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(warmup_s); i++) {
		struct rig g = {0};
		write_rows(g.trace, rows, TRACE_ROWS);
		rig_new(&g,
			"--simulate " TRACE_OPTIONS
			"--num-users 1 --request-parallel 1 --trace-speedup 0.5",
			NULL);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, 1024 * GIB);
		f->delay_ns = 10 * NS_PER_MS;
		g.setup.warmup_ns = warmup_s[i] * NS_PER_S;
		g.setup.duration_ns = 2 * NS_PER_S;
		rig_run(&g);
		/* One row each 14 ms: 0, 14 ... */
		uint64_t begin = g.setup.warmup_ns, end = begin + g.setup.duration_ns;
		uint64_t before = begin ? (begin - 1) / (14 * NS_PER_MS) + 1 : 0;
		uint64_t due = (end - 1) / (14 * NS_PER_MS) + 1;
		assert_int_equal(metrics_qos_total(g.m, QOS_OFFERED), due - before);
		uint64_t admitted = g.runner->admission.admitted[QOS_INTERACTIVE];
		assert_true(admitted < due);
		assert_int_equal(metrics_qos_total(g.m, QOS_QUEUED_AT_END), due - admitted);
		assert_int_equal(g.m->oldest_age_ns[QOS_INTERACTIVE],
				 end - admitted * 14 * NS_PER_MS);
		assert_true(hist(&g, HIST_QUEUE_WAIT)->max_ns > 0);
		rig_release(&g);
	}
	free(rows);
}

/* --request-parallel bounds the entries of one request in flight. */
static void test_request_parallel(void **state)
{
	struct trace_row *rows = rows_new();
	(void)state;
	for (uint32_t parallel = 1; parallel <= 3; parallel++) {
		struct rig g = {0};
		char options[256];
		write_rows(g.trace, rows, TRACE_ROWS);
		snprintf(options, sizeof(options),
			 "--simulate " TRACE_OPTIONS
			 "--trace-speedup 0 --num-users 1 --request-parallel %u",
			 parallel);
		rig_new(&g, options, NULL);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, 1024 * GIB);
		f->delay_ns = 1000000;
		rig_run(&g);
		assert_int_equal(f->ops_max, parallel);
		rig_release(&g);
	}
	free(rows);
}

/* ---- --max-concurrent-allocs ---- */

static void test_max_concurrent_allocs(void **state)
{
	static const struct {
		const char *options;
		unsigned caps;
		uint32_t allocs;
	} cases[] = {
		{"--simulate", TIER_CAP_WHOLE, 1},
		{"--simulate", TIER_CAP_WHOLE, 3},
		{"--workers 4", 0, 1},
		{"--workers 4", 0, 3},
	};
	struct trace_row *rows = rows_new();
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct rig g = {0};
		char options[256];
		write_rows(g.trace, rows, TRACE_ROWS / 2);
		snprintf(options, sizeof(options),
			 TRACE_OPTIONS "--trace-speedup 0 --num-users 16 %s "
				       "--max-concurrent-allocs %u",
			 cases[i].options, cases[i].allocs);
		rig_new(&g, options, NULL);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, cases[i].caps, 1024 * GIB);
		f->delay_ns = 20000;
		f->has_random_delay = true;
		rig_run(&g);
		assert_int_equal(f->writing_max, cases[i].allocs);
		assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED), TRACE_ROWS / 2);
		assert_int_equal(g.errors.total, 0);
		check_pools_full(&g);
		rig_release(&g);
	}
	free(rows);
}

/* ---- errors ---- */

enum { EVERY_KIND = -1 };

/* A cpu tier of 40 blocks above a storage tier of 250, so that entries are demoted and deleted all the time. */
static void error_rig(struct rig *g, struct fake_tier *f[2], const struct trace_row *rows,
		      const char *options)
{
	char all[256];
	write_rows(g->trace, rows, TRACE_ROWS);
	snprintf(all, sizeof(all),
		 TRACE_OPTIONS "--trace-speedup 0 --num-users 12 --max-concurrent-allocs 9 %s",
		 options);
	rig_new(g, all, NULL);
	f[0] = rig_fake(g, TIER_CPU, 0, 40 * BLOCK_BYTES);
	f[1] = rig_fake(g, TIER_STORAGE, TIER_CAP_COMMIT_COUNTS, 250 * BLOCK_BYTES);
	for (int i = 0; i < 2; i++) {
		f[i]->delay_ns = g->setup.is_virtual ? 0 : 100000;
		f[i]->has_random_delay = true;
		f[i]->rng = rng_stream((uint64_t)i + 11);
	}
}

static uint64_t failures(const struct fake_tier *f[2])
{
	uint64_t sum = 0;
	for (int i = 0; i < 2; i++)
		for (int kind = 0; kind < OP_KINDS; kind++)
			sum += f[i]->failed[kind];
	return sum;
}

/* Every failure is counted once, in a class that says where, and the first of each is told; what follows from it is not another. */
static void check_errors(const struct rig *g, struct fake_tier *f[2], int kind)
{
	uint64_t injected = failures((const struct fake_tier **)f), classes = 0;
	assert_true(injected > 10);
	assert_true(g->errors.total > 0 && g->errors.total <= injected);
	/* One operation of that kind per transfer: each failure is a first one. Chunks of one entry fail together. */
	if (kind != EVERY_KIND && kind != TIER_READ && kind != TIER_WRITE)
		assert_int_equal(g->errors.total, injected);
	for (unsigned i = 0; i < g->errors.classes; i++) {
		const struct error_class *c = &g->errors.v[i];
		assert_true(c->count > 0);
		assert_non_null(strstr(c->name, ": EIO"));
		assert_true(!strncmp(c->name, "cpu ", 4) || !strncmp(c->name, "storage ", 8));
		assert_non_null(strstr(c->first, "fake tier, key "));
		assert_non_null(strstr(c->first, "Input/output error"));
		classes += c->count;
	}
	assert_int_equal(classes, g->errors.total);
	assert_int_equal(counter(g, COUNT_REQUESTS_COMPLETED) + metrics_qos_total(g->m, QOS_FAILED), TRACE_ROWS);
	/* What fails while room is made is nobody's request; a request fails by its own reads and writes alone. */
	if (kind != TIER_DELETE)
		assert_in_range(metrics_qos_total(g->m, QOS_FAILED), 1, TRACE_ROWS);
	else
		assert_int_equal(metrics_qos_total(g->m, QOS_FAILED), 0);
	assert_int_equal(metrics_qos_total(g->m, QOS_CANCELLED), 0);
	check_pools_full(g);
}

static void run_with_errors(const struct trace_row *rows, const char *options, int kind)
{
	struct rig g = {0};
	struct fake_tier *f[2];
	error_rig(&g, f, rows, options);
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < OP_KINDS; k++)
			f[i]->fail_ppm[k] = k == kind || kind == EVERY_KIND ? 50000 : 0;
	rig_run(&g);
	check_errors(&g, f, kind);
	rig_release(&g);
}

static void test_each_operation_may_fail(void **state)
{
	static const int kinds[] = {TIER_CREATE, TIER_WRITE, TIER_COMMIT, TIER_OPEN,
				    TIER_READ,   TIER_CLOSE, TIER_DELETE, EVERY_KIND};
	struct trace_row *rows = rows_new();
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		run_with_errors(rows, "--simulate", kinds[i]);
		run_with_errors(rows, "--workers 3", kinds[i]);
	}
	free(rows);
}

/* A tier that fails always: nothing is stored, nothing is measured, everybody is served. */
static void test_everything_fails(void **state)
{
	static const enum tier_op_kind kinds[] = {TIER_CREATE, TIER_WRITE, TIER_COMMIT, TIER_READ};
	struct trace_row *rows = rows_new();
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct rig g = {0};
		struct fake_tier *f[2];
		error_rig(&g, f, rows, i % 2 ? "--workers 2" : "--simulate");
		f[0]->fail_ppm[kinds[i]] = f[1]->fail_ppm[kinds[i]] = PPM;
		f[0]->fail_ppm[TIER_ABORT] = f[1]->fail_ppm[TIER_ABORT] = PPM;
		rig_run(&g);
		assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED) + metrics_qos_total(g.m, QOS_FAILED),
				 TRACE_ROWS);
		if (kinds[i] != TIER_READ) /* nothing is ever found, so everybody writes */
			assert_int_equal(metrics_qos_total(g.m, QOS_FAILED), TRACE_ROWS);
		assert_int_equal(counter(&g, COUNT_READ_OPS), 0);
		if (kinds[i] != TIER_READ) {
			assert_int_equal(counter(&g, COUNT_WRITE_OPS), 0);
			/* Nothing is left behind, and what cannot be removed is not a second error. */
			assert_int_equal(g.errors.total,
					 f[0]->failed[TIER_ABORT] + f[1]->failed[TIER_ABORT]);
			assert_int_equal(f[0]->live + f[1]->live, 0);
		}
		assert_int_equal(metrics_tier_bytes(g.m, DIR_READ), 0);
		assert_true(g.errors.total > TRACE_ROWS);
		check_pools_full(&g);
		rig_release(&g);
	}
	free(rows);
}

/* On the real clock long enough that on a busy machine nothing else is taken for a hang. */
static uint64_t drain_ns(const struct rig *g)
{
	return g->setup.is_virtual ? NS_PER_S / 5 : 3 * NS_PER_S / 2;
}

/*
 * An operation that never completes: the run ends when its time is over and the drain's is too, and says where it waited. What can be had
 * back leaves nothing behind.
 */
static void test_hang(void **state)
{
	static const struct {
		int kind;
		const char *class;
	} cases[] = {
		{TIER_CREATE, "storage create: no completion"}, {TIER_WRITE, "storage write: no completion"},
		{TIER_COMMIT, "storage commit: no completion"}, {TIER_OPEN, "storage open: no completion"},
		{TIER_READ, "storage read: no completion"},	{TIER_CLOSE, "storage close: no completion"},
		{TIER_DELETE, "storage delete: no completion"},
	};
	struct trace_row *rows = rows_new();
	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
		struct rig g = {0};
		struct fake_tier *f[2];
		error_rig(&g, f, rows, i % 2 ? "--workers 2" : "--simulate");
		g.setup.drain_ns = drain_ns(&g);
		g.setup.duration_ns = NS_PER_S / 3;
		f[1]->hang_kind = cases[i / 2].kind;
		rig_run(&g);
		assert_int_equal(g.errors.total, 1);
		assert_string_equal(g.errors.v[0].name, cases[i / 2].class);
		assert_non_null(strstr(g.errors.v[0].first, "fake tier, key "));
		assert_non_null(strstr(g.errors.v[0].first, "no completion within"));
		assert_int_equal(g.outcome.window_ns, g.setup.duration_ns);
		/* the others go on: on the real clock as many as the machine is fast */
		assert_true(counter(&g, COUNT_REQUESTS_COMPLETED) > (g.setup.is_virtual ? TRACE_ROWS / 2 : 0));
		assert_false(runner_is_stuck(g.runner));
		rig_release(&g);
	}
	free(rows);
}

/* What a device keeps is given up: chunks one by one, and the rest goes on. */
static void test_hang_for_good(void **state)
{
	struct trace_row *rows = rows_new();
	(void)state;
	for (int round = 0; round < 4; round++) {
		struct rig g = {0};
		struct fake_tier *f[2];
		error_rig(&g, f, rows, round % 2 ? "--workers 2" : "--simulate");
		g.setup.drain_ns = drain_ns(&g);
		g.setup.duration_ns = NS_PER_S / 3;
		f[1]->hang_kind = round / 2 ? TIER_READ : TIER_COMMIT;
		f[1]->keeps_hanging = true;
		rig_begin(&g);
		assert_true(runner_wait(g.runner, 100 * NS_PER_S));
		assert_true(runner_is_stuck(g.runner));
		g.m = metrics_new();
		assert_int_equal(runner_collect(g.runner, g.m, &g.outcome), 0);
		assert_int_equal(g.errors.total, 1);
		assert_int_equal(f[1]->ops, 1);
		/* the others go on: on the real clock as many as the machine is fast */
		assert_true(counter(&g, COUNT_REQUESTS_COMPLETED) > (g.setup.is_virtual ? TRACE_ROWS / 2 : 0));
		check_cache_counters(&g);
		rig_release(&g);
	}
	free(rows);
}

/* Nobody waits for whole entries; but one that its tier says will never end is an error all the same. */
static void test_hang_of_a_whole_entry(void **state)
{
	struct trace_row *rows = rows_new();
	(void)state;
	struct rig g = {0};
	write_rows(g.trace, rows, TRACE_ROWS);
	rig_new(&g, "--simulate " TRACE_OPTIONS "--num-users 4 --trace-speedup 0", NULL);
	rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, GIB)->hang_kind = TIER_READ;
	g.setup.duration_ns = NS_PER_S;
	rig_run(&g);
	assert_int_equal(g.errors.total, 1);
	assert_string_equal(g.errors.v[0].name, "storage read: no completion");
	assert_int_equal(metrics_qos_total(g.m, QOS_CANCELLED), 1);
	assert_int_equal(counter(&g, COUNT_REQUESTS_COMPLETED), TRACE_ROWS - 1);
	rig_release(&g);
	free(rows);
}

/* A fill has no end that comes by itself: it is given up when nothing has come for as long as a drain may take. */
static void test_hang_in_a_fill(void **state)
{
	(void)state;
	for (int round = 0; round < 3; round++) {
		struct rig g = {0};
		struct error err = {0};
		bool is_whole = round == 2;
		rig_new(&g, round ? "--simulate --num-users 8" : "--workers 3 --num-users 8", NULL);
		struct fake_tier *f = rig_fake(&g, TIER_STORAGE, is_whole ? TIER_CAP_WHOLE : 0, GIB);
		f->hang_kind = is_whole ? TIER_WRITE : TIER_COMMIT;
		g.setup.drain_ns = drain_ns(&g);
		rig_cache(&g);
		assert_int_equal(runner_new(&g.setup, &g.runner, &err), 0);
		struct runner_fill fill = fill_of(key_filler, 100, 1 << 20);
		runner_fill(g.runner, &fill);
		assert_true(runner_wait(g.runner, 100 * NS_PER_S));
		assert_true(runner_has_given_up(g.runner));
		assert_int_equal(runner_filled(g.runner), fill.count - 1);
		assert_int_equal(g.errors.total, 1);
		g.m = metrics_new();
		assert_int_equal(runner_collect(g.runner, g.m, &g.outcome), 0);
		assert_false(g.outcome.is_interrupted);
		rig_release(&g);
	}
}

/* One wrong bit in a stamp: an error that says so, and the entry is not believed again. */
static void test_wrong_data_is_found(void **state)
{
	static const struct trace_row rows[] = {
		{0, 2 * BLOCK_TOKENS, 1, 2, {5, 6}},
		{10, 2 * BLOCK_TOKENS, 1, 2, {5, 6}}, /* 5 is wrong */
		{20,
		 2 * BLOCK_TOKENS,
		 1,
		 2,
		 {5, 6}}, /* 5 is gone: both are written, 6 being there */
		{30, 2 * BLOCK_TOKENS, 1, 2, {5, 6}}, /* as if nothing had happened */
	};
	struct rig g = {0};
	(void)state;
	write_rows(g.trace, rows, ARRAY_LEN(rows));
	rig_new(&g, "--simulate " TRACE_OPTIONS, NULL);
	struct fake_tier *f = rig_fake(&g, TIER_STORAGE, 0, GIB);
	f->lie_key = key_block(5);
	rig_run(&g);
	assert_int_equal(f->lies, 1);
	assert_int_equal(g.errors.total, 1);
	assert_string_equal(g.errors.v[0].name, "storage read: data mismatch");
	assert_non_null(strstr(g.errors.v[0].first, "fake tier, key "));
	assert_non_null(strstr(g.errors.v[0].first, "expected key "));
	assert_int_equal(counter(&g, COUNT_CACHE_HITS), 2 + 0 + 2); /* looked up and found */
	assert_int_equal(counter(&g, COUNT_READ_OPS), 1 + 0 + 2);   /* read in full and right */
	assert_int_equal(counter(&g, COUNT_WRITE_OPS), 3);
	assert_int_equal(counter(&g, COUNT_RESIDENT_WRITES), 1);
	assert_int_equal(f->done[TIER_DELETE], 1);
	assert_int_equal(f->live, 2);
	check_pools_full(&g);
	rig_release(&g);
}

static void test_worker_that_cannot_open(void **state)
{
	struct rig g = {0};
	struct error err = {0};
	(void)state;
	rig_new(&g, "--workers 4 --num-users 4", NULL);
	rig_fake(&g, TIER_STORAGE, TIER_CAP_WHOLE, GIB)->breaks_worker_open = true;
	rig_cache(&g);
	assert_int_equal(runner_new(&g.setup, &g.runner, &err), -ENOMEM);
	assert_non_null(strstr(err.message, "worker"));
	assert_null(g.runner);
	rig_release(&g);
}

/* A runner that was never started goes away all the same. */
static void test_free_before_start(void **state)
{
	struct rig g = {0};
	struct error err = {0};
	(void)state;
	rig_new(&g, "--workers 3 --num-users 4", NULL);
	rig_null(&g);
	rig_cache(&g);
	assert_int_equal(runner_new(&g.setup, &g.runner, &err), 0);
	rig_release(&g);
}

/* ---- demotions ---- */

static void check_demotions(const struct rig *g)
{
	assert_int_equal(g->errors.total, 0);
	assert_true(hist(g, HIST_DEMOTE)->count > 100);
	assert_true(counter(g, COUNT_DEMOTED_BYTES) > 0);
	/* Storage is written by demotions and by what passed the upper tier over. */
	assert_int_equal(counter(g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_WRITE)) +
				 counter(g, COUNT_TIER_BYTES(TIER_CPU, DIR_WRITE)),
			 counter(g, COUNT_WRITE_BYTES) + counter(g, COUNT_DEMOTED_BYTES));
	/* Each demotion reads its source in full. */
	assert_int_equal(metrics_tier_bytes(g->m, DIR_READ),
			 counter(g, COUNT_READ_BYTES) + counter(g, COUNT_DEMOTED_BYTES));
	assert_int_equal(counter(g, COUNT_OFFLOADS_CPU),
			 counter(g, COUNT_TIER_OPS(TIER_CPU, DIR_WRITE)));
	assert_int_equal(counter(g, COUNT_OFFLOADS_STORAGE),
			 counter(g, COUNT_TIER_OPS(TIER_STORAGE, DIR_WRITE)) +
				 hist(g, HIST_DEMOTE)->count);
	check_pools_full(g);
}

/* Both clocks, from memory into nothing, a checking tier and a model tier; the bottom is too small and deletes. */
static void test_demotions(void **state)
{
	static const struct {
		const char *options;
		bool has_null;
		bool deletes;
	} cases[] = {
		{"--simulate", false, true},
		{"--simulate --io-size 16KiB", false, true},
		{"--workers 2", false, true},
		{"--workers 2 --io-size 16KiB", false, true},
		{"--simulate", true, false},
		{"--workers 4", true, false},
	};
	struct trace_row *rows = rows_new();
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct rig g = {0};
		struct fake_tier *f = NULL;
		char options[256];
		write_rows(g.trace, rows, TRACE_ROWS);
		snprintf(options, sizeof(options),
			 TRACE_OPTIONS "--trace-speedup 0 --num-users 6 %s", cases[i].options);
		rig_new(&g, options, NULL);
		/* 64 blocks: the granule of memory is larger than a block. Memory has no virtual time. */
		if (g.setup.is_virtual)
			rig_fake(&g, TIER_CPU, 0, 64 * BLOCK_BYTES);
		else
			rig_ram(&g, 4 * MIB);
		if (cases[i].has_null)
			rig_null(&g);
		else
			f = rig_fake(&g, TIER_STORAGE, 0, 200 * BLOCK_BYTES);
		uint64_t chunk = (uint64_t)g.cfg.opt.io_size_bytes;
		if (f && chunk > 4096) { /* or else the header alone fills it */
			f->tier.header_bytes = 4096;
			f->grid_bytes = chunk;
		}
		rig_run(&g);
		check_demotions(&g);
		/* A chunk read from memory is checked, for a request or for a move; the null tier gives nothing to check. */
		uint64_t read = counter(&g, COUNT_TIER_BYTES(TIER_CPU, DIR_READ)) +
				(f ? counter(&g, COUNT_TIER_BYTES(TIER_STORAGE, DIR_READ)) : 0);
		assert_true(counter(&g, COUNT_VERIFIED_BLOCKS) >= read / PAYLOAD_BLOCK);
		assert_int_equal(hist(&g, HIST_DELETE)->count > 0, cases[i].deletes);
		if (f)
			assert_int_equal(f->live, cache_usage(g.cache, 1).entries);
		rig_release(&g);
	}
	free(rows);
}

/* A simulated memory tier above a simulated disk: bytes of demotions are on both devices, and neither is faster than it is. */
static void test_demotions_between_models(void **state)
{
	struct rig g = {0};
	(void)state;
	rig_new(&g,
		"--simulate --num-users 60 --duration 60 --generation-mode none --cpu-mem-gb 64 " MODEL_7_5
		"--model-tier cpu:read_gbps=40,write_gbps=20,latency_us=1",
		NULL);
	rig_model(&g, TIER_CPU, 64 * GIB);
	rig_model(&g, TIER_STORAGE, 400 * GIB);
	rig_run(&g);
	assert_true(counter(&g, COUNT_DEMOTED_BYTES) > 0 && hist(&g, HIST_DELETE)->count == 0);
	assert_true(busy_share(&g) <= 1.0 + 1e-9);
	double s = (double)g.outcome.window_ns / 1e9;
	assert_true((double)counter(&g, COUNT_TIER_BYTES(TIER_CPU, DIR_READ)) / s / 40e9 +
			    (double)counter(&g, COUNT_TIER_BYTES(TIER_CPU, DIR_WRITE)) / s / 20e9 <=
		    1.0 + 1e-9);
	assert_true(cache_usage(g.cache, 0).used_bytes <= 64 * GIB);
	rig_release(&g);
}

/* Buffered writes: bytes count when they are durable, and no more than 64 MiB may be on their way. */
static void test_dirty_bytes_are_bounded(void **state)
{
	static const char *const options[] = {"--simulate", "--workers 2"};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		struct rig g = {0};
		struct trace_row *rows = rows_new();
		char all[256];
		write_rows(g.trace, rows, 8);
		/* 32 MiB per block, 1 MiB per chunk, up to 24 blocks at once */
		snprintf(
			all, sizeof(all),
			"--model llama3.1-8b --num-gpus 2 --tensor-parallel 2 --generation-mode none --duration 1000 "
			"--trace-speedup 0 --num-users 3 %s",
			options[i]);
		rig_new(&g, all, NULL);
		struct fake_tier *f =
			rig_fake(&g, TIER_STORAGE, TIER_CAP_COMMIT_COUNTS, 1024 * GIB);
		f->delay_ns = g.setup.is_virtual ? 0 : 1000000;
		rig_run(&g);
		assert_int_equal(g.errors.total, 0);
		assert_true(f->dirty_max <= 64 * MIB + g.setup.workers * MIB);
		if (g.setup.is_virtual) { /* else it depends on who is faster */
			assert_true(f->done[TIER_SYNC] > 0);
			assert_true(f->dirty_max >= 64 * MIB);
		}
		assert_int_equal(metrics_tier_bytes(g.m, DIR_WRITE), counter(&g, COUNT_WRITE_BYTES));
		check_pools_full(&g);
		free(rows);
		rig_release(&g);
	}
}

/* ---- the real clock ---- */

#define SMALL_USERS                                                                                   \
 "user_templates:\n"                                                                                  \
 "  chatbot: {context_range: [4, 40], generation_range: [16, 64], think_time_range: [0.001, 0.01]}\n" \
 "  coding: {context_range: [10, 60], generation_range: [16, 64], think_time_range: [0.001, 0.02]}\n" \
 "  document:\n"

static void small_rig(struct rig *g, const char *options)
{
	char all[256];
	snprintf(all, sizeof(all), "--model tiny-1b --generation-mode none --io-size 64KiB %s",
		 options);
	rig_new(g, all, SMALL_USERS "workload:\n  prefix_written: true\n");
	rig_ram(g, 64 * MIB);
	rig_null(g);
}

static void test_real_clock(void **state)
{
	static const char *const options[] = {
		"--workers 1 --num-users 50", "--workers 8 --num-users 50",
		"--workers 8 --num-users 300 --max-concurrent-allocs 2"};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		struct rig g = {0};
		struct runner_progress p = {0};
		small_rig(&g, options[i]);
		g.setup.warmup_ns = NS_PER_S / 10;
		g.setup.duration_ns = 6 * NS_PER_S / 10;
		rig_begin(&g);
		while (!runner_wait(g.runner, 10 * NS_PER_MS)) {
			runner_progress(g.runner, &p);
			assert_true(p.in_service <= g.setup.in_service_max);
		}
		rig_end(&g);
		assert_int_equal(g.errors.total, 0);
		assert_int_equal(g.outcome.window_ns, g.setup.duration_ns);
		assert_true(counter(&g, COUNT_REQUESTS_COMPLETED) > 0);
		assert_true(counter(&g, COUNT_VERIFIED_BLOCKS) > 0);
		rig_release(&g);
	}
}

static void *stop_later(void *arg)
{
	struct runner *r = arg;
	struct rng rng = rng_stream(clock_mono_ns());
	struct timespec pause = {.tv_nsec = (long)rng_below(&rng, 40 * NS_PER_MS)};
	nanosleep(&pause, NULL);
	runner_stop(r);
	runner_stop(r); /* a second one changes nothing */
	return NULL;
}

static void stop_at_random(struct rig *g)
{
	pthread_t thread;
	rig_begin(g);
	assert_int_equal(pthread_create(&thread, NULL, stop_later, g->runner), 0);
	rig_end(g);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(g->outcome.is_interrupted);
	assert_true(g->outcome.window_ns < g->setup.duration_ns);
	rig_release(g);
}

static void test_interrupt(void **state)
{
	(void)state;
	for (int round = 0; round < 12; round++) {
		struct rig g = {0};
		small_rig(&g, round % 2 ? "--workers 4" : "--workers 1");
		g.setup.warmup_ns = round % 3 ? 0 : 20 * NS_PER_MS;
		stop_at_random(&g);
	}
	/* Chunks and files in flight, half of the operations slow, some failing. */
	struct trace_row *rows = rows_new();
	for (int round = 0; round < 6; round++) {
		struct rig g = {0};
		struct fake_tier *f[2];
		error_rig(&g, f, rows, "--workers 3 --trace-speedup 0.1");
		f[1]->delay_ns = 20 * NS_PER_MS;
		f[1]->fail_ppm[TIER_READ] = 50000;
		stop_at_random(&g);
	}
	free(rows);
}

/* The virtual clock: what was measured must fit into the window that is reported. */
static void test_interrupt_of_a_simulation(void **state)
{
	(void)state;
	for (int round = 0; round < 6; round++) {
		struct rig g = {0};
		pthread_t thread;
		rig_new(&g,
			"--simulate --num-users 200 --duration 80000 --generation-mode none " MODEL_7_5,
			NULL);
		rig_model(&g, TIER_STORAGE, 4096 * GIB);
		rig_begin(&g);
		assert_int_equal(pthread_create(&thread, NULL, stop_later, g.runner), 0);
		rig_end(&g);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_true(g.outcome.is_interrupted);
		assert_true(busy_share(&g) <= 1.0 + 1e-9 || !g.outcome.window_ns);
		rig_release(&g);
	}
}

/* The same run twice is the same to the last bit. */
static void test_a_simulation_repeats(void **state)
{
	struct metrics *first = NULL;
	(void)state;
	for (int round = 0; round < 2; round++) {
		struct rig g = {0};
		rig_new(&g,
			"--simulate --num-users 80 --duration 20 --generation-mode fast " MODEL_7_5,
			NULL);
		rig_model(&g, TIER_CPU, 32 * GIB);
		rig_model(&g, TIER_STORAGE, 60 * GIB);
		rig_run(&g);
		g.m->count[COUNT_WORKER_CPU_NS] = 0; /* the machine, not the run */
		g.m->count[COUNT_READY_DELAY_NS] = 0;
		if (first) {
			assert_memory_equal(first->count, g.m->count, sizeof(first->count));
			assert_memory_equal(first->hist, g.m->hist, sizeof(first->hist));
		} else {
			first = metrics_new();
			assert_int_equal(metrics_merge(first, g.m), 0);
		}
		rig_release(&g);
	}
	metrics_free(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_saturated_model_gives_its_bandwidth),
		cmocka_unit_test(test_idle_model_gives_its_latency),
		cmocka_unit_test(test_waiting_for_a_slot_is_the_hosts),
		cmocka_unit_test(test_bytes_are_shared_at_the_edges),
		cmocka_unit_test(test_chunks_at_the_edges),
		cmocka_unit_test(test_errors_after_the_window),
		cmocka_unit_test(test_whole_entries_that_fail),
		cmocka_unit_test(test_max_requests),
		cmocka_unit_test(test_counts_follow_from_the_workload),
		cmocka_unit_test(test_order_of_steps),
		cmocka_unit_test(test_generation_takes_its_time),
		cmocka_unit_test(test_raw_samples),
		cmocka_unit_test(test_priority_and_order_of_arrival),
		cmocka_unit_test(test_closed_loop),
		cmocka_unit_test(test_trace_replay),
		cmocka_unit_test(test_trace_longest_prefix),
		cmocka_unit_test(test_trace_in_service_bound),
		cmocka_unit_test(test_trace_backlog),
		cmocka_unit_test(test_skewed_clocks),
		cmocka_unit_test(test_sums_at_every_end),
		cmocka_unit_test(test_decode_only),
		cmocka_unit_test(test_chunks_on_the_grid),
		cmocka_unit_test(test_checks_that_wait),
		cmocka_unit_test(test_depth_beside_checks),
		cmocka_unit_test(test_noise_apart),
		cmocka_unit_test(test_fill_stopped),
		cmocka_unit_test(test_prefill_only),
		cmocka_unit_test(test_request_parallel),
		cmocka_unit_test(test_max_concurrent_allocs),
		cmocka_unit_test(test_each_operation_may_fail),
		cmocka_unit_test(test_everything_fails),
		cmocka_unit_test(test_hang),
		cmocka_unit_test(test_hang_for_good),
		cmocka_unit_test(test_hang_of_a_whole_entry),
		cmocka_unit_test(test_hang_in_a_fill),
		cmocka_unit_test(test_wrong_data_is_found),
		cmocka_unit_test(test_worker_that_cannot_open),
		cmocka_unit_test(test_free_before_start),
		cmocka_unit_test(test_demotions),
		cmocka_unit_test(test_demotions_between_models),
		cmocka_unit_test(test_dirty_bytes_are_bounded),
		cmocka_unit_test(test_real_clock),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_interrupt_of_a_simulation),
		cmocka_unit_test(test_a_simulation_repeats),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
