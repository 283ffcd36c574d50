/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner/internal.h - the runner's own structs; for src/runner only.
 *
 * admission.c  who is served next            program.c   a request as a state machine of steps
 * transfer.c   one entry through the tiers   place.c     where it is written, and what must go for it
 * chunk.c      its data, chunk by chunk      permits.c   how many may be written at once
 * worker.c     the event loop                runner.c    threads, window, collection
 * series.c     slots and intervals of the run
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/mem.h"
#include "runner/runner.h"
#include "workload/key.h"

enum { SERIES_PIECES = 6 }; /* intervals that a worker may be ahead of their reader */

/* ---- admission: streams, arrivals, levels ---- */

/** One user's place in its own stream. */
struct admission_user {
	struct workload_cursor served;
	uint64_t next_arrival_ns; /* of the first request not yet admitted */
};

struct admission {
	/* When the next request can be taken (0: now, UINT64_MAX: not before somebody leaves); written with the lock held, when it changes. */
	_Atomic uint64_t due_ns;
	ATTR_CACHE_ALIGNED pthread_mutex_t lock; /* guards everything below */
	struct workload *workload;
	const struct config *cfg;
	struct admission_user *users;
	uint32_t user_count;
	struct heap timers;	      /* users whose next request is not due */
	struct heap ready[QOS_COUNT]; /* users whose next request is due, by its arrival */
	uint32_t in_service, in_service_max;
	bool is_trace, is_closed_loop;
	uint64_t start_ns; /* of the run, on the runner's clock: streams begin here */
	/* trace: the row at the head, read but not admitted */
	struct request head;
	bool has_head, is_exhausted;
	uint64_t head_arrival_ns;
	uint64_t bad_rows;
	uint64_t window_begin_ns;
	uint64_t due_before[QOS_COUNT]; /* due before the window opened: of the admitted, at the end of all */
	uint64_t admitted[QOS_COUNT]; /* since the start, warm-up included */
};

int admission_init(struct admission *a, const struct runner_setup *setup);
/** admission_start() - the streams begin at @start_ns; before any other call but init. */
void admission_start(struct admission *a, uint64_t start_ns, uint64_t window_begin_ns);
void admission_release(struct admission *a);
/** admission_take() - the request to serve now, if one is due and a place is free; @r's buffers are reused. */
bool admission_take(struct admission *a, uint64_t now_ns, struct request *r, uint64_t *ret_arrival_ns);
/** admission_done() - a request left service (closed loop: its user's next one is timed from here). */
void admission_done(struct admission *a, const struct request *r, uint64_t now_ns);
/** admission_deadline() - when the next request becomes due; 0: one is due now; UINT64_MAX: none will. */
uint64_t admission_deadline(struct admission *a);
/** admission_is_over() - the trace is used up and nothing is in service. */
bool admission_is_over(struct admission *a);
/** admission_count() - at the end: offered, queued and ages per level into @m. */
void admission_count(struct admission *a, uint64_t end_ns, struct metrics *m);
uint32_t admission_waiting(struct admission *a);

/* ---- transfers ---- */

struct worker;
struct task;

enum transfer_kind { TRANSFER_READ, TRANSFER_WRITE, TRANSFER_MOVE, TRANSFER_DELETE };

enum transfer_state {
	TRANSFER_FREE,	     /* in the pool */
	TRANSFER_PERMIT,     /* write: waits for one of --max-concurrent-allocs */
	TRANSFER_PLACE_WAIT, /* write: joined another writer, or waits for room in the last tier */
	TRANSFER_STEPS,	     /* write: its plan's moves and deletions run */
	TRANSFER_READY,	     /* waits for one of --ops-in-flight */
	TRANSFER_OPEN,	     /* from here on counted in ops_active; read or move: opening the source */
	TRANSFER_CREATE,     /* write or move: creating the destination */
	TRANSFER_DATA,	     /* chunks */
	TRANSFER_SYNC,	     /* buffered write: flushing what was written so far */
	TRANSFER_CLOSE,	     /* closing the source */
	TRANSFER_COMMIT,     /* making the destination durable */
	TRANSFER_ABORT,	     /* removing a failed destination */
	TRANSFER_REMOVE,     /* deleting */
};

