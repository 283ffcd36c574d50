// SPDX-License-Identifier: Apache-2.0
/*
 * Runs drawn from a seed - tiers, sizes, users, modes and a plan of faults - and what must hold after every one: nothing is lost,
 * nothing is counted twice, and every error is one that was made.
 *
 * Usage: scenarios FIRST COUNT [-v]          each seed of a range, on the virtual clock; -v: and say what each is
 *        scenarios FIRST COUNT --disk [-v]   on the real clock with files below TMPDIR
 *
 * The ram tier copies at once and waits for nothing, so that with one worker it is as repeatable as the model; it brings chunks, stamps
 * and leaks of memory into play.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "runner/internal.h"

#define MIB	    (UINT64_C(1) << 20)
#define STUCK_AFTER (120 * NS_PER_S)
enum { FAILURES_SHOWN = 10, REPEAT_EVERY = 16, FILL_MAX = 60 };

/** One run and its parts. */
struct scenario {
	uint64_t seed;
	struct rng rng;
	char text[1024]; /* what was drawn */
	struct config cfg;
	unsigned char source[128];
	struct opt_group group;
	struct opt_set set;
	struct workload *workload;
	struct cache *cache;
	struct payload *payload; /* borrowed */
	struct tier *tier[TIER_CLASSES];
	struct tier *ram[TIER_CLASSES]; /* the memory within, where there is some */
	unsigned tier_count;
	struct config_fault_plan plan;
	struct error_log errors;
	struct strlist notices;
	struct runner_setup setup;
	struct runner_fill fill; /* count 0: none */
	struct runner *runner;
	struct metrics *m;
	struct runner_outcome outcome;
	bool has_run; /* the fill before it did not get stuck */
	bool has_data;
	char why[256]; /* the first thing that does not hold */
};

static char users_path[] = "/tmp/scenarios_XXXXXX";
static char trace_path[] = "/tmp/scenarios_XXXXXX";
static struct payload *payloads[PAYLOAD_FULL + 1];
static volatile uint64_t current_seed;
static bool is_on_disk;
static char disk_path[256];
static int disk_fd = -1;

/* ---- drawing ---- */

static bool one_in(struct scenario *s, uint64_t n)
{
	return rng_below(&s->rng, n) == 0;
}

static uint64_t between(struct scenario *s, uint64_t low, uint64_t high)
{
	return rng_range(&s->rng, low, high);
}

/* Small ones are as likely as large ones. */
static uint64_t magnitude(struct scenario *s, unsigned low_bits, unsigned high_bits)
{
	uint64_t top = UINT64_C(1) << between(s, low_bits, high_bits);
	return between(s, top, 2 * top - 1);
}

static void __attribute__((format(printf, 2, 3))) say(struct scenario *s, const char *fmt, ...)
{
	size_t len = strlen(s->text);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(s->text + len, sizeof(s->text) - len, fmt, ap);
	va_end(ap);
}

/* Conversations that grow and share their beginning; rows every few milliseconds. */
static void write_trace(struct scenario *s)
{
	enum { TALKS = 8, BLOCKS = 12, BLOCK_TOKENS = 512 };
	uint64_t length[TALKS] = {0};
	FILE *f = fopen(trace_path, "we");
	uint64_t rows = between(s, 1, 120), step_ms = between(s, 0, 20);
	for (uint64_t i = 0; f && i < rows; i++) {
		uint64_t talk = between(s, 0, TALKS - 1);
		length[talk] = length[talk] % BLOCKS + between(s, 1, 2);
		length[talk] = MIN(length[talk], BLOCKS);
		fprintf(f, "{\"timestamp\": %" PRIu64 ", \"input_length\": %" PRIu64 ", \"output_length\": 9, \"hash_ids\": [",
			i * step_ms, length[talk] * BLOCK_TOKENS);
		for (uint64_t b = 0; b < length[talk]; b++)
			fprintf(f, "%s%" PRIu64, b ? ", " : "", b < 2 ? b : talk * BLOCKS + b);
		fputs("]}\n", f);
	}
	if (!f || fclose(f))
		abort();
	say(s, "trace of %" PRIu64 " rows; ", rows);
}

static void write_users(struct scenario *s)
{
	static const char *const names[] = {"chatbot", "coding", "document"};
	FILE *f = fopen(users_path, "we");
	if (!f)
		abort();
	fputs("user_templates:\n", f);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		uint64_t low = magnitude(s, 2, 10);
		fprintf(f, "  %s: {context_range: [%" PRIu64 ", %" PRIu64 "], generation_range: [1, %" PRIu64 "], "
			   "think_time_range: [0.01, %g]}\n",
			names[i], low, low * between(s, 1, 4), magnitude(s, 0, 7), 0.02 + (double)between(s, 0, 100) / 100);
	}
	fprintf(f, "workload:\n  arrival: %s\n  prefix_written: %s\n  decode_single_read: %s\n", one_in(s, 2) ? "closed" : "open",
		one_in(s, 2) ? "true" : "false", one_in(s, 3) ? "true" : "false");
	if (fclose(f))
		abort();
}

