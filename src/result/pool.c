// SPDX-License-Identifier: Apache-2.0
/* Ranks' reports, from one struct to a text and from many texts to one struct, by one table. */
#include "result/pool.h"

#include <stdlib.h>
#include <string.h>

#include "result/internal.h"
#include "result/result.h"

/* What pooling does with a member. */
enum how {
	HOW_SUM,
	HOW_MAX,
	HOW_MIN,
	HOW_MEAN,
	HOW_ANY,	/* bool: true when one is; a verdict: that of the first rank that says yes */
	HOW_ALL,	/* bool: true when all are; a verdict: that of the first rank that says no */
	HOW_SAME,	/* text: "mixed" when two differ */
	HOW_FIRST,	/* text: the alphabetically first (times) */
	HOW_LAST,
	HOW_HOST_SUM,	/* once per host */
	HOW_DEVICE_SUM, /* once per device */
};

enum type { TYPE_U64, TYPE_U32, TYPE_REAL, TYPE_BOOL, TYPE_TEXT, TYPE_VERDICT };

struct row {
	enum type type;
	enum how how;
	size_t offset, size;
};

#define ROW(type_, how_, member) \
	{TYPE_##type_, HOW_##how_, offsetof(struct run_result, member), sizeof(((struct run_result *)0)->member)}
#define TIER(t)                                                                                    \
	ROW(U64, SUM, tier[t].limit_bytes), ROW(U64, SUM, tier[t].used_bytes), ROW(U64, SUM, tier[t].entries)

/* clang-format off */
static const struct row rows[] = {
	ROW(U64, MAX, window_ns),
	ROW(U64, SUM, fingerprint),
	ROW(BOOL, ANY, is_interrupted),
	ROW(BOOL, ALL, is_valid),
	ROW(TEXT, FIRST, started_utc),
	ROW(TEXT, LAST, ended_utc),
	ROW(U32, SUM, workers),
	ROW(U32, SUM, in_service_max),
	ROW(U64, SUM, predicted_bytes),
	ROW(U64, SUM, rss_peak_bytes),
	ROW(REAL, SUM, cpu_user_s),
	ROW(REAL, SUM, cpu_system_s),
	ROW(REAL, MAX, setup_s),
	TIER(TIER_GPU), TIER(TIER_CPU), TIER(TIER_STORAGE),
	ROW(TEXT, SAME, io.engine),
	ROW(TEXT, SAME, io.mode),
	ROW(TEXT, SAME, io.features),
	ROW(TEXT, SAME, io.filesystem),
	ROW(TEXT, SAME, io.device),
	ROW(BOOL, ALL, io.has_registered_buffers),
	ROW(U32, MAX, io.direct_align_bytes),
	ROW(BOOL, ALL, io.has_device_counters),
	ROW(U64, MAX, io.device_sampled_ns),
	ROW(U64, DEVICE_SUM, io.device_read_bytes),
	ROW(U64, DEVICE_SUM, io.device_written_bytes),
	ROW(U32, SUM, users.count),
	ROW(U32, MIN, users.context_min),
	ROW(U32, MAX, users.context_max),
	ROW(REAL, MEAN, users.context_mean), /* every rank has as many */
	ROW(U32, SUM, users.by_qos[QOS_INTERACTIVE]),
	ROW(U32, SUM, users.by_qos[QOS_RESPONSIVE]),
	ROW(U32, SUM, users.by_qos[QOS_BATCH]),
	ROW(TEXT, SAME, host.hostname),
	ROW(TEXT, SAME, host.kernel),
	ROW(TEXT, SAME, host.os),
	ROW(TEXT, SAME, host.cpu_model),
	ROW(U32, HOST_SUM, host.logical_cpus),
	ROW(U64, HOST_SUM, host.memory_bytes),
	ROW(VERDICT, ANY, client_bound),
	ROW(VERDICT, ALL, page_cache_bypassed),
	ROW(VERDICT, ALL, steady_state),
};

/* What the pooled result says of each rank beside its name: key, path in the rank's own result. */
static const struct {
	const char *key, *path;
} headline[] = {
	{"seed", "seed"},
	{"state", "state"},
	{"valid", "valid"},
	{"invalid_why", "invalid_why"},
	{"errors", "errors.total"},
	{"window_s", "measured.window_s"},
	{"requests_completed", "requests_completed"},
	{"tokens_per_s", "summary.avg_throughput_tokens_per_sec"},
	{"storage_read_bytes_per_s", "measured.storage.read_bytes_per_s"},
	{"storage_write_bytes_per_s", "measured.storage.write_bytes_per_s"},
	{"storage_read_device_p95_ms", "measured.storage.read_device_latency_ms.p95"},
	{"storage_write_device_p95_ms", "measured.storage.write_device_latency_ms.p95"},
	{"storage_entries", "tiers.storage.entries"},
};
/* clang-format on */

/* ---- one rank's report ---- */

static json_t *member_json(const struct run_result *r, const struct row *row)
{
	const void *at = (const char *)r + row->offset;
	const struct verdict *v = at;
	switch (row->type) {
	case TYPE_U64:
		return json_integer((json_int_t)*(const uint64_t *)at); /* modulo 2^64, there and back */
	case TYPE_U32:
		return json_integer(*(const uint32_t *)at);
	case TYPE_REAL:
		return result_json_real(*(const double *)at);
	case TYPE_BOOL:
		return json_boolean(*(const bool *)at);
	case TYPE_TEXT:
		return result_json_text(at);
	case TYPE_VERDICT:
		return json_pack("[b, b, o]", v->is_known, v->value, result_json_text(v->why));
	}
	return NULL;
}

static json_t *members_json(const struct run_result *r)
{
	json_t *list = json_array();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (json_array_append_new(list, member_json(r, &rows[i])))
			break;
	return list;
}

static json_t *errors_json(const struct error_log *log)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < log->classes; i++)
		json_array_append_new(list, json_pack("[s, I, o]", log->v[i].name, (json_int_t)log->v[i].count,
						      result_json_text(log->v[i].first)));
	return list;
}

