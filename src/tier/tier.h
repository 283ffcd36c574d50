/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier/tier.h - places that hold entries: ram, file, null, model, and a wrapper that makes them fail. One table of functions each.
 *
 * Receives: struct tier_op.  Gives: the same struct back from tier_poll(), complete or failed.
 * Must not know: the cache, requests, the window, metrics.
 *
 * A tier is shared by all workers; each worker opens its own struct tier_worker and uses it on its own thread only.
 * submit never completes inline; completions come only from poll. An entry's life in a tier:
 *
 *   TIER_CREATE, TIER_WRITE x chunks, [TIER_SYNC]*, TIER_COMMIT   -> obj->location names it from now on
 *   TIER_CREATE, ... , TIER_ABORT                                 -> nothing is left
 *   TIER_OPEN, TIER_READ x chunks, TIER_CLOSE                     -> may overlap with other readers
 *   TIER_DELETE                                                   -> after the last reader
 *
 * Tiers with TIER_CAP_WHOLE take one TIER_READ or TIER_WRITE for the whole entry, without buffer, and no other op: creating, committing,
 * closing and deleting are nothing there and are not submitted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "config/config.h"
#include "io/io.h"
#include "payload/payload.h"

enum { TIER_PAYLOAD_ALIGN = 4096 }; /* stored payload is padded to this */

enum tier_op_kind {
	TIER_CREATE, /* make room for an entry (file: open, preallocate) */
	TIER_WRITE,
	TIER_SYNC,   /* make what was written so far durable (buffered files) */
	TIER_COMMIT, /* make durable as --sync says and close; obj->location is set */
	TIER_ABORT,  /* remove a created, uncommitted entry; valid after a failed CREATE, WRITE, SYNC or COMMIT too */
	TIER_OPEN,   /* start reading (buffered files: drop the file's pages first) */
	TIER_READ,
	TIER_CLOSE,
	TIER_DELETE, /* remove a committed entry */
};

/** One entry in use by one operation. The caller's storage; zeroed but for the first group. */
struct tier_object {
	uint64_t key;
	uint32_t generation;
	uint64_t payload_bytes;
	uint64_t location; /* in for OPEN and DELETE, out of COMMIT */
	/* the tier's own */
	int fd;		   /* file */
	uint64_t cursor;   /* ram: page of the last chunk; chunks of one object are submitted in ascending order */
	uint64_t cursor_offset; /* ram: where in the entry that page starts */
	uint64_t chain;	   /* ram: first and last page */
	char name[64];	   /* file */
	void *header;	   /* file: page of the npy header while the first chunk is in flight */
};

/** One operation. The caller owns it and keeps it and its buffer from submit to poll. */
struct tier_op {
	enum tier_op_kind kind;
	struct tier_object *obj;
	/* READ, WRITE */
	uint64_t offset; /* in the stored payload, a multiple of TIER_PAYLOAD_ALIGN */
	uint64_t len;	 /* multiple of TIER_PAYLOAD_ALIGN; whole-entry tiers: payload_bytes */
	void *buf;
	int32_t buffer_index; /* registered buffer, -1: none */
	struct io_fault fault; /* file: of its first io_op */
	/* results */
	int result;	      /* 0 or -errno */
	uint32_t retries;
	uint64_t begin_ns, end_ns; /* model: start and end of its service time; else 0. end_ns UINT64_MAX: it will never end */
	uint32_t pages_sampled, pages_resident; /* OPEN of a buffered file: looked at, and in memory, after the drop */
	uint64_t sync_ns;     /* COMMIT, SYNC: length of the fsync alone; 0: none was done */
	/* the tier's */
	struct io_op io;
	int state;
	uint64_t io_ns;
	struct list node;
	/* the fault wrapper's */
	int32_t fault_rule; /* -1: none struck */
	uint64_t fault_value;
	/* the caller's */
	void *owner;
};

/** tier_op_init() - a fresh operation without data: clears all but the tier's own part, which the tier clears itself. */
static inline void tier_op_init(struct tier_op *op, enum tier_op_kind kind, struct tier_object *obj,
				void *owner)
{
	op->kind = kind;
	op->obj = obj;
	op->offset = 0;
	op->len = 0;
	op->buf = NULL;
	op->buffer_index = -1;
	op->fault = (struct io_fault){0};
	op->result = 0;
	op->retries = 0;
	op->begin_ns = 0;
	op->end_ns = 0;
	op->sync_ns = 0;
	op->pages_sampled = op->pages_resident = 0;
	op->owner = owner;
}

enum tier_caps {
	TIER_CAP_WHOLE = 1 << 0,	/* whole entries, no data (null, model) */
	TIER_CAP_VIRTUAL = 1 << 1,	/* may run on the virtual clock (null, model) */
	TIER_CAP_COMMIT_COUNTS = 1 << 2, /* written bytes are on the medium only after SYNC or COMMIT (buffered files with sync) */
	TIER_CAP_PAGE_CACHE = 1 << 3,	/* reads may come from memory (buffered files) */
	TIER_CAP_FILES = 1 << 4,	/* its operations are operations on files, by struct io */
	TIER_CAP_COPIES = 1 << 5,	/* poll moves the bytes itself: nothing goes on while nobody polls (ram) */
};