static void add_option(struct strlist *argv, const char *name, uint64_t value)
{
	if (strlist_add(argv, name) || strlist_addf(argv, "%" PRIu64, value))
		abort();
}

static void draw_disk_options(struct scenario *s, struct strlist *argv)
{
	static const char *const engines[] = {"uring", "threads"}, *const syncs[] = {"fsync", "fdatasync", "none"};
	int rc = strlist_add(argv, "--io-engine") || strlist_add(argv, engines[between(s, 0, 1)]);
	rc |= strlist_add(argv, "--sync") || strlist_add(argv, syncs[between(s, 0, 2)]);
	add_option(argv, "--workers", between(s, 1, 3));
	if (rc)
		abort();
}

static void draw_options(struct scenario *s)
{
	struct strlist argv = {0};
	struct problems problems = {0};
	bool wants_help;
	int rc = strlist_add_split(&argv, "--model tiny-1b --num-gpus 512 --tensor-parallel 512", " ");
	bool is_trace = one_in(s, 3);
	if (is_on_disk)
		draw_disk_options(s, &argv);
	else
		rc |= strlist_add(&argv, "--simulate");
	add_option(&argv, "--num-users", magnitude(s, 0, 4));
	add_option(&argv, "--duration", is_trace ? 1000 : between(s, 1, 4));
	add_option(&argv, "--request-parallel", between(s, 1, 4));
	add_option(&argv, "--io-depth", magnitude(s, 0, 6));
	add_option(&argv, "--ops-in-flight", magnitude(s, 0, 5));
	add_option(&argv, "--io-size", UINT64_C(4096) << between(s, 0, 6));
	add_option(&argv, "--max-concurrent-allocs", one_in(s, 2) ? 0 : between(s, 1, 6));
	add_option(&argv, "--max-requests", is_on_disk || one_in(s, 4) ? between(s, 1, 60) : 0);
	add_option(&argv, "--warmup", one_in(s, 6));
	rc |= strlist_add_split(&argv, one_in(s, 2) ? "--generation-mode none" : "--generation-mode fast", " ");
	if (is_trace) {
		write_trace(s);
		rc |= strlist_add_split(&argv, "--trace-speedup", " ");
		rc |= strlist_add(&argv, one_in(s, 2) ? "0" : "1");
		rc |= strlist_add(&argv, "--trace") || strlist_add(&argv, trace_path);
	} else {
		write_users(s);
		rc |= strlist_add(&argv, "--config") || strlist_add(&argv, users_path);
	}
	static const char *const roles[] = {"--prefill-only", "--decode-only", "--disable-multi-turn", "--disable-prefix-caching"};
	const char *role = roles[between(s, 0, ARRAY_LEN(roles) - 1)];
	if (one_in(s, 3) && !(is_trace && !strcmp(role, "--decode-only")))
		rc |= strlist_add(&argv, role);
	size_t count;
	const struct opt *table = config_option_table(&count);
	s->group = (struct opt_group){.opts = table, .count = count, .target = &s->cfg.opt, .source = s->source};
	s->set = (struct opt_set){.groups = &s->group, .count = 1};
	if (rc || count > sizeof(s->source) || opt_defaults(&s->set) ||
	    opt_parse(&s->set, (int)argv.count, argv.v, &problems, &wants_help) || config_load(&s->group, &s->cfg, &problems) ||
	    problems.count) {
		fprintf(stderr, "seed %" PRIu64 ": %s\n", s->seed, problems.count ? problems.list[0].message : "options");
		abort();
	}
	for (size_t i = 6; i < argv.count; i++)
		say(s, "%s ", argv.v[i]);
	strlist_release(&argv);
}

static void draw_files(struct scenario *s, uint64_t limit, struct tier **ret)
{
	struct io_direct direct;
	struct error err = {0};
	if (io_probe_direct(disk_fd, "probe", &direct, &err))
		abort();
	const struct tier_file_setup setup = {.dirfd = disk_fd,
					      .path = disk_path,
					      .limit_bytes = limit,
					      .cfg = &s->cfg,
					      .is_direct = direct.is_direct && direct.align_bytes <= 4096 && one_in(s, 2)};
	if (tier_file_new(&setup, ret))
		abort();
	s->has_data = true;
	say(s, "| files %s %" PRIu64 " KiB ", setup.is_direct ? "direct" : "buffered", limit >> 10);
	s->tier_count++;
}