static json_t *headline_json(const struct run_result *r, const struct result_rank *who)
{
	json_t *all = result_json(r), *head = json_pack("{s:i, s:o}", "rank", who->rank, "host", result_json_text(who->host));
	for (size_t i = 0; all && head && i < ARRAY_LEN(headline); i++) {
		json_t *value = result_at(all, headline[i].path);
		if (!json_is_null(value))
			json_object_set(head, headline[i].key, value);
	}
	json_decref(all);
	return head;
}

int result_report(const struct run_result *r, const struct result_rank *who, struct str *ret)
{
	json_t *report = json_pack("{s:o, s:o, s:o, s:o, s:s, s:I}", "members", members_json(r), "headline",
				   headline_json(r, who), "errors", errors_json(r->errors), "notices",
				   result_part_notices(r, NULL), "device", who->device, "begin_ns",
				   (json_int_t)who->begin_ns);
	CLEANUP_FREE char *text = report ? json_dumps(report, JSON_COMPACT) : NULL;
	json_decref(report);
	if (!text)
		return -ENOMEM;
	str_clear(ret);
	str_add(ret, text);
	return ret->rc;
}

/* ---- many ---- */

struct result_pool {
	json_t *list; /* headlines, by rank; null: not yet there */
	int ranks, taken;
	int64_t first_begin_ns, last_begin_ns;
	struct run_result sum; /* members of the table only */
	struct str invalid_why;
	unsigned invalid;
	struct error_log errors;
	json_t *notices;	/* text: list of the ranks that say so */
	json_t *hosts, *devices; /* names seen, as keys */
};

struct result_pool *result_pool_new(int ranks)
{
	struct result_pool *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->ranks = ranks;
	p->list = json_array();
	p->notices = json_object();
	p->hosts = json_object();
	p->devices = json_object();
	error_log_init(&p->errors);
	for (int r = 0; r < ranks; r++)
		json_array_append_new(p->list, json_null());
	if (json_array_size(p->list) == (size_t)ranks && p->notices && p->hosts && p->devices)
		return p;
	result_pool_free(p);
	return NULL;
}

void result_pool_free(struct result_pool *p)
{
	if (!p)
		return;
	json_decref(p->list);
	json_decref(p->notices);
	json_decref(p->hosts);
	json_decref(p->devices);
	str_release(&p->invalid_why);
	free(p);
}

/* True the first time for each name. */
static bool is_first(json_t *names, const char *name)
{
	return !json_object_get(names, name) && !json_object_set_new(names, name, json_true());
}