/** What an entry is moved for; decides which counters it feeds. */
enum transfer_purpose {
	FOR_PREFIX,
	FOR_TURN,
	FOR_PREFILL,
	FOR_DECODE,
	FOR_DECODE_WRITE, /* the probe missed */
	FOR_PREFIX_WRITE,
	FOR_FILL, /* before the run */
	FOR_ROOM, /* demotion, deletion */
};

/**
 * One entry on its way. Pooled per worker; worker-owned but for what mail says. Millions of them pass in a simulated hour, so
 * only the first part is cleared for a new one; the rest is written where it is first used.
 */
struct transfer {
	struct worker *worker;
	enum transfer_kind kind;
	enum transfer_state state;
	enum transfer_purpose purpose;
	int error;	       /* first failure; -ECANCELED: the run is over */
	struct task *task;     /* whose step this is; NULL: making room */
	uint64_t key, payload_bytes;
	uint64_t stored_bytes;
	uint64_t next_offset;  /* first byte no chunk was submitted for */
	uint64_t done_bytes;   /* stored bytes through */
	uint64_t dirty_bytes;  /* buffered: written, not yet durable */
	uint64_t whole_counted; /* whole-entry operation in flight: bytes counted so far */
	uint64_t payload_uncounted; /* the payload share of dirty_bytes that completed */
	uint64_t issue_ns, submit_ns;
	uint64_t end_ns; /* of the data, of a read before it is checked; of a write or move with its commit */
	uint32_t chunks;       /* in flight or waiting for their check */
	bool is_source_open, is_target_open;
	bool has_submitted;    /* submit_ns is set */
	bool wants_sync;
	bool is_not_cold; /* read: another reader of the file was there first */
	bool is_eviction;      /* delete: to make room, not the source of a demotion */
	struct list node;      /* ready, active, planning, or a free list */
	struct list permit_node; /* permits' FIFO; guarded by its lock */
	/* not cleared from here on */
	struct list mail;	 /* guarded by the worker's mailbox lock */
	struct cache_ref ref;	/* read, delete: the bytes */
	struct cache_step step; /* move */
	struct cache_plan plan; /* write */
	struct tier_object source, target;
	struct tier_op control; /* everything but chunks; whole-entry tiers: the transfer itself */
};

enum { NOISE_USES_MAX = 128 };

/** What an earlier write left in a buffer, for another to use. */
struct noise {
	uint64_t bytes; /* 0: there is none */
	uint32_t uses;
	struct {
		uint32_t name, block; /* of the entry, in the entry */
	} used[NOISE_USES_MAX]; /* where it was written: every place, so that none is overlooked */
};

enum { CHUNK_UNCHECKED_MAX_NS = 5000000 }; /* no chunk that was read waits longer for its check */

/** One chunk with its buffer. A move's chunk is read into the buffer, then written out of it. */
struct chunk {
	struct tier_op op;
	struct transfer *transfer; /* NULL: not in use */
	void *buf;
	uint64_t arrived_ns; /* on chunks_unchecked: when it was there */
	int32_t index;
	bool is_write;
	struct list node;
	struct noise noise;
};

/** --max-concurrent-allocs: a counting semaphore that hands over in order. */
struct permits {
	pthread_mutex_t lock;
	int64_t free;
	bool is_limited;
	struct list waiting; /* transfers, by permit_node */
};

/* ---- requests in service ---- */

enum task_step {
	STEP_PREFIX,
	STEP_TURNS,
	STEP_PREFILL,
	STEP_DECODE_PROBE,
	STEP_DECODE,
	STEP_BLOCKS_READ,
	STEP_BLOCKS_WRITE,
	STEP_GENERATION,
	STEP_FILL,
	STEP_END, /* not in service: done, or not begun */
};

/** A request in service: a program of steps, each a list of entries. */
struct task {
	struct worker *worker;
	struct request request;
	uint64_t arrival_ns, start_ns;
	enum task_step step;
	uint32_t issued, count; /* entries of this step issued so far, and in all */
	uint32_t in_flight;
	uint32_t blocks_hit;   /* trace: length of the cached prefix */
	bool is_hungry;	       /* wants a transfer, none was free */
	bool has_prefilled, has_decoded; /* there is a latency to record */
	bool has_decode_miss;
	bool has_failed; /* a read or write of its own did not succeed, or the write that it waited for */
	bool is_fill; /* no request: one entry written before the run */
	uint64_t own_key;
	uint64_t storage_ns, prefill_ns, decode_ns, generation_ns;
	struct list node; /* free list or hungry */
};