static void draw_tier(struct scenario *s, enum tier_class class, uint64_t limit)
{
	struct error err = {0};
	struct tier **t = &s->tier[s->tier_count];
	/* What holds nothing has nothing to hand down to memory. */
	bool is_below_none = s->tier_count && !s->ram[0];
	uint64_t kind = between(s, 0, is_below_none ? 1 : 2);
	if (is_on_disk && class == TIER_STORAGE) {
		draw_files(s, limit, t);
		return;
	}
	if (is_on_disk)
		kind = 2; /* above files there is memory */
	const struct config_model_tier model = {.read_gbps = 0.01 * (double)magnitude(s, 0, 9),
						.write_gbps = 0.01 * (double)magnitude(s, 0, 9),
						.latency_us = (double)between(s, 0, 3000)};
	int rc = kind == 0   ? tier_null_new(class, limit, t)
		 : kind == 1 ? tier_model_new(class, limit, &model, t)
			     : tier_ram_new(class, limit, t, &err);
	if (rc)
		abort();
	if (kind == 2) {
		(*t)->caps |= TIER_CAP_VIRTUAL | (one_in(s, 4) ? TIER_CAP_COMMIT_COUNTS : 0);
		s->ram[s->tier_count] = *t;
		s->has_data = true;
	}
	say(s, "| %s %s %" PRIu64 " KiB ", config_tier_name(class), (*t)->ops->kind, limit >> 10);
	s->tier_count++;
}

static enum config_fault_kind draw_kind(struct scenario *s)
{
	static const enum config_fault_kind kinds[] = {FAULT_ERROR, FAULT_ERROR, FAULT_ERROR,	 FAULT_DELAY, FAULT_HANG,
						       FAULT_STALE, FAULT_SWAP,	 FAULT_BIT_FLIP, FAULT_TORN};
	static const enum config_fault_kind of_io[] = {FAULT_AGAIN, FAULT_INTERRUPT, FAULT_SHORT};
	if (is_on_disk && one_in(s, 3))
		return of_io[between(s, 0, ARRAY_LEN(of_io) - 1)];
	return kinds[between(s, 0, ARRAY_LEN(kinds) - 1)];
}

/* One operation of one tier per rule, so that what it struck can be compared with one class of errors. */
static void draw_faults(struct scenario *s)
{
	static const int errors[] = {EIO, ENOSPC, EROFS, ESTALE};
	s->plan = (struct config_fault_plan){.seed = s->seed, .count = (uint32_t)between(s, 0, 4)};
	for (uint32_t i = 0; i < s->plan.count; i++) {
		struct config_fault *f = &s->plan.v[i];
		unsigned tier = (unsigned)between(s, 0, s->tier_count - 1);
		bool is_whole = s->tier[tier]->caps & TIER_CAP_WHOLE;
		*f = (struct config_fault){.kind = draw_kind(s), .tier = (int)s->tier[tier]->class, .error = errors[between(s, 0, 3)]};
		bool is_damage = f->kind >= FAULT_BIT_FLIP;
		unsigned op = one_in(s, 2) ? TIER_READ : TIER_WRITE;
		if (!is_whole && !is_damage && one_in(s, 2))
			op = (unsigned)between(s, TIER_CREATE, TIER_DELETE);
		bool is_io = f->kind == FAULT_AGAIN || f->kind == FAULT_INTERRUPT || f->kind == FAULT_SHORT;
		if (is_io)
			f->tier = TIER_STORAGE;
		if (f->kind == FAULT_TORN || (f->kind == FAULT_SHORT && op != TIER_READ) || (is_io && op == TIER_CLOSE))
			op = TIER_WRITE;
		f->attempts = (uint32_t)between(s, 1, IO_ATTEMPTS_MAX + 4);
		f->operations = 1u << op;
		f->part = FAULT_PART_STAMP;
		f->delay_ms = (double)magnitude(s, 0, is_on_disk ? 4 : 9);
		f->is_final = one_in(s, 3) && !is_on_disk; /* its files would stay open */
		if (one_in(s, 2)) {
			f->nth = (uint32_t)magnitude(s, 0, 7);
			f->count = (uint32_t)between(s, 1, 3);
		} else {
			f->rate = one_in(s, 10) ? 1 : 0.001 * (double)magnitude(s, 0, 8);
			f->count = f->kind == FAULT_HANG ? 2 : 0;
		}
		say(s, "| %s %s %s nth %u rate %g count %u%s ", config_fault_name(f->kind), config_tier_name(f->tier),
		    config_fault_operations()[op], f->nth, f->rate, f->count, f->kind == FAULT_HANG && f->is_final ? " for good" : "");
	}
}