/* What one rank adds to its members. */
struct add {
	struct result_pool *p;
	const struct row *row;
	const char *who;
	bool is_first_rank, is_new_host, is_new_device;
};

static void add_verdict(const struct add *a, struct verdict *sum, const json_t *one)
{
	bool is_known = json_is_true(json_array_get(one, 0)), value = json_is_true(json_array_get(one, 1));
	const char *why = json_string_value(json_array_get(one, 2));
	/* The first that is known speaks, until one comes that decides. */
	bool decides = is_known && value == (a->row->how == HOW_ANY) && (!sum->is_known || value != sum->value);
	if (!a->is_first_rank && !decides && !(is_known && !sum->is_known))
		return;
	sum->is_known = is_known;
	sum->value = value;
	snprintf(sum->why, sizeof(sum->why), "%s: %.190s", a->who, why ? why : "");
}

static void add_text(const struct add *a, char *sum, const char *one)
{
	int order = strcmp(one, sum);
	if (a->is_first_rank || (a->row->how == HOW_FIRST && order < 0) || (a->row->how == HOW_LAST && order > 0))
		snprintf(sum, a->row->size, "%s", one);
	else if (a->row->how == HOW_SAME && order)
		snprintf(sum, a->row->size, "mixed");
}

/* Does a sum get this rank's part? */
static bool counts(const struct add *a)
{
	return a->row->how == HOW_HOST_SUM ? a->is_new_host : a->row->how == HOW_DEVICE_SUM ? a->is_new_device : true;
}

#define POOL_NUMBER(type_, value)                                                                  \
	do {                                                                                       \
		type_ *sum_ = at, one_ = (value);                                                  \
		if (a->is_first_rank)                                                              \
			*sum_ = one_;                                                              \
		else if (a->row->how == HOW_MAX)                                                   \
			*sum_ = MAX(*sum_, one_);                                                  \
		else if (a->row->how == HOW_MIN)                                                   \
			*sum_ = MIN(*sum_, one_);                                                  \
		else                                                                               \
			*sum_ += counts(a) ? one_ : 0;                                             \
	} while (0)

static void add_member(const struct add *a, const json_t *one)
{
	void *at = (char *)&a->p->sum + a->row->offset;
	bool *flag = at;
	switch (a->row->type) {
	case TYPE_U64:
		POOL_NUMBER(uint64_t, (uint64_t)json_integer_value(one));
		break;
	case TYPE_U32:
		POOL_NUMBER(uint32_t, (uint32_t)json_integer_value(one));
		break;
	case TYPE_REAL:
		POOL_NUMBER(double, json_number_value(one));
		break;
	case TYPE_BOOL:
		if (a->is_first_rank || json_is_true(one) == (a->row->how == HOW_ANY))
			*flag = json_is_true(one);
		break;
	case TYPE_TEXT:
		add_text(a, at, json_string_value(one) ? json_string_value(one) : "");
		break;
	case TYPE_VERDICT:
		add_verdict(a, at, one);
		break;
	}
}

static void add_errors(struct result_pool *p, const char *who, const json_t *errors)
{
	size_t i;
	json_t *one;
	json_array_foreach(errors, i, one) {
		struct error_log log;
		error_log_init(&log);
		log.classes = 1;
		snprintf(log.v[0].name, sizeof(log.v[0].name), "%s", json_string_value(json_array_get(one, 0)));
		snprintf(log.v[0].first, sizeof(log.v[0].first), "%s: %s", who, json_string_value(json_array_get(one, 2)));
		log.v[0].count = (uint64_t)json_integer_value(json_array_get(one, 1));
		error_log_merge(&p->errors, &log);
	}
}

static int add_notices(struct result_pool *p, int rank, const json_t *notices)
{
	size_t i;
	json_t *one;
	json_array_foreach(notices, i, one) {
		const char *text = json_string_value(one);
		if (!text)
			return -EBADMSG;
		if (!json_object_get(p->notices, text) && json_object_set_new(p->notices, text, json_array()))
			return -ENOMEM;
		json_t *who = json_object_get(p->notices, text);
		size_t n = json_array_size(who);
		if ((!n || json_integer_value(json_array_get(who, n - 1)) != rank) &&
		    json_array_append_new(who, json_integer(rank)))
			return -ENOMEM;
	}
	return 0;
}

