// SPDX-License-Identifier: Apache-2.0
/*
 * The doorway of the room: one interface over synthetic users and a trace, and the fingerprint that
 * says whether two runs were asked the same. The fingerprint covers the requests and nothing else:
 * not the model's bytes, not how the server answers.
 */
#include "workload/workload.h"

#include <assert.h>
#include <stdlib.h>

#include <xxhash.h>

#include "base/mem.h"
#include "workload/internal.h"

enum {
	FINGERPRINT_REQUESTS = 64, /* per user */
	FINGERPRINT_ROWS = 65536,  /* of a trace */
	REQUEST_BYTES = 58,        /* what put_request() writes */
};

struct workload {
	/* synthetic */
	struct stream_params params;
	struct user *users;
	uint32_t user_count;
	/* trace */
	struct trace *trace;
	double speedup;
	uint64_t first_ns; /* time stamp of the first good row */
	bool has_first;
	uint64_t fingerprint;
};

void request_release(struct request *r)
{
	free(r->blocks);
	*r = (struct request){0};
}

static unsigned char *put_le(unsigned char *to, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*to++ = (unsigned char)(value >> 8 * i);
	return to;
}

/* The request's fields in a byte order that is the same on every machine. */
static unsigned char *put_request(unsigned char *to, const struct request *r)
{
	unsigned char *start = to;

	to = put_le(to, r->gap_ns, 8);
	to = put_le(to, r->sequence, 8);
	to = put_le(to, r->user, 4);
	to = put_le(to, r->conversation, 4);
	to = put_le(to, r->turn, 4);
	to = put_le(to, r->context_tokens, 4);
	to = put_le(to, r->generated_tokens, 4);
	to = put_le(to, (uint32_t)r->prefix, 4);
	to = put_le(to, r->qos, 1);
	to = put_le(to, r->phase, 1);
	to = put_le(to, r->input_tokens, 8);
	to = put_le(to, r->block_tokens, 4);
	to = put_le(to, r->block_count, 4);
	assert(to - start == REQUEST_BYTES);
	(void)start; /* release builds */
	return to;
}

static uint64_t fingerprint_user(struct workload *w, uint32_t user)
{
	unsigned char bytes[FINGERPRINT_REQUESTS * REQUEST_BYTES], *to = bytes;
	struct workload_cursor cursor = {0};
	struct request r = {0};

	for (unsigned i = 0; i < FINGERPRINT_REQUESTS; i++) {
		stream_next(&w->params, &w->users[user], user, &cursor, &r);
		to = put_request(to, &r);
	}
	return XXH3_64bits(bytes, sizeof(bytes));
}

/* A sum, so that the order in which users are looked at does not matter. */
static uint64_t fingerprint_users(struct workload *w)
{
	uint64_t sum = 0;

	for (uint32_t user = 0; user < w->user_count; user++)
		sum += fingerprint_user(w, user);
	return sum;
}

/* Time of a row since the first, at the replay's speed. */
static uint64_t arrival_ns(const struct workload *w, uint64_t timestamp_ns)
{
	if (w->speedup == 0 || timestamp_ns <= w->first_ns)
		return 0;
	double ns = (double)(timestamp_ns - w->first_ns) / w->speedup;
	return ns < 0x1p63 ? (uint64_t)ns : UINT64_C(1) << 63;
}

static int next_row(struct workload *w, struct workload_cursor *c, struct request *r)
{
	uint64_t timestamp_ns;

	int rc = trace_next(w->trace, r, &timestamp_ns);
	if (rc == 0 || rc == -EINVAL)
		c->sequence++;
	if (rc)
		return rc;
	if (!w->has_first) {
		w->first_ns = timestamp_ns;
		w->has_first = true;
	}
	uint64_t arrival = arrival_ns(w, timestamp_ns);
	r->gap_ns = arrival - MIN(arrival, c->gap_sum_ns);
	r->user = 0;
	r->conversation = r->turn = 0;
	r->context_tokens = 0;
	r->prefix = -1;
	r->qos = QOS_INTERACTIVE;
	r->phase = PHASE_PREFILL;
	c->gap_sum_ns += r->gap_ns;
	return 0;
}

static void hash_row(XXH3_state_t *state, const struct request *r)
{
	unsigned char head[REQUEST_BYTES], id[8];

	put_request(head, r);
	XXH3_64bits_update(state, head, sizeof(head));
	for (uint32_t i = 0; i < r->block_count; i++) {
		put_le(id, r->blocks[i], sizeof(id));
		XXH3_64bits_update(state, id, sizeof(id));
	}
}