struct tier;
struct tier_worker;

/** What every tier implements. Instances are static const, one per kind. Optional hooks may be NULL. */
struct tier_ops {
	const char *kind; /* "ram" ... */
	/** worker_open: on the worker's thread, before the window. @io: the worker's queue, NULL for tiers that need none. 0 or -ENOMEM. */
	int (*worker_open)(struct tier *t, struct io *io, uint32_t ops_max, struct tier_worker **ret);
	/** worker_close: on the worker's thread, nothing outstanding. Accepts NULL. */
	void (*worker_close)(struct tier_worker *w);
	/** submit: take over @op. Worker's thread. Never completes inline, never blocks, never fails: failures are results. */
	void (*submit)(struct tier_worker *w, struct tier_op *op, uint64_t now_ns);
	/** poll: hand back up to @max finished operations. Worker's thread, does not block; may do one long copy per call (ram). */
	unsigned (*poll)(struct tier_worker *w, uint64_t now_ns, struct tier_op **ret, unsigned max);
	/** deadline: when poll() will have something without outside help: 0 now, UINT64_MAX never or unknown (I/O). Optional: then never. */
	uint64_t (*deadline)(const struct tier_worker *w);
	/** cancel: nobody waits any longer: let what can be had back complete, with -ECANCELED or as it may. Optional: nothing can. */
	void (*cancel)(struct tier_worker *w);
	/** describe: "tier 'file' PATH offset N" for an operation that failed, into @buf. */
	void (*describe)(const struct tier *t, const struct tier_op *op, char *buf, size_t size);
	void (*free)(struct tier *t); /* all workers closed; accepts half-built */
};

/** Common head of every tier; set at creation, then constant. */
struct tier {
	const struct tier_ops *ops;
	enum tier_class class;
	unsigned caps; /* enum tier_caps */
	uint64_t limit_bytes;
	uint64_t header_bytes, granule_bytes; /* footprint: header + payload rounded up to granule */
};

/* ---- one constructor per kind; all give a tier for tier_free() ---- */

/** tier_ram_new() - an arena of @limit_bytes in 64 KiB pages, touched now. -ENOMEM: the machine does not have it. */
int tier_ram_new(enum tier_class class, uint64_t limit_bytes, struct tier **ret, struct error *err);

/** tier_null_new() - takes everything, gives nothing, in no time. */
int tier_null_new(enum tier_class class, uint64_t limit_bytes, struct tier **ret);

/** tier_model_new() - a FIFO server: start = max(now, free), free = start + bytes / bandwidth, done = free + latency. Shared by all workers. */
int tier_model_new(enum tier_class class, uint64_t limit_bytes, const struct config_model_tier *model,
		   struct tier **ret);

/** Setup of the file tier. */
struct tier_file_setup {
	int dirfd;		 /* <cache-dir>/kvcache.d, locked; borrowed */
	const char *path;	 /* of it, for messages; copied */
	uint64_t limit_bytes;
	const struct config *cfg; /* model (array shape), sync; borrowed */
	bool is_direct;		 /* effective mode */
};
/** tier_file_new() - entries as .npy files in a directory. */
int tier_file_new(const struct tier_file_setup *setup, struct tier **ret);

/** tier_file_clean() - remove every file of our own name pattern below @dirfd, nothing else. @removed may be NULL. 0 or the first -errno. */
int tier_file_clean(int dirfd, uint64_t *removed);

/** What the fault wrapper needs beside the tier. */
struct tier_fault_setup {
	const struct config_fault_plan *plan; /* borrowed */
	const struct payload *payload;	      /* for blocks of an older generation; NULL where no tier holds data */
	uint32_t rank;
};
/**
 * tier_fault_new() - the same tier, whose operations fail as a plan says
 * @inner: taken over, also where this fails   Return: 0 or -ENOMEM.
 * A rule is deterministic in the number of operations that it met so far, of all workers together.
 */
int tier_fault_new(struct tier *inner, const struct tier_fault_setup *setup, struct tier **ret);
/** tier_fault_struck() - how often rule @index struck in this tier: operations handed back, or withheld. Threads: any. */
uint64_t tier_fault_struck(const struct tier *t, uint32_t index);

/** tier_free() - NULL is fine. */
void tier_free(struct tier *t);

/** tier_stored_bytes() - payload padded to TIER_PAYLOAD_ALIGN: what chunks cover. */
static inline uint64_t tier_stored_bytes(uint64_t payload_bytes)
{
	return (payload_bytes + TIER_PAYLOAD_ALIGN - 1) & ~(uint64_t)(TIER_PAYLOAD_ALIGN - 1);
}
