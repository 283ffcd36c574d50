// SPDX-License-Identifier: Apache-2.0
/* Reads a plan of faults: most keys by a table of rows, then what the rows cannot say. */
#include "config/faults.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "config/internal.h"

static const char *const kind_names[] = {"error", "again",    "interrupt", "short", "delay", "hang",
					 "bit_flip", "stale", "swap",      "torn",  NULL};
static const char *const tier_names[] = {"any", "cpu", "storage", NULL};
static const char *const part_names[] = {"any", "stamp", "payload", NULL};
static const char *const operation_names[] = {"create", "write", "sync",  "commit", "abort",
					      "open",   "read",  "close", "delete", NULL};

enum {
	OP_WRITE = 1 << 1,
	OP_READ = 1 << 6,
	OP_CLOSE = 1 << 7,
	OP_ALL = (1 << 9) - 1,
};

enum {
	NEEDS_DATA = 1 << 0, /* a tier that holds bytes */
	NEEDS_IO = 1 << 1,   /* a tier of files */
};

/* What a fault can happen to. A closing is never tried again: the descriptor is gone after the first attempt. */
static const struct {
	uint32_t operations;
	unsigned needs;
} kinds[FAULT_KINDS] = {
	[FAULT_ERROR] = {OP_ALL, 0},
	[FAULT_AGAIN] = {OP_ALL & ~OP_CLOSE, NEEDS_IO},
	[FAULT_INTERRUPT] = {OP_ALL & ~OP_CLOSE, NEEDS_IO},
	[FAULT_SHORT] = {OP_READ | OP_WRITE, NEEDS_IO},
	[FAULT_DELAY] = {OP_ALL, 0},
	[FAULT_HANG] = {OP_ALL, 0},
	[FAULT_BIT_FLIP] = {OP_READ | OP_WRITE, NEEDS_DATA},
	[FAULT_STALE] = {OP_READ | OP_WRITE, NEEDS_DATA},
	[FAULT_SWAP] = {OP_READ | OP_WRITE, NEEDS_DATA},
	[FAULT_TORN] = {OP_WRITE, NEEDS_DATA},
};

const char *const *config_fault_operations(void)
{
	return operation_names;
}

const char *config_fault_name(enum config_fault_kind kind)
{
	return kind_names[kind];
}

/* ---- one rule ---- */

#define AT(field) offsetof(struct config_fault, field)

static const struct row rows[] = {
	{"fault", ROW_CHOICE, AT(kind), .choices = kind_names},
	{"tier", ROW_CHOICE, AT(tier), .choices = tier_names},
	{"rate", ROW_REAL, AT(rate), 1e-9, 1},
	{"nth", ROW_U32, AT(nth), 1, UINT32_MAX},
	{"count", ROW_U32, AT(count), 1, UINT32_MAX},
	{"attempts", ROW_U32, AT(attempts), 1, 1000},
	{"delay_ms", ROW_REAL, AT(delay_ms), 0.001, 3.6e6},
	{"part", ROW_CHOICE, AT(part), .choices = part_names},
	{"is_final", ROW_BOOL, AT(is_final)},
};

/* Keys that no row can read. */
static const char *const own_keys[] = {"operation", "error", NULL};

/** A rule being read. */
struct reading {
	const char *path;
	unsigned index;
	struct yaml_node *map;
	struct config_fault *rule;
	struct problems *problems;
};

static int refuse(const struct reading *r, const struct yaml_node *n, const char *what)
{
	return problems_add(r->problems, ERR_CONFIG_INVALID, "%s:%u: faults[%u]: %s", r->path, yaml_line(n), r->index,
			    what);
}

static int read_error(const struct reading *r)
{
	struct yaml_node *n = yaml_find(r->map, "error");
	const char *text = n ? yaml_text(n) : "EIO";
	for (int e = 1; text && e < 4096; e++) {
		const char *name = strerrorname_np(e);
		if (name && !strcmp(name, text)) {
			r->rule->error = e;
			return 0;
		}
	}
	return refuse(r, n, "error: expected the name of an errno, as EIO or ENOSPC");
}