/* Reads the first rows into @state; the first bad one is the result. */
static int hash_rows(struct workload *w, XXH3_state_t *state)
{
	struct workload_cursor cursor = {0};
	struct request r = {0};
	int rc = 0;

	while (cursor.sequence < FINGERPRINT_ROWS && (rc = next_row(w, &cursor, &r)) == 0)
		hash_row(state, &r);
	request_release(&r);
	return rc == -ENODATA && cursor.sequence > 0 ? 0 : rc;
}

static int fingerprint_trace(struct workload *w, const char *path, struct error *err)
{
	XXH3_state_t *state = XXH3_createState();
	if (!state)
		return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	XXH3_64bits_reset(state);
	int rc = hash_rows(w, state);
	w->fingerprint = XXH3_64bits_digest(state);
	XXH3_freeState(state);

	const char *message = trace_message(w->trace);
	if (message)
		return error_set(err, rc, ERR_CONFIG_PARSE, "%s", message);
	if (rc == -ENODATA)
		return error_set(err, -EINVAL, ERR_CONFIG_PARSE, "%s: holds no rows", path);
	if (rc)
		return error_set(err, rc, ERR_FS_FULL, "out of memory");
	trace_rewind(w->trace);
	return 0;
}

static int init_trace(struct workload *w, const struct config_options *opt, struct error *err)
{
	w->speedup = opt->trace_speedup;
	int rc =
		trace_open(opt->trace, (enum config_trace_format)opt->trace_format, &w->trace, err);
	return rc ? rc : fingerprint_trace(w, opt->trace, err);
}

static int init_users(struct workload *w, const struct config *cfg, uint64_t seed, uint32_t rank,
		      struct error *err)
{
	stream_params_init(&w->params, cfg);
	int rc = users_new(cfg, seed, rank, &w->users);
	if (rc)
		return error_set(err, rc, ERR_FS_FULL, "out of memory for the user table");
	w->user_count = (uint32_t)cfg->opt.num_users;
	w->fingerprint = fingerprint_users(w);
	return 0;
}

int workload_new(const struct config *cfg, uint64_t seed, uint32_t rank, struct workload **ret,
		 struct error *err)
{
	struct workload *w = calloc(1, sizeof(*w));

	if (!w)
		return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	int rc = cfg->opt.trace ? init_trace(w, &cfg->opt, err)
				: init_users(w, cfg, seed, rank, err);
	if (rc) {
		workload_free(w);
		return rc;
	}
	*ret = w;
	return 0;
}

void workload_free(struct workload *w)
{
	if (!w)
		return;
	trace_close(w->trace);
	free(w->users);
	free(w);
}

uint32_t workload_streams(const struct workload *w)
{
	return w->trace ? 1 : w->user_count;
}

uint64_t workload_memory_bytes(const struct workload *w)
{
	return w->trace ? 0 : (uint64_t)w->user_count * sizeof(*w->users);
}

bool workload_is_trace(const struct workload *w)
{
	return w->trace != NULL;
}

enum config_qos workload_qos(const struct workload *w, uint32_t stream)
{
	return w->trace ? QOS_INTERACTIVE : (enum config_qos)w->users[stream].qos;
}

int workload_next(struct workload *w, uint32_t stream, struct workload_cursor *c, struct request *r)
{
	if (w->trace)
		return next_row(w, c, r);
	stream_next(&w->params, &w->users[stream], stream, c, r);
	return 0;
}

uint64_t workload_gap_ns(const struct workload *w, uint32_t stream, uint64_t sequence)
{
	return stream_gap_ns(&w->params, &w->users[stream], sequence);
}

const char *workload_bad_row(const struct workload *w)
{
	return w->trace ? trace_message(w->trace) : NULL;
}

uint64_t workload_fingerprint(const struct workload *w)
{
	return w->fingerprint;
}

uint32_t workload_block_tokens(const struct request *r, uint32_t index)
{
	uint64_t before = (uint64_t)index * r->block_tokens;
	return (uint32_t)MIN(r->block_tokens, r->input_tokens - before);
}

struct workload_user workload_user(const struct workload *w, uint32_t user)
{
	const struct user *u = &w->users[user];

	return (struct workload_user){
		.template_index = u->template_index,
		.qos = (enum config_qos)u->qos,
		.context_tokens = u->context_max,
		.generation_tokens = u->generation_max,
		.think_s = u->think_s,
	};
}
