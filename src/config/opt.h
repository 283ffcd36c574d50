/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/opt.h - an option is declared once, in a table row; everything else is derived from the row.
 *
 * Receives: tables of rows and an argument vector (or a YAML mapping).  Gives: filled structs, the source of
 * each value, help text, an argument vector again, and every violation at once.
 * Must not know: what an option does.
 *
 * getopt, argp and popt cannot read this command line ("-nu 100", "--hosts a b c"), hence our own parser:
 *   --name VALUE, --name=VALUE, -nu VALUE, flags without value, lists that take words up to the next option.
 * Long names are not abbreviated. An option given twice takes the last value, a list grows.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/str.h"

enum opt_type {
	OPT_FLAG,   /* bool */
	OPT_INT,    /* int64_t, min..max */
	OPT_REAL,   /* double, min..max, never NaN or infinite */
	OPT_SIZE,   /* uint64_t bytes: 4096, 64KiB, 1MiB; min..max in bytes */
	OPT_TEXT,   /* char * (owned, NULL when there is no default) */
	OPT_CHOICE, /* int: index into choices[] */
	OPT_LIST,   /* struct strlist: one word per option, repeatable */
	OPT_WORDS,  /* struct strlist: words up to the next option, or one --name=VALUE split at blanks and commas */
	OPT_ARGS,   /* struct strlist: another program's words, dashes and all, up to the next option of ours;
		       a single word (and what stands behind '=') is split as a shell would; repeatable */
};

/** One option. Tables are static const arrays. */
struct opt {
	const char *name;	    /* "--num-users" */
	const char *short_name;	    /* "-nu", or NULL */
	enum opt_type type;
	size_t offset;		    /* offsetof() into the struct that the table's group fills */
	double min, max;	    /* INT, REAL, SIZE: inclusive; min == max: unbounded; max may be INFINITY */
	const char *def;	    /* default as text, parsed like a typed value; NULL: none (unset INT/REAL/SIZE are 0) */
	const char *const *choices; /* CHOICE: NULL-terminated names */
	const char *meta;	    /* name of the value in help: "N", "GiB", "DIR" */
	const char *help;	    /* one sentence, lower case, no full stop */
	unsigned flags;		    /* OPT_F_* */
	const char *heading;	    /* this row begins a part of its group in help; else NULL */
};

enum {
	OPT_F_UNSET_NULL = 1 << 0, /* not given and no default: shown as null where echoed */
	OPT_F_HIDDEN = 1 << 1,	   /* not in help */
	OPT_F_SITE = 1 << 2,	   /* says where this is run, not what: may stand in a person's own configuration */
	OPT_F_FILE = 1 << 3,	   /* TEXT: names a file, for completion */
	OPT_F_DIR = 1 << 4,	   /* TEXT: names a directory */
	OPT_F_TYPED = 1 << 5,	   /* only on the command line: what weaker layers say under this name is not for it */
};

/** A titled set of options with the struct it fills. A command names its groups. */
struct opt_group {
	const char *title;
	const struct opt *opts;
	size_t count;
	void *target;
	unsigned char *source; /* [count], enum opt_source; caller's storage, zeroed */
};

/** Where a value comes from; a larger one is stronger. */
enum opt_source {
	OPT_FROM_DEFAULT = 0,
	OPT_FROM_USER,	      /* the person's own configuration */
	OPT_FROM_ENVIRONMENT, /* a variable */
	OPT_FROM_FILE,	      /* a YAML file named on the command line */
	OPT_FROM_TYPED,
};

/** opt_source_name() - "default", "user", "environment", "file" or "typed". */
const char *opt_source_name(enum opt_source source);

/** A command's options: its groups, in help order. */
struct opt_set {
	const struct opt_group *groups;
	size_t count;
};

/** opt_defaults() - fill every target (which owns nothing yet) with its defaults. Return: 0 or -ENOMEM. A bad default is an assert. */
int opt_defaults(const struct opt_set *set);

/**
 * opt_parse() - read an argument vector (without program and command names)
 * @problems: [in,out] every violation: unknown option (with "did you mean"), missing value, not a number,
 *            out of range (names the option, the value and the range), unknown choice (lists them),
 *            unexpected word
 * @help:     [out] true when -h or --help stands anywhere (then nothing else matters)
 * Return: 0 (look at @problems->count), -ENOMEM.
 */
int opt_parse(const struct opt_set *set, int argc, char *const *argv, struct problems *problems,
	      bool *help);

/**
 * opt_set_text() - set one option from text as if it stood in a file or on the command line
 * @source: a value that is there from a stronger one stays; @text is checked all the same
 * @where: put in front of the message ("file.yaml:12: ") or ""
 * Return: 0; -EINVAL with one problem added; -ENOMEM.
 */
int opt_set_text(const struct opt_group *group, size_t index, const char *text,
		 enum opt_source source, const char *where, struct problems *problems);

/** opt_find() - row by long or short name. Return: true when found. */
bool opt_find(const struct opt_set *set, const char *name, const struct opt_group **ret_group,
	      size_t *ret_index);

/** opt_nearest() - the long name that @name was most likely meant to be, NULL when none is near. */
const char *opt_nearest(const struct opt_set *set, const char *name);

/** opt_given() - was the option typed or in a file? @name: "--num-users"; false also when there is no such option. */
bool opt_given(const struct opt_set *set, const char *name);

/** opt_text() - present value of one option as parse-able text (lists joined by blanks); false when unset. */
bool opt_text(const struct opt_group *group, size_t index, struct str *ret);

/** opt_key() - the option's name as a JSON and YAML key: "--num-users" -> "num_users". */
void opt_key(const struct opt *opt, char *buf, size_t size);

/** opt_to_argv() - append the option in the form opt_parse() reads back (nothing for an unset or false one). Return: 0 or -ENOMEM. */
int opt_to_argv(const struct opt_group *group, size_t index, struct strlist *argv);

/** opt_help() - the groups as aligned help text: names, meta, help, choices, range, default. */
void opt_help(const struct opt_set *set, FILE *out);

/**
 * opt_man() - the same as sections of a manual page (roff with the man macros)
 * @above: options that the page has described already: only named; may be NULL
 */
void opt_man(const struct opt_set *set, const struct opt_set *above, FILE *out);

/** opt_release() - free the owned texts and lists in every target. */
void opt_release(const struct opt_set *set);
