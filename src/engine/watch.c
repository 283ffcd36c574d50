// SPDX-License-Identifier: Apache-2.0
/*
 * The main thread while workers work: progress for the person, samples of the machine at the window's two ends, and signals. A
 * first SIGINT, SIGTERM or SIGUSR1 closes the window, of every rank; a second one leaves at once.
 */
#include "engine/ranks.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "workload/key.h"

#define PROGRESS_TERMINAL_NS (NS_PER_S / 2)
#define PROGRESS_PLAIN_NS    (10 * NS_PER_S)
#define PROGRESS_BAR_WIDTH   20
#define SIGNAL_REPEAT_NS     (NS_PER_S / 2)
/* The kernel counts an I/O a little before its worker does: its counters are read this much before the window opens. */
#define WINDOW_LEAD_NS	     (10 * NS_PER_MS)
#define WATCH_STEP_NS	     (20 * NS_PER_MS)
/* A drain that takes longer than this is worth a word. */
#define DRAIN_TELL_NS	     (2 * NS_PER_S)

/* The last is what launchers pass on to every rank. */
static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaddset(set, signals[i]);
}

static void leave_at_once(int signal)
{
	(void)signal;
	_exit(EXIT_INTERRUPTED);
}

void watch_setup(void)
{
	/* Also where it was ignored, as a shell does with SIGINT of what it starts in the background: the run itself will take it, too. */
	struct sigaction leave = {.sa_handler = leave_at_once};
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &leave, NULL);
}