/* ---- a worker ---- */

enum { WORKER_BATCH = 64 };

/** What a worker recorded in one interval, on its way to the reader. */
struct series_piece {
	struct metrics *m;
	uint64_t number;
	struct runner_load load;
};

struct worker {
	struct runner *run;
	unsigned index;
	pthread_t thread;
	struct io *io;
	int wake_fd; /* only without io */
	struct tier_worker *tier[TIER_CLASSES];
	struct metrics *m;
	uint32_t commands_seen;
	uint64_t now_ns;
	bool is_draining;
	int setup_rc;
	struct error setup_err;
	struct strlist notices; /* what its queue has to do without */

	struct task *tasks;
	uint32_t task_count, tasks_busy;
	struct list tasks_free;
	struct list hungry;

	struct transfer *transfers;
	uint32_t transfer_count;
	struct list transfers_free;
	uint32_t transfers_free_count; /* room_max - room_active of them are kept for making room */
	struct list ready;    /* wait for an operation slot */
	struct list active;   /* have chunks to submit, round-robin */
	struct list planning; /* writes with steps to hand out */
	uint32_t ops_active, ops_max;
	uint32_t room_active, room_max; /* moves and deletions */
	uint32_t tier_outstanding[TIER_CLASSES];
	bool is_stuck;	      /* operations were given up that may still touch their buffers */

	struct chunk *chunks;
	uint32_t chunk_count;
	uint32_t chunks_busy; /* in use: in flight, or read and unchecked */
	uint32_t chunks_max;  /* this worker's share of --io-depth: in flight at most */
	uint32_t chunks_copying; /* in use, at tiers that copy when they are polled */
	struct list chunks_free;  /* without noise; the last used is the next, it is still in the processor's cache */
	struct list chunks_noise; /* with noise; the longest unused is the next */
	struct list chunks_unchecked; /* of the busy ones: read, to be checked; oldest first */
	uint32_t unchecked, unchecked_max;
	void *buffers;
	size_t buffers_bytes;
	uint64_t dirty_bytes, dirty_max_bytes;

	struct heap timers; /* simulated token generation */
	uint64_t cpu_begin_ns, ready_begin_ns; /* at the window's begin */
	bool has_cpu_begin;

	/* series.c */
	uint64_t boundary_ns;	  /* the next end of a slot or an interval */
	uint64_t counted_from_ns; /* what happens before counts nowhere: the window's begin; with intervals the warm-up's, while it lasts */
	uint64_t interval_end_ns;
	struct metrics *window_m; /* during a warm-up with intervals: the window's metrics, not used yet */
	uint64_t handed_over[METRIC_COUNTER_COUNT]; /* counted in pieces of the window */
	uint64_t slot_bytes[RUNNER_SLOTS_MAX][TIER_CLASSES], slot_base[TIER_CLASSES];
	unsigned slots;
	struct runner_load load; /* when the window closed */
	/* guarded by the runner's lock */
	uint64_t intervals; /* passed */
	struct series_piece piece[SERIES_PIECES]; /* oldest first */
	unsigned pieces;
	struct metrics *spare[SERIES_PIECES]; /* empty */
	unsigned spares;

	/* mailbox: transfers poked by other workers */
	ATTR_CACHE_ALIGNED pthread_mutex_t mail_lock;
	struct list mail;
	atomic_bool has_mail; /* a hint that saves the lock: set with the lock held, read without */
	atomic_bool is_sleeping;

	/* published once per loop turn for runner_progress(): relaxed, nothing pairs with them */
	ATTR_CACHE_ALIGNED _Atomic uint64_t live_bytes[TIER_CLASSES][DIRECTIONS];
	_Atomic uint64_t live_completed;
	_Atomic uint64_t live_now_ns;
	_Atomic uint32_t live_in_service;
};

enum runner_command { COMMAND_FILL, COMMAND_RUN };