static int read_operation(const struct reading *r, struct yaml_node *n)
{
	const char *text = yaml_text(n);
	uint32_t known = kinds[r->rule->kind].operations;
	CLEANUP_STR struct str what = {0};
	str_addf(&what, "operation: %s expects one or a list of", kind_names[r->rule->kind]);
	bool is_first = true;
	for (unsigned i = 0; operation_names[i]; i++) {
		if (!(known & 1u << i))
			continue;
		if (text && !strcmp(text, operation_names[i])) {
			r->rule->operations |= 1u << i;
			return 0;
		}
		str_addf(&what, "%s %s", is_first ? "" : ",", operation_names[i]);
		is_first = false;
	}
	return what.rc ? what.rc : refuse(r, n, str_text(&what));
}

static int read_operations(const struct reading *r)
{
	struct yaml_node *n = yaml_find(r->map, "operation");
	int rc = 0;
	if (!n) {
		r->rule->operations = kinds[r->rule->kind].operations;
		return 0;
	}
	if (yaml_kind(n) != YAML_SEQUENCE || !yaml_count(n))
		return read_operation(r, n);
	for (size_t i = 0; i < yaml_count(n) && !rc; i++)
		rc = read_operation(r, yaml_item(n, i));
	return rc;
}

static bool has_key(const struct reading *r, const char *key)
{
	return yaml_find(r->map, key) != NULL;
}

/* Keys that mean nothing to this kind of fault, or that it cannot do without. */
static int check_keys(const struct reading *r)
{
	static const struct {
		const char *key;
		uint32_t kinds; /* bits */
		bool is_needed;
	} belongs[] = {
		{"error", 1 << FAULT_ERROR, false},
		{"attempts", 1 << FAULT_AGAIN | 1 << FAULT_INTERRUPT | 1 << FAULT_SHORT, false},
		{"delay_ms", 1 << FAULT_DELAY, true},
		{"part", 1 << FAULT_BIT_FLIP, false},
		{"is_final", 1 << FAULT_HANG, false},
	};
	char what[128];
	int rc = 0;
	for (size_t i = 0; i < ARRAY_LEN(belongs) && !rc; i++) {
		bool is_ours = belongs[i].kinds & 1u << r->rule->kind;
		const char *wrong = NULL;
		if (has_key(r, belongs[i].key) && !is_ours)
			wrong = "does not belong to";
		else if (!has_key(r, belongs[i].key) && is_ours && belongs[i].is_needed)
			wrong = "is missing for";
		if (!wrong)
			continue;
		snprintf(what, sizeof(what), "%s %s the fault %s", belongs[i].key, wrong, kind_names[r->rule->kind]);
		rc = refuse(r, r->map, what);
	}
	if (!rc && has_key(r, "rate") == has_key(r, "nth"))
		rc = refuse(r, r->map, "expected either rate or nth");
	return rc;
}

static int read_rule(const struct reading *r)
{
	char above[32];
	snprintf(above, sizeof(above), "faults[%u].", r->index);
	if (yaml_kind(r->map) != YAML_MAPPING || !has_key(r, "fault"))
		return refuse(r, r->map, "expected a mapping with the key 'fault'");
	*r->rule = (struct config_fault){.attempts = 1, .line = yaml_line(r->map)};
	const struct row_walk walk = {
		.rows = rows,
		.row_count = ARRAY_LEN(rows),
		.target = r->rule,
		.skip = own_keys,
		.file = r->path,
		.above = above,
		.problems = r->problems,
	};
	size_t before = r->problems->count;
	int rc = rows_read(&walk, r->map);
	if (rc || r->problems->count > before)
		return rc;
	static const int tiers[] = {-1, TIER_CPU, TIER_STORAGE};
	r->rule->tier = tiers[r->rule->tier];
	if (r->rule->nth && !r->rule->count)
		r->rule->count = 1;
	rc = read_error(r);
	if (!rc)
		rc = read_operations(r);
	return rc ? rc : check_keys(r);
}