void watch_signals(void)
{
	sigset_t set;
	signal_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static bool signal_arrived(void)
{
	sigset_t set;
	signal_set(&set);
	struct timespec now = {0};
	return sigtimedwait(&set, NULL, &now) > 0;
}

/** A wish to stop, and when it came to this process (0: another rank had it). */
struct stop {
	bool is_asked;
	uint64_t signal_ns;
};

/* True once, when the first signal comes or another rank (@others) got one. A second signal leaves at once. */
static bool stop_is_first(struct engine *e, struct stop *s, bool others)
{
	bool has_signal = signal_arrived(), was_asked = s->is_asked;
	uint64_t now = clock_mono_ns();
	/* timeout(1) and some shells signal a process and then its group: that is one wish. */
	if (has_signal && s->signal_ns && now - s->signal_ns >= SIGNAL_REPEAT_NS)
		_exit(EXIT_INTERRUPTED);
	if (has_signal && !s->signal_ns) {
		s->signal_ns = now;
		ranks_stop(e);
	}
	s->is_asked = was_asked || has_signal || others;
	return s->is_asked && !was_asked;
}

static void sample_cpu(double *user_s, double *system_s)
{
	struct rusage ru;
	getrusage(RUSAGE_SELF, &ru);
	*user_s = (double)ru.ru_utime.tv_sec + (double)ru.ru_utime.tv_usec / 1e6;
	*system_s = (double)ru.ru_stime.tv_sec + (double)ru.ru_stime.tv_usec / 1e6;
}

static bool sample_disk(const struct engine *e, struct disk_counters *ret)
{
	const struct fs_facts *fs = &e->storage.fs;
	return e->is_file_backend && fs->has_block_device &&
	       !host_disk_counters("", fs->block_major, fs->block_minor, ret);
}

static double gb_per_s(uint64_t bytes, uint64_t ns)
{
	return ns ? (double)bytes / (double)ns : 0.0; /* bytes per ns are GB per s */
}

/* Text of one progress line, without a bar. */
static void progress_text(const struct engine *e, const struct runner_progress *p, const struct runner_progress *last,
			  char *text, size_t size)
{
	uint64_t span = p->now_ns - last->now_ns;
	size_t n = (size_t)snprintf(text, size, "%s%5.0f s", p->now_ns < p->window_begin_ns ? "warm-up " : "",
				    (double)p->now_ns / 1e9);
	for (unsigned i = 0; i < e->tier_count && n < size; i++) {
		enum tier_class t = e->tier[i]->class;
		n += (size_t)snprintf(text + n, size - n, " | %s in %.2f out %.2f GB/s", config_tier_name(t),
				      gb_per_s(p->bytes[t][DIR_WRITE] - last->bytes[t][DIR_WRITE], span),
				      gb_per_s(p->bytes[t][DIR_READ] - last->bytes[t][DIR_READ], span));
	}
	double left = p->window_end_ns > p->now_ns ? (double)(p->window_end_ns - p->now_ns) / 1e9 : 0.0;
	if (n < size)
		snprintf(text + n, size - n, " | %.1f req/s | %u in service, %u waiting | %.0f s left",
			 span ? (double)(p->completed - last->completed) * 1e9 / (double)span : 0.0, p->in_service,
			 p->waiting, left);
}

/* "[######----]  60 % " */
static void progress_bar(uint64_t done, uint64_t all, char bar[PROGRESS_BAR_WIDTH + 16])
{
	double share = all ? MIN((double)done / (double)all, 1.0) : 0.0;
	int filled = (int)(share * PROGRESS_BAR_WIDTH);
	char marks[PROGRESS_BAR_WIDTH + 1];
	memset(marks, '-', PROGRESS_BAR_WIDTH);
	memset(marks, '#', (size_t)filled);
	marks[PROGRESS_BAR_WIDTH] = '\0';
	snprintf(bar, PROGRESS_BAR_WIDTH + 16, "[%s] %3.0f %% ", marks, share * 100);
}

static void show_progress(const struct engine *e, const struct runner_progress *p, const struct runner_progress *last,
			  bool is_live)
{
	char text[256], bar[PROGRESS_BAR_WIDTH + 16], line[sizeof(text) + sizeof(bar)];
	progress_text(e, p, last, text, sizeof(text));
	progress_bar(p->now_ns, p->window_end_ns, bar);
	snprintf(line, sizeof(line), "%s%s", bar, text);
	if (is_live)
		log_live(line);
	else
		fprintf(stderr, "%s\n", text);
}

/* How this process shows what goes on: rank 0 only. */
static enum config_progress progress_kind(const struct engine *e)
{
	enum config_progress asked = (enum config_progress)e->cfg->opt.progress;
	if (e->cfg->opt.quiet || comm_rank(e->comm))
		return PROGRESS_OFF;
	if (asked != PROGRESS_AUTO)
		return asked;
	return isatty(STDERR_FILENO) ? PROGRESS_TERMINAL : PROGRESS_PLAIN;
}

static uint64_t progress_every(enum config_progress kind)
{
	return kind == PROGRESS_TERMINAL ? PROGRESS_TERMINAL_NS : PROGRESS_PLAIN_NS;
}

/*
 * What happens at the window's ends. Without warm-up the first sample comes before the start, so that the kernel's counters
 * cover all that the run counts; after a warm-up as close as this thread wakes, while I/O is in flight.
 */
static void watch_begin(struct engine *e, struct watch *w)
{
	w->has_begin = true;
	(void)sample_disk(e, &w->disk_begin);
	w->sampled_begin_ns = clock_mono_ns();
	sample_cpu(&w->cpu_user_s, &w->cpu_system_s);
}

static void watch_end(struct engine *e, struct watch *w)
{
	if (!w->has_begin || w->has_end)
		return;
	w->has_end = true;
	if (!sample_disk(e, &w->disk_end))
		w->disk_end = w->disk_begin;
	w->sampled_end_ns = clock_mono_ns();
	double user_s, system_s;
	sample_cpu(&user_s, &system_s);
	w->cpu_user_s = user_s - w->cpu_user_s;
	w->cpu_system_s = system_s - w->cpu_system_s;
}

static uint64_t next_step_ns(const struct runner_progress *p, uint64_t now_ns)
{
	uint64_t step = WATCH_STEP_NS;
	if (p->window_begin_ns > now_ns + WINDOW_LEAD_NS)
		step = MIN(step, p->window_begin_ns - WINDOW_LEAD_NS - now_ns);
	if (p->window_end_ns > now_ns)
		step = MIN(step, p->window_end_ns - now_ns);
	return MAX(step, NS_PER_MS / 10);
}

static void show_fill(const char *what, uint64_t done, uint64_t all, enum config_progress kind)
{
	char bar[PROGRESS_BAR_WIDTH + 16], line[128];
	progress_bar(done, all, bar);
	snprintf(line, sizeof(line), "%s%s: %" PRIu64 " of %" PRIu64 " entries", bar, what, done, all);
	if (kind == PROGRESS_TERMINAL)
		log_live(line);
	else if (kind == PROGRESS_PLAIN)
		log_info("%s", line + strlen(bar));
}

/* Return: false: a signal came, and what was being written has ended; or the storage stopped answering. */
static bool fill_wait(struct engine *e, const char *what, const struct runner_fill *fill, struct watch *ret)
{
	char size[32];
	struct stop stop = {0};
	enum config_progress kind = progress_kind(e);
	uint64_t every = progress_every(kind);
	uint64_t next = clock_mono_ns() + every;
	log_info("%s: writing %" PRIu64 " entries of %s", what, fill->count,
		 fmt_bytes(size, sizeof(size), fill->payload_bytes));
	runner_fill(e->runner, fill);
	while (!runner_wait(e->runner, WATCH_STEP_NS)) {
		static const struct runner_progress nothing;
		if (stop_is_first(e, &stop, ranks_tick(e, RANKS_FILL, &nothing))) {
			log_warning("interrupted while %s entries were written", what);
			runner_stop(e->runner);
		}
		if (clock_mono_ns() < next)
			continue;
		show_fill(what, runner_filled(e->runner), fill->count, kind);
		next += every;
	}
	log_live(NULL);
	if (runner_has_given_up(e->runner))
		log_error("%s: nothing was written for %" PRId64 " s: there is no run", what,
			  e->cfg->opt.drain_timeout_s);
	ret->was_interrupted = stop.is_asked;
	return !stop.is_asked && !runner_has_given_up(e->runner);
}

bool watch_fill(struct engine *e, struct watch *ret)
{
	const struct config_options *o = &e->cfg->opt;
	unsigned storage = e->tier_count - 1;
	uint64_t bytes = config_entry_bytes(e->cfg, ENGINE_FILL_TOKENS);
	uint64_t target = o->precondition_size_gib > 0 ? (uint64_t)(o->precondition_size_gib * ENGINE_GIB)
						       : 2 * e->tier[storage]->limit_bytes;
	struct runner_fill precondition = {
		.key = key_filler,
		.count = (target + bytes - 1) / bytes,
		.payload_bytes = bytes,
		.first_tier = storage,
		.parallel = (uint32_t)(o->precondition_threads ? o->precondition_threads : e->host.cores_logical),
	};
	struct runner_fill prepare = {
		.key = key_prepared,
		.count = e->runner_setup.prepared,
		.payload_bytes = bytes,
		.parallel = e->runner_setup.in_service_max,
	};
	return (!o->precondition || fill_wait(e, "precondition", &precondition, ret)) &&
	       (!o->decode_only || fill_wait(e, "decode-only", &prepare, ret));
}

void watch_run(struct engine *e, struct watch *ret)
{
	*ret = (struct watch){0};
	enum config_progress kind = progress_kind(e);
	uint64_t every = progress_every(kind);
	clock_iso_utc(ret->started_utc, time(NULL));
	if (!e->runner_setup.warmup_ns)
		watch_begin(e, ret);
	runner_start(e->runner);
	uint64_t start = clock_mono_ns();
	uint64_t next = start + every;
	ret->begin_ns = start + e->runner_setup.warmup_ns;
	struct stop stop = {0};
	bool is_drain_told = false;
	struct runner_progress p = {0}, last = {0};
	for (;;) {
		runner_progress(e->runner, &p);
		intervals_write(e);
		uint64_t elapsed = clock_mono_ns() - start;
		if (!e->cfg->opt.simulate)
			p.now_ns = elapsed;
		if (!ret->has_begin && p.now_ns + WINDOW_LEAD_NS >= p.window_begin_ns)
			watch_begin(e, ret);
		if (p.now_ns >= p.window_end_ns)
			watch_end(e, ret);
		if (runner_wait(e->runner, next_step_ns(&p, p.now_ns)))
			break;
		if (stop_is_first(e, &stop, ranks_tick(e, RANKS_RUN, &p))) {
			ret->was_interrupted = true;
			log_warning("interrupted: closing the window; a second signal leaves at once");
			runner_stop(e->runner);
		}
		if (!is_drain_told && elapsed > DRAIN_TELL_NS + p.window_end_ns && !e->cfg->opt.simulate) {
			is_drain_told = true;
			log_info("waiting for I/O in flight, up to %" PRId64 " s in all", e->cfg->opt.drain_timeout_s);
		}
		if (kind != PROGRESS_OFF && clock_mono_ns() >= next) {
			ranks_progress(e, &p);
			show_progress(e, &p, &last, kind == PROGRESS_TERMINAL);
			last = p;
			next += every;
		}
	}
	watch_end(e, ret);
	intervals_write(e);
	intervals_close(e);
	log_live(NULL);
	clock_iso_utc(ret->ended_utc, time(NULL));
}