struct runner {
	struct runner_setup setup;
	struct admission admission;
	struct permits permits;
	struct worker *workers;
	uint32_t worker_count;
	uint32_t started; /* threads to join */
	uint64_t origin_ns; /* real clock: its zero, when the runner was made */
	uint64_t start_ns;  /* runner_start() */
	atomic_bool has_given_up; /* a fill that did not go on was left */
	struct runner_fill fill;
	_Atomic uint64_t fill_next, fill_done;
	uint64_t virtual_ns;
	uint64_t window_begin_ns;
	uint32_t chunk_bytes;
	uint32_t batch; /* chunks that are filled, or taken back, between two looks at the rest */
	uint64_t generation_ns_per_token;
	uint32_t request_parallel;
	_Atomic uint64_t stop_ns; /* end of the window; only ever lowered (relaxed: a time, read every turn) */
	atomic_bool is_interrupted;
	atomic_bool is_stop_asked; /* virtual clock: only its worker knows what time it is */
	atomic_bool is_quit; /* leave before the start: set-up failed elsewhere */
	/* Written while they run: not beside what every worker reads all the time. */
	ATTR_CACHE_ALIGNED _Atomic uint64_t completed; /* for --max-requests */
	pthread_mutex_t lock; /* guards what follows, with cond */
	pthread_cond_t cond;
	uint32_t ready_workers, finished_workers;
	enum runner_command command;
	uint32_t commands; /* given so far */
	bool has_started;
	/* series.c; counted_m is the sum of the window's intervals */
	uint64_t slot_ns;
	uint64_t intervals, interval_begin_ns; /* the next one to be read */
	bool has_last_interval;
	struct metrics *interval_m, *counted_m;
};

/* time and the window */
uint64_t run_now(const struct worker *w);
static inline bool in_window(const struct worker *w, uint64_t ns)
{
	return ns >= w->counted_from_ns && ns < atomic_load_explicit(&w->run->stop_ns, memory_order_relaxed);
}
void run_stop_at(struct runner *r, uint64_t ns);

/* series.c: the run over time */
int series_open(struct runner *r);
void series_free(struct runner *r);
int series_init(struct worker *w);
void series_release(struct worker *w);
/** series_start() - the worker's loop begins. */
void series_start(struct worker *w);
/** series_cross() - now_ns has reached boundary_ns: close what ended there. */
void series_cross(struct worker *w);
/** series_close() - the window is closed: account what is in flight, close the last slot. */
void series_close(struct worker *w);
/** series_count() - a counter over the window so far. */
uint64_t series_count(const struct worker *w, enum metric_counter c);
/** series_sum() - all that was counted in the window, and the slots. */
int series_sum(const struct runner *r, struct metrics *ret, struct runner_outcome *outcome);

/** worker_clock() - read the clock; before anything is recorded with its time. */
static inline void worker_clock(struct worker *w)
{
	w->now_ns = run_now(w);
	if (w->now_ns >= w->boundary_ns)
		series_cross(w);
}

static inline void count_add(struct worker *w, enum metric_counter c, uint64_t n)
{
	w->m->count[c] += n;
}
static inline struct tier *tier_of(const struct worker *w, unsigned index)
{
	return w->run->setup.tier[index];
}
static inline bool tier_is_whole(const struct worker *w, unsigned index)
{
	return tier_of(w, index)->caps & TIER_CAP_WHOLE;
}

/* transfer.c: the state machine */
enum start_outcome { START_ISSUED, START_MISS, START_MISS_IN_FLIGHT, START_NONE };
/** transfer_new() - take one from the pool, cleared; there must be one. transfer_free() gives it back. */
struct transfer *transfer_new(struct worker *w, enum transfer_kind kind, struct task *task,
			      enum transfer_purpose purpose);
void transfer_free(struct transfer *x);
/** transfer_read() - look @key up and, when it is there, start reading it. A free transfer must exist. */
enum start_outcome transfer_read(struct worker *w, struct task *t, uint64_t key,
				 enum transfer_purpose purpose);
/** transfer_ready() - queue for one of --ops-in-flight. */
void transfer_ready(struct transfer *x);
/** transfer_remove() - become the deletion of @ref; x is counted in room_active. */
void transfer_remove(struct transfer *x, const struct cache_ref *ref);
/** transfer_leave() - a write is over, with or without I/O: its permit goes on, its task is told, x is freed. */
void transfer_leave(struct transfer *x, bool is_ok);
/** transfer_continue() - a chunk ended: when none is in flight, go on to what comes next. */
void transfer_continue(struct transfer *x);
/** transfer_fail() - count and tell a failed operation, or wrong data when @mismatch is not NULL; the first error of x stands. */
void transfer_fail(struct transfer *x, unsigned tier, const struct tier_op *op,
		   const struct payload_mismatch *mismatch);