/* ---- the file ---- */

static int read_rules(struct reading *r, struct yaml_node *list, struct config_fault_plan *plan)
{
	if (!list || yaml_kind(list) != YAML_SEQUENCE || !yaml_count(list) || yaml_count(list) > CONFIG_FAULTS_MAX)
		return problems_add(r->problems, ERR_CONFIG_INVALID, "%s:%u: faults: expected a list of 1 to %d faults",
				    r->path, list ? yaml_line(list) : 1, CONFIG_FAULTS_MAX);
	int rc = 0;
	for (size_t i = 0; i < yaml_count(list) && !rc; i++) {
		r->index = (unsigned)i;
		r->map = yaml_item(list, i);
		r->rule = &plan->v[i];
		rc = read_rule(r);
	}
	plan->count = (uint32_t)yaml_count(list);
	return rc;
}

static int read_plan(const char *path, struct yaml *y, struct config_fault_plan *plan, struct problems *problems)
{
	static const struct row top_rows[] = {{"seed", ROW_U32, 0, 0, UINT32_MAX}};
	static const char *const top_keys[] = {"faults", NULL};
	struct yaml_node *root = yaml_root(y);
	uint32_t seed = 1;
	const struct row_walk walk = {
		.rows = top_rows,
		.row_count = ARRAY_LEN(top_rows),
		.target = &seed,
		.skip = top_keys,
		.file = path,
		.above = "",
		.problems = problems,
	};
	size_t before = problems->count;
	int rc = rows_read(&walk, root);
	if (rc || problems->count > before)
		return rc;
	plan->seed = seed;
	struct reading r = {.path = path, .problems = problems};
	return read_rules(&r, root ? yaml_find(root, "faults") : NULL, plan);
}

int config_fault_plan_read(const char *path, struct config_fault_plan *plan, struct problems *problems)
{
	struct error err = {0};
	struct yaml *y;
	*plan = (struct config_fault_plan){0};
	int rc = yaml_open(path, &y, &err);
	if (rc == -ENOMEM)
		return rc;
	if (rc) {
		error_prefix(&err, "--fault-plan");
		return problems_add_error(problems, &err);
	}
	rc = read_plan(path, y, plan, problems);
	yaml_free(y);
	return rc;
}

/* ---- against a run ---- */

/* Of the tier that @opt asks for: what operations it has, and what faults can reach in it. */
static bool rule_reaches(const struct config_fault *rule, const struct config_options *opt, enum tier_class tier)
{
	bool is_storage = tier == TIER_STORAGE;
	bool is_there = is_storage || opt->cpu_mem_gib > 0;
	bool has_io = is_storage && opt->storage_backend == BACKEND_FILE;
	bool has_data = has_io || (!is_storage && !opt->simulate);
	uint32_t operations = has_data ? OP_ALL : OP_READ | OP_WRITE;
	unsigned given = (has_data ? NEEDS_DATA : 0) | (has_io ? NEEDS_IO : 0);
	return is_there && (rule->tier < 0 || rule->tier == (int)tier) && rule->operations & operations &&
	       !(kinds[rule->kind].needs & ~given);
}

int config_fault_plan_check(const char *path, const struct config_fault_plan *plan, const struct config_options *opt,
			    struct problems *problems)
{
	int rc = 0;
	for (uint32_t i = 0; i < plan->count && !rc; i++) {
		const struct config_fault *rule = &plan->v[i];
		if (!rule_reaches(rule, opt, TIER_CPU) && !rule_reaches(rule, opt, TIER_STORAGE))
			rc = problems_add(problems, ERR_CONFIG_INCOMPATIBLE,
					  "%s:%u: faults[%u]: this run has no tier with such operations for the fault %s",
					  path, rule->line, i, kind_names[rule->kind]);
	}
	return rc;
}