static void wrap_tiers(struct scenario *s)
{
	const struct tier_fault_setup setup = {.plan = &s->plan, .payload = s->payload};
	for (unsigned i = 0; i < s->tier_count; i++)
		if (tier_fault_new(s->tier[i], &setup, &s->tier[i]))
			abort();
}

static void make_cache(struct scenario *s)
{
	struct cache_setup setup = {
		.tier_count = s->tier_count,
		.target_usage_ratio = s->cfg.workload.target_usage_ratio,
		.large_entry_limit_ratio = s->cfg.workload.large_entry_limit_ratio,
		.entries_max = one_in(s, 40) ? between(s, 1, 20) : 1 << 16,
		.is_private = !is_on_disk,
	};
	for (unsigned i = 0; i < s->tier_count; i++)
		setup.tier[i] = (struct cache_tier){
			.class = s->tier[i]->class,
			.limit_bytes = s->tier[i]->limit_bytes,
			.header_bytes = s->tier[i]->header_bytes,
			.granule_bytes = s->tier[i]->granule_bytes,
		};
	if (cache_new(&setup, &s->cache))
		abort();
}

static void scenario_draw(struct scenario *s, uint64_t seed)
{
	struct error err = {0};
	*s = (struct scenario){.seed = seed, .rng = rng_stream(rng_key(0x7363656e, seed))};
	draw_options(s);
	if (workload_new(&s->cfg, seed, 0, &s->workload, &err))
		abort();
	s->payload = payloads[one_in(s, 3) ? PAYLOAD_FULL : PAYLOAD_STAMPS];
	if (one_in(s, 2))
		draw_tier(s, TIER_CPU, magnitude(s, 16, 20));
	draw_tier(s, TIER_STORAGE, magnitude(s, 16, 22));
	draw_faults(s);
	wrap_tiers(s);
	make_cache(s);
	error_log_init(&s->errors);
	const struct config_options *o = &s->cfg.opt;
	bool needs_fill = o->decode_only;
	if (needs_fill || one_in(s, 8))
		s->fill = (struct runner_fill){
			.key = needs_fill ? key_prepared : key_filler,
			.count = between(s, 1, FILL_MAX),
			.payload_bytes = magnitude(s, 10, 15),
			.first_tier = needs_fill ? 0 : s->tier_count - 1,
			.parallel = (uint32_t)between(s, 1, 8),
		};
	s->setup = (struct runner_setup){
		.cfg = &s->cfg,
		.workload = s->workload,
		.cache = s->cache,
		.tier_count = s->tier_count,
		.payload = s->payload,
		.errors = &s->errors,
		.notices = &s->notices,
		.is_virtual = !is_on_disk,
		.needs_io = is_on_disk,
		.workers = is_on_disk ? (uint32_t)o->workers : 1,
		.in_service_max = (uint32_t)o->num_users,
		.io_depth = (uint32_t)o->io_depth,
		.ops_in_flight = (uint32_t)o->ops_in_flight,
		.warmup_ns = (uint64_t)o->warmup_s * NS_PER_S,
		.duration_ns = (uint64_t)o->duration_s * NS_PER_S,
		.drain_ns = between(s, 1, 30) * NS_PER_S,
		.prepared = s->fill.count,
		.seed = seed,
	};
	if (is_on_disk) {
		s->setup.workers = MIN(s->setup.workers, MIN(s->setup.in_service_max, s->setup.io_depth));
		s->setup.warmup_ns /= 10;
		s->setup.duration_ns = NS_PER_S / 2;
		/* What a busy disk takes for one operation must not count as a hang. */
		s->setup.drain_ns = 3 * NS_PER_S;
	}
	memcpy(s->setup.tier, s->tier, sizeof(s->tier));
}

/* ---- running ---- */

static void wait_for_end(struct scenario *s)
{
	if (runner_wait(s->runner, STUCK_AFTER))
		return;
	fprintf(stderr, "seed %" PRIu64 ": stuck: %s\n", s->seed, s->text);
	_exit(1);
}

static void scenario_run(struct scenario *s)
{
	struct error err = {0};
	if (runner_new(&s->setup, &s->runner, &err))
		abort();
	if (s->fill.count) {
		runner_fill(s->runner, &s->fill);
		wait_for_end(s);
	}
	s->has_run = !runner_has_given_up(s->runner);
	if (s->has_run) {
		runner_start(s->runner);
		wait_for_end(s);
	}
	s->m = metrics_new();
	if (!s->m || runner_collect(s->runner, s->m, &s->outcome))
		abort();
}

static void scenario_release(struct scenario *s)
{
	runner_free(s->runner);
	metrics_free(s->m);
	cache_free(s->cache);
	for (unsigned i = 0; i < s->tier_count; i++)
		tier_free(s->tier[i]);
	workload_free(s->workload);
	strlist_release(&s->notices);
	config_release(&s->cfg);
	if (disk_fd >= 0 && tier_file_clean(disk_fd, NULL))
		abort();
}