static int add_report(struct result_pool *p, int rank, json_t *report)
{
	json_t *members = json_object_get(report, "members"), *head = json_object_get(report, "headline");
	const char *host = json_string_value(json_object_get(head, "host"));
	const char *device = json_string_value(json_object_get(report, "device"));
	if (rank < 0 || rank >= p->ranks || !json_is_null(json_array_get(p->list, (size_t)rank)) || !host || !device ||
	    json_array_size(members) != ARRAY_LEN(rows))
		return -EBADMSG;
	char who[128];
	snprintf(who, sizeof(who), "rank %d on %.100s", rank, host);
	struct add a = {.p = p, .who = who, .is_first_rank = !p->taken++};
	a.is_new_host = is_first(p->hosts, host);
	a.is_new_device = *device && is_first(p->devices, device);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		a.row = &rows[i];
		add_member(&a, json_array_get(members, i));
	}
	int64_t begin = json_integer_value(json_object_get(report, "begin_ns"));
	p->first_begin_ns = a.is_first_rank ? begin : MIN(p->first_begin_ns, begin);
	p->last_begin_ns = a.is_first_rank ? begin : MAX(p->last_begin_ns, begin);
	const char *why = json_string_value(json_object_get(head, "invalid_why"));
	if (!json_is_true(json_object_get(head, "valid")) && !p->invalid++)
		str_addf(&p->invalid_why, "%s: %s", who, why ? why : "");
	add_errors(p, who, json_object_get(report, "errors"));
	if (json_array_set(p->list, (size_t)rank, head))
		return -ENOMEM;
	return add_notices(p, rank, json_object_get(report, "notices"));
}

int result_pool_add(struct result_pool *p, int rank, const char *text, size_t len)
{
	json_t *report = json_loadb(text, len, 0, NULL);
	int rc = report ? add_report(p, rank, report) : -EBADMSG;
	json_decref(report);
	return rc;
}

/* "ranks 0, 2, 5 and 3 more: " in front of what only some say. */
static int pool_notices(const struct result_pool *p, struct strlist *ret)
{
	enum { NAMED_MAX = 4 };
	const char *text;
	json_t *who;
	int rc = 0;
	json_object_foreach(p->notices, text, who) {
		CLEANUP_STR struct str line = {0};
		size_t n = json_array_size(who);
		for (size_t i = 0; i < n && i < NAMED_MAX && n < (size_t)p->ranks; i++)
			str_addf(&line, "%s%lld", i ? ", " : n > 1 ? "ranks " : "rank ",
				 (long long)json_integer_value(json_array_get(who, i)));
		if (n > NAMED_MAX && n < (size_t)p->ranks)
			str_addf(&line, " and %zu more", n - NAMED_MAX);
		str_addf(&line, "%s%s", n < (size_t)p->ranks ? ": " : "", text);
		rc = rc ? rc : line.rc ? line.rc : strlist_add(ret, str_text(&line));
	}
	return rc;
}

int result_pool_finish(struct result_pool *p, struct run_result *r, struct error_log *errors, struct strlist *notices)
{
	if (p->taken < p->ranks)
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].how == HOW_MEAN)
			*(double *)((char *)&p->sum + rows[i].offset) /= p->ranks;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		memcpy((char *)r + rows[i].offset, (const char *)&p->sum + rows[i].offset, rows[i].size);
	snprintf(r->invalid_why, sizeof(r->invalid_why), "%.220s%s", str_text(&p->invalid_why),
		 p->invalid > 1 ? ", and others" : "");
	error_log_init(errors);
	error_log_merge(errors, &p->errors);
	r->errors = errors;
	r->notices = notices;
	r->pool = p;
	return pool_notices(p, notices);
}

/* ---- as fields of the result ---- */

json_t *result_part_ranks(const struct run_result *r, const struct scope *s)
{
	(void)s;
	return json_incref(r->pool->list);
}

double result_window_skew_s(const struct run_result *r)
{
	if (r->is_virtual)
		return NAN;
	return (double)(r->pool->last_begin_ns - r->pool->first_begin_ns) / 1e9;
}

unsigned result_hosts(const struct run_result *r)
{
	return (unsigned)json_object_size(r->pool->hosts);
}