void transfer_submit(struct worker *w, unsigned tier, struct tier_op *op);
/** transfer_object() - make @ret the object of @ref, not open. */
void transfer_object(struct tier_object *ret, const struct cache_ref *ref);
unsigned transfer_source_tier(const struct transfer *x);
unsigned transfer_target_tier(const struct transfer *x);
void count_tier_bytes(struct worker *w, unsigned tier, enum metric_direction dir, uint64_t bytes);
/** transfers_pump() - hand out steps, fill operation slots, submit chunks. Return: true when something moved. */
bool transfers_pump(struct worker *w);
/** transfers_poll() - take completions from the tiers. Return: true when there were any. */
bool transfers_poll(struct worker *w);
/** transfers_cancel() - the window is over: every transfer ends as soon as its I/O does. */
void transfers_cancel(struct worker *w);
bool transfers_idle(const struct worker *w);
/** transfers_abandon() - count and tell every operation that has not come back: nobody waits for it any longer. */
void transfers_abandon(struct worker *w);
/** transfers_account_whole() - whole-entry transfers in flight: count their bytes up to @until_ns. */
void transfers_account_whole(struct worker *w, uint64_t until_ns);
/** transfers_count_from() - from now on only what moves after @from_ns counts. */
void transfers_count_from(struct worker *w, uint64_t from_ns);

/* place.c: where an entry is written */
/** transfer_write() - place and write an entry. START_NONE: nothing to do (resident, empty, too large). */
enum start_outcome transfer_write(struct worker *w, struct task *t, uint64_t key,
				  uint64_t payload_bytes, enum transfer_purpose purpose);
/** transfer_poke() - mail arrived: look at what changed. */
void transfer_poke(struct transfer *x);
/** transfer_wake() - struct cache_plan's wake hook: post the transfer to its worker. */
void transfer_wake(struct cache_plan *plan);
/** places_pump() - hand out steps of plans that waited for a free transfer. */
bool places_pump(struct worker *w);

/* chunk.c: the data */
/** chunks_pump() - submit chunks while buffers and data last, one of each active transfer in turn. */
bool chunks_pump(struct worker *w);
void chunk_ended(struct worker *w, struct chunk *c, unsigned tier);
/** chunks_check() - check what has waited long enough. Return: true when there was any. */
bool chunks_check(struct worker *w);
/** chunks_check_all() - nothing waits any longer. */
void chunks_check_all(struct worker *w);
/** chunks_deadline() - when what waits must be checked at the latest; UINT64_MAX: nothing does. */
uint64_t chunks_deadline(const struct worker *w);

/* permits.c */
void permits_init(struct permits *p, int64_t count);
/** permit_take() - false: the transfer waits in line and is poked when it has one. */
bool permit_take(struct transfer *x);
void permit_give(struct transfer *x);

/* program.c */
void task_begin(struct task *t);
/** task_begin_fill() - not a request: write entry @number of the runner's fill. */
void task_begin_fill(struct task *t, uint64_t number);
/** task_transfer_ended() - one entry of the task's step ended; @total_ns: its latency, @is_ok: it moved bytes. */
void task_transfer_ended(struct task *t, const struct transfer *x, uint64_t total_ns, bool is_ok);
void task_advance(struct task *t);
/** tasks_feed_hungry() - a transfer was freed: tasks that lacked one go on. */
void tasks_feed_hungry(struct worker *w);
void task_generation_over(struct task *t);
uint64_t entry_tokens(const struct worker *w, uint64_t payload_bytes);

/* worker.c */
void *worker_main(void *arg);
int worker_init(struct worker *w, struct runner *r, unsigned index);
void worker_release(struct worker *w);
/** worker_share() - worker @index's part of @total: parts add up to it, but nobody is left without. */
uint32_t worker_share(uint32_t total, uint32_t workers, unsigned index);
/** worker_sizes() - how large the pools of worker @index are; a pure function of the set-up (runner.c). */
void worker_sizes(const struct runner_setup *s, unsigned index, struct worker *w);
/** worker_post() - put @x into its worker's mailbox and wake it. Threads: any. */
void worker_post(struct transfer *x);
void worker_wake(struct worker *w);