/* ---- what must hold ---- */

static void __attribute__((format(printf, 2, 3))) fails(struct scenario *s, const char *fmt, ...)
{
	va_list ap;
	if (s->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
}

static uint64_t count(const struct scenario *s, enum metric_counter c)
{
	return s->m->count[c];
}

static uint64_t struck(const struct scenario *s, uint32_t rule)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < s->tier_count; i++)
		n += tier_fault_struck(s->tier[i], rule);
	return n;
}

static bool is_damage(const struct config_fault *f)
{
	return f->kind >= FAULT_BIT_FLIP;
}

static bool has_struck(const struct scenario *s, uint32_t kinds)
{
	for (uint32_t i = 0; i < s->plan.count; i++)
		if (kinds & 1u << s->plan.v[i].kind && struck(s, i))
			return true;
	return false;
}

/* Everything that came in was served: nothing was cut off, and nobody waits. */
static bool is_complete(const struct scenario *s)
{
	for (uint32_t i = 0; i < s->runner->worker_count; i++) {
		const struct worker *w = &s->runner->workers[i];
		if (w->tasks_busy || w->ops_active || w->room_active || w->transfers_free_count != w->transfer_count)
			return false;
	}
	return s->has_run;
}

static void check_requests(struct scenario *s)
{
	const struct admission *a = &s->runner->admission;
	uint64_t completed = metrics_qos_total(s->m, QOS_COMPLETED), failed = metrics_qos_total(s->m, QOS_FAILED);
	for (int q = 0; q < QOS_COUNT && s->outcome.window_ns; q++)
		if (a->due_before[q] + count(s, COUNT_QOS(q, QOS_OFFERED)) != a->admitted[q] + count(s, COUNT_QOS(q, QOS_QUEUED_AT_END)))
			fails(s, "level %d: arrived is not admitted + queued", q);
	if (!s->setup.warmup_ns) {
		uint64_t admitted = metrics_qos_total(s->m, QOS_ADMITTED);
		uint64_t ended = completed + failed + metrics_qos_total(s->m, QOS_CANCELLED);
		if (admitted != ended)
			fails(s, "%" PRIu64 " requests admitted, %" PRIu64 " completed, failed or cut off", admitted, ended);
	}
	if (completed != count(s, COUNT_REQUESTS_COMPLETED) || s->m->hist[HIST_RESPONSE].count != count(s, COUNT_REQUESTS_COMPLETED))
		fails(s, "latencies and completed requests differ in number");
	if (failed && !s->errors.total)
		fails(s, "%" PRIu64 " failed requests without an error", failed);
	if (s->outcome.is_interrupted)
		fails(s, "nobody interrupted it");
}

/* The error class that a rule makes. */
static void class_of(const struct config_fault *f, char *name, size_t size)
{
	const char *op = config_fault_operations()[__builtin_ctz(f->operations)];
	const char *what = f->kind == FAULT_HANG	    ? "no completion"
			   : f->kind == FAULT_AGAIN	    ? "EAGAIN"
			   : f->kind == FAULT_INTERRUPT ? "EINTR"
							    : strerrorname_np(f->error);
	if (is_damage(f))
		snprintf(name, size, "%s read: data mismatch", config_tier_name(f->tier));
	else
		snprintf(name, size, "%s %s: %s", config_tier_name(f->tier), op, what);
}

static uint64_t counted(const struct scenario *s, const char *class)
{
	for (unsigned i = 0; i < s->errors.classes; i++)
		if (!strcmp(s->errors.v[i].name, class))
			return s->errors.v[i].count;
	return 0;
}

/* How often the rules struck that end in an error of this class. */
static uint64_t struck_as(const struct scenario *s, const char *class)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < s->plan.count; i++) {
		char name[48];
		class_of(&s->plan.v[i], name, sizeof(name));
		const struct config_fault *f = &s->plan.v[i];
		bool is_retried = (f->kind == FAULT_AGAIN || f->kind == FAULT_INTERRUPT) && f->attempts < IO_ATTEMPTS_MAX;
		if (f->kind != FAULT_DELAY && f->kind != FAULT_SHORT && !is_retried && !strcmp(name, class))
			n += struck(s, i);
	}
	return n;
}

static bool has_suffix(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);
	return n >= m && !strcmp(text + n - m, end);
}

