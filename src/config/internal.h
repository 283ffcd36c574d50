/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/internal.h - what the files of this room share and nobody else needs.
 *
 * Receives: names, YAML nodes.  Gives: the nearest name; fields filled from tables of rows; a
 * workload. Must not know: the command line.
 */
#pragma once

#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "config/config.h"
#include "config/yaml.h"

/** The nearest name to a mistyped one. Start with .text set, offer every candidate, then ask. */
struct suggest {
	const char *text;
	char best[96]; /* "" before the first candidate */
	unsigned distance;
};

static inline void suggest_offer(struct suggest *s, const char *candidate, size_t len)
{
	char name[sizeof(s->best)];
	if (!len || len >= sizeof(name))
		return;
	memcpy(name, candidate, len);
	name[len] = '\0';
	unsigned d = str_distance(s->text, name);
	if (!s->best[0] || d < s->distance) {
		memcpy(s->best, name, len + 1);
		s->distance = d;
	}
}

/** suggest_result() - the best candidate when it is near enough to be meant, else NULL. */
static inline const char *suggest_result(const struct suggest *s)
{
	bool near = s->best[0] && s->distance <= 3 && s->distance * 3 <= strlen(s->text);
	return near ? s->best : NULL;
}

/** opt_range_text() - "1..100000", "at least 0", "fsync, none", or "" where every value of the type is allowed. */
void opt_range_text(const struct opt *opt, struct str *out);

enum row_type {
	ROW_U32,
	ROW_I32,
	ROW_REAL,
	ROW_BOOL,
	ROW_TEXT,       /* char[size] */
	ROW_CHOICE,     /* int or enum: index into choices[] */
	ROW_U32_RANGE,  /* [min, max] into two neighbouring uint32_t */
	ROW_REAL_RANGE, /* [min, max] into two neighbouring double */
	ROW_U32_LIST,   /* uint32_t[size], the count into count_offset */
};

/* A key that is checked and has no effect in this version. */
#define ROW_NO_EFFECT SIZE_MAX

/** One key of a YAML file. Tables are static const arrays. */
struct row {
	const char *path; /* dotted; a last component "*" stands for any key */
	enum row_type type;
	size_t offset; /* into the table's target, or ROW_NO_EFFECT */
	double min, max;
	const char *const *choices; /* CHOICE: NULL-terminated */
	size_t size;                /* TEXT: bytes with NUL; LIST: items */
	size_t count_offset;        /* LIST: of a uint32_t */
};

/** A mapping being read into a struct. */
struct row_walk {
	const struct row *rows;
	size_t row_count;
	void *target;
	const char *const
		*skip;     /* NULL-terminated top-level keys that somebody else reads, or NULL */
	const char *file;  /* in messages */
	const char *above; /* path of the mapping in the file, with a dot behind it, or "" */
	struct problems *problems;
	struct strlist *unused; /* [out] paths that were given and have no effect; may be NULL */
};

/** rows_read() - read every key of @map (NULL or an empty node: none). Return: 0 (see problems) or
 * -ENOMEM. */
int rows_read(const struct row_walk *walk, struct yaml_node *map);

/** A workload file being laid over what is there. */
struct workload_target {
	struct config_workload *workload;
	const char *model_key;      /* the model that is asked for */
	struct model *model;        /* [in,out] overwritten when the file describes that model */
	bool *model_known;          /* [out] set when it does */
	struct strlist *model_keys; /* [out] every model that the file describes */
	struct strlist *notices;
	struct problems *problems;
};

/** config_workload_read() - Return: 0 (see problems) or -ENOMEM. */
int config_workload_read(struct yaml *y, const struct workload_target *target);

/** The files of data/, built in; ends with a NULL name. Made by tools/embed.sh. */
struct shipped_file {
	const char *name;
	const char *text;
};
extern const struct shipped_file shipped_files[];