static void check_errors(struct scenario *s)
{
	uint64_t total = 0;
	for (unsigned i = 0; i < s->errors.classes; i++) {
		const struct error_class *c = &s->errors.v[i];
		uint64_t made = struck_as(s, c->name);
		total += c->count;
		if (!strcmp(c->name, "cache index: full"))
			continue;
		if (!made)
			fails(s, "%s: %" PRIu64 " counted, none made (%s)", c->name, c->count, c->first);
		/* Damage is written once and may be read often. */
		else if (c->count > made && !has_suffix(c->name, "data mismatch"))
			fails(s, "%s: %" PRIu64 " counted, %" PRIu64 " made", c->name, c->count, made);
		bool is_file = strstr(c->name, "storage") && is_on_disk;
		if (!strstr(c->first, is_file ? disk_path : " offset "))
			fails(s, "%s: the first says nothing: %s", c->name, c->first);
	}
	if (total != s->errors.total)
		fails(s, "%" PRIu64 " errors in classes, %" PRIu64 " in all", total, s->errors.total);
	for (uint32_t i = 0; i < s->plan.count; i++) {
		const struct config_fault *f = &s->plan.v[i];
		char class[48];
		if (is_damage(f) || (f->kind != FAULT_ERROR && f->kind != FAULT_HANG))
			continue;
		class_of(f, class, sizeof(class));
		/* Of an entry that moves whole only one operation can fail; of one in chunks, what follows is not counted again. */
		if ((!s->has_data || f->kind == FAULT_HANG) && counted(s, class) != struck_as(s, class))
			fails(s, "%s: %" PRIu64 " made, %" PRIu64 " counted", class, struck_as(s, class), counted(s, class));
	}
	if (has_struck(s, 1 << FAULT_ERROR) && !s->errors.total)
		fails(s, "errors were made, none was counted");
}

/* Damage on its way in is found at once, when nothing else went wrong. */
static void check_damage(struct scenario *s)
{
	uint64_t made = 0;
	bool is_alone = is_complete(s);
	for (uint32_t i = 0; i < s->plan.count; i++) {
		const struct config_fault *f = &s->plan.v[i];
		bool is_read = f->operations == 1u << TIER_READ;
		is_alone &= (is_damage(f) && is_read) || !struck(s, i) || f->kind == FAULT_DELAY || f->kind == FAULT_SHORT;
		made += is_damage(f) ? struck(s, i) : 0;
	}
	uint64_t found = counted(s, "storage read: data mismatch") + counted(s, "cpu read: data mismatch");
	if (is_alone && made && !found)
		fails(s, "%" PRIu64 " reads were damaged, none was found", made);
}

static void check_bytes(struct scenario *s)
{
	bool is_whole = is_complete(s) && !s->has_data && !s->setup.warmup_ns && !s->fill.count;
	uint64_t written = count(s, COUNT_WRITE_BYTES) + count(s, COUNT_DEMOTED_BYTES);
	uint64_t read = count(s, COUNT_READ_BYTES) + count(s, COUNT_DEMOTED_BYTES);
	uint64_t taken = metrics_tier_bytes(s->m, DIR_WRITE), given = metrics_tier_bytes(s->m, DIR_READ);
	if (is_whole && taken != written)
		fails(s, "tiers took %" PRIu64 " bytes, operations %" PRIu64, taken, written);
	if (is_whole && (given < read || (!s->errors.total && given != read)))
		fails(s, "tiers gave %" PRIu64 " bytes, operations %" PRIu64, given, read);
	for (int t = 0; t < TIER_CLASSES; t++)
		for (int d = 0; d < DIRECTIONS; d++)
			for (int p = 0; p < PARTS; p++)
				if (s->m->hist[HIST_TIER(t, d, p)].count != count(s, COUNT_TIER_OPS(t, d)))
					fails(s, "operations and their latencies differ in number");
}

/* Who holds what in the cache: transfers that the end of the run left where they were. */
static void add_owners(const struct worker *w, struct cache_held *held, bool *has_open_plan)
{
	for (uint32_t i = 0; i < w->transfer_count; i++) {
		const struct transfer *x = &w->transfers[i];
		if (x->state == TRANSFER_FREE || x->state == TRANSFER_PERMIT)
			continue;
		bool is_placed = x->state != TRANSFER_PLACE_WAIT || x->plan.outcome == CACHE_WRITE_PLANNED;
		held->pins += x->kind == TRANSFER_READ;
		held->writing += x->kind == TRANSFER_WRITE && is_placed;
		held->going += x->kind == TRANSFER_MOVE || x->kind == TRANSFER_DELETE;
		*has_open_plan |= x->state == TRANSFER_STEPS || (x->kind == TRANSFER_WRITE && x->state == TRANSFER_PLACE_WAIT);
	}
}

static void check_cache(struct scenario *s)
{
	const char *why;
	if (cache_check(s->cache, &why))
		fails(s, "cache: %s", why);
	bool has_open_plan = false;
	struct cache_held owned = {0};
	for (uint32_t i = 0; i < s->runner->worker_count; i++)
		add_owners(&s->runner->workers[i], &owned, &has_open_plan);
	struct cache_held held = cache_held(s->cache);
	if (held.pins != owned.pins)
		fails(s, "%" PRIu64 " pins, %" PRIu64 " reads", held.pins, owned.pins);
	if (held.writing != owned.writing)
		fails(s, "%" PRIu64 " entries being written, %" PRIu64 " writers", held.writing, owned.writing);
	if (has_open_plan ? held.going < owned.going : held.going != owned.going)
		fails(s, "%" PRIu64 " entries on their way out, %" PRIu64 " transfers", held.going, owned.going);
	if (is_complete(s) && held.pins + held.writing + held.going)
		fails(s, "everybody is done, and the cache holds pins or reservations");
	for (unsigned i = 0; i < s->tier_count && is_complete(s); i++)
		if (cache_usage(s->cache, i).used_bytes > s->tier[i]->limit_bytes)
			fails(s, "tier %u is above its limit", i);
}

/* Of what the cache says is free every page can be had, and not one more. */
static void check_memory(struct scenario *s, unsigned tier)
{
	struct tier *t = s->ram[tier];
	struct tier_worker *w;
	struct tier_op *done;
	uint64_t used = cache_usage(s->cache, tier).used_bytes;
	uint64_t pages = t->limit_bytes / t->granule_bytes - used / t->granule_bytes;
	if (t->ops->worker_open(t, NULL, 1, &w))
		abort();
	for (int extra = 1; extra >= 0; extra--) {
		struct tier_object obj = {.payload_bytes = (pages + (uint64_t)extra) * t->granule_bytes};
		struct tier_op op;
		tier_op_init(&op, TIER_CREATE, &obj, NULL);
		if (!obj.payload_bytes)
			continue;
		t->ops->submit(w, &op, 0);
		if (t->ops->poll(w, 0, &done, 1) != 1 || op.result != (extra ? -ENOSPC : 0))
			fails(s, "tier %u: %s pages than the cache counts as free", tier, extra ? "more" : "fewer");
	}
	t->ops->worker_close(w);
}

static void check_worker(struct scenario *s, struct worker *w)
{
	uint32_t chunks = 0, flying = 0;
	list_for_each (node, &w->chunks_free)
		chunks++;
	list_for_each (node, &w->chunks_noise)
		chunks++;
	for (uint32_t i = 0; i < w->chunk_count; i++)
		flying += w->chunks[i].transfer != NULL;
	if (chunks + flying != w->chunk_count || flying != w->chunks_busy)
		fails(s, "a buffer is lost");
	if (is_complete(s) && (w->dirty_bytes || w->chunks_copying || s->runner->permits.free != s->cfg.opt.max_concurrent_allocs ||
			       s->runner->admission.in_service || !list_empty(&w->hungry) || !list_empty(&w->planning)))
		fails(s, "everybody is done, and something is still held");
	if (w->is_stuck && !has_struck(s, 1 << FAULT_HANG))
		fails(s, "stuck without a hang");
}

/* Every file is whole, and where nothing is on its way there is one for each entry. */
static void check_files(struct scenario *s)
{
	DIR *dir = opendir(disk_path);
	uint64_t files = 0, entries = cache_usage(s->cache, s->tier_count - 1).entries;
	for (const struct dirent *d; dir && (d = readdir(dir));) {
		struct stat st;
		if (d->d_name[0] == '.' || fstatat(disk_fd, d->d_name, &st, 0))
			continue;
		files++;
		if (st.st_size <= 4096 || st.st_size % 4096)
			fails(s, "%s has %lld bytes", d->d_name, (long long)st.st_size);
	}
	if (!dir || closedir(dir))
		abort();
	/* What could not be removed is there too. */
	bool may_be_more = !is_complete(s) || has_struck(s, 1 << FAULT_AGAIN | 1 << FAULT_INTERRUPT);
	if (files < entries || (files > entries && !may_be_more))
		fails(s, "%" PRIu64 " files for %" PRIu64 " entries", files, entries);
}

static unsigned open_files(void)
{
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static void scenario_check(struct scenario *s)
{
	check_requests(s);
	check_errors(s);
	check_damage(s);
	check_bytes(s);
	check_cache(s);
	for (uint32_t i = 0; i < s->runner->worker_count; i++)
		check_worker(s, &s->runner->workers[i]);
	if (is_on_disk)
		check_files(s);
	for (unsigned i = 0; i < s->tier_count && is_complete(s); i++)
		if (s->ram[i])
			check_memory(s, i);
}

/* ---- the range ---- */

/** What came out of all of them, so that a range that tests nothing is seen. */
static struct {
	uint64_t complete, with_errors, failed_requests, hangs, damage, completed;
} seen;

static void note(const struct scenario *s)
{
	seen.complete += is_complete(s);
	seen.with_errors += s->errors.total > 0;
	seen.failed_requests += metrics_qos_total(s->m, QOS_FAILED) > 0;
	seen.hangs += has_struck(s, 1 << FAULT_HANG);
	seen.damage += has_struck(s, ~0u << FAULT_BIT_FLIP);
	seen.completed += count(s, COUNT_REQUESTS_COMPLETED);
}

static uint64_t fingerprint(const struct scenario *s)
{
	uint64_t sum = s->errors.total;
	for (int c = 0; c < METRIC_COUNTER_COUNT; c++)
		if (c != COUNT_WORKER_CPU_NS && c != COUNT_READY_DELAY_NS)
			sum = rng_key(sum, count(s, (enum metric_counter)c));
	return sum;
}

static bool run_seed(uint64_t seed, bool is_verbose)
{
	static struct scenario s;
	uint64_t first = 0;
	bool is_ok = true;
	current_seed = seed;
	int rounds = seed % REPEAT_EVERY || is_on_disk ? 1 : 2;
	unsigned open_before = open_files();
	for (int round = 0; round < rounds && is_ok; round++) {
		scenario_draw(&s, seed);
		if (is_verbose && !round)
			printf("seed %" PRIu64 ": %s\n", seed, s.text);
		scenario_run(&s);
		scenario_check(&s);
		if (round && fingerprint(&s) != first)
			fails(&s, "the same seed came to something else");
		first = fingerprint(&s);
		if (!round)
			note(&s);
		uint64_t completed = count(&s, COUNT_REQUESTS_COMPLETED), failed = metrics_qos_total(s.m, QOS_FAILED);
		scenario_release(&s);
		if (open_files() != open_before)
			fails(&s, "%u files open, %u before", open_files(), open_before);
		is_ok = !s.why[0];
		if (is_verbose || !is_ok)
			printf("seed %" PRIu64 ": %" PRIu64 " completed, %" PRIu64 " failed, %" PRIu64 " errors: %s\n", seed, completed,
			       failed, s.errors.total, is_ok ? "holds" : s.why);
		if (!is_ok)
			printf("  %s\n", s.text);
	}
	return is_ok;
}

static void say_seed(int signal)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "signal %d in seed %llu\n", signal, (unsigned long long)current_seed);
	(void)!write(STDERR_FILENO, text, (size_t)n);
	_exit(1);
}

static bool disk_open(void)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(disk_path, sizeof(disk_path), "%s/scenarios_XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	if (mkdtemp(disk_path))
		disk_fd = open(disk_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return disk_fd >= 0;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fputs("usage: scenarios FIRST COUNT [--disk] [-v]\n", stderr);
		return 2;
	}
	bool is_verbose = false;
	for (int i = 3; i < argc; i++) {
		is_on_disk |= !strcmp(argv[i], "--disk");
		is_verbose |= !strcmp(argv[i], "-v");
	}
	if (is_on_disk && !disk_open())
		return 3;
	uint64_t begin = strtoull(argv[1], NULL, 10), number = strtoull(argv[2], NULL, 10), failed = 0;
	int users = mkstemp(users_path), trace = mkstemp(trace_path);
	if (users < 0 || trace < 0)
		return 3;
	close(users);
	close(trace);
	signal(SIGABRT, say_seed);
	signal(SIGSEGV, say_seed);
	for (int check = PAYLOAD_STAMPS; check <= PAYLOAD_FULL; check++)
		payloads[check] = payload_new(1, check);
	for (uint64_t seed = begin; seed < begin + number && failed < FAILURES_SHOWN; seed++)
		failed += !run_seed(seed, is_verbose);
	for (int check = PAYLOAD_STAMPS; check <= PAYLOAD_FULL; check++)
		payload_free(payloads[check]);
	unlink(users_path);
	unlink(trace_path);
	if (is_on_disk) {
		close(disk_fd);
		failed += rmdir(disk_path) != 0;
	}
	printf("%" PRIu64 " scenarios: %" PRIu64 " served to the end, %" PRIu64 " with errors, %" PRIu64 " with failed requests, %" PRIu64
	       " with hangs, %" PRIu64 " with damaged data; %" PRIu64 " requests completed; %" PRIu64 " failed%s\n",
	       number, seen.complete, seen.with_errors, seen.failed_requests, seen.hangs, seen.damage, seen.completed, failed,
	       failed ? "; run one again with its seed, 1 and -v" : "");
	/* A range that is large enough must have met everything. */
	bool is_thin = number >= 500 && (seen.complete < number / 20 || seen.with_errors < number / 10 || seen.hangs < number / 50 ||
					 seen.damage < number / 50 || seen.failed_requests < number / 20);
	if (is_thin)
		puts("the scenarios have become too tame to test anything");
	return failed || is_thin;
}
