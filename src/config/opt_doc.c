// SPDX-License-Identifier: Apache-2.0
/* What an option's table row tells people: help and manual page. */
#include <ctype.h>
#include <string.h>

#include "config/internal.h"
#include "config/opt.h"

enum { HELP_WIDTH = 100, HELP_COLUMN = 34 };

static bool takes_many(const struct opt *opt)
{
	return opt->type == OPT_WORDS || opt->type == OPT_ARGS;
}

static bool is_described(const struct opt_set *above, const struct opt *opt)
{
	const struct opt_group *group;
	size_t index;
	return above && opt_find(above, opt->name, &group, &index) &&
	       !strcmp(group->opts[index].help, opt->help);
}

/* What headings and rows look like. */
struct form {
	void (*heading)(FILE *out, const char *text, bool is_first);
	void (*row)(FILE *out, const struct opt *opt);
};

/* The rows that are for people and not in @above, and the headings of those that have such rows. */
static void print_rows(const struct opt_set *set, const struct opt_set *above,
		       const struct form *form, FILE *out)
{
	bool is_first = true;
	for (size_t g = 0; g < set->count; g++) {
		const char *heading = set->groups[g].title;
		for (size_t i = 0; i < set->groups[g].count; i++) {
			const struct opt *opt = &set->groups[g].opts[i];
			if (opt->heading)
				heading = opt->heading;
			if (opt->flags & OPT_F_HIDDEN || is_described(above, opt))
				continue;
			if (heading)
				form->heading(out, heading, is_first);
			heading = NULL;
			is_first = false;
			form->row(out, opt);
		}
	}
}

/* "help (choices; range; default X)" */
static void describe(const struct opt *opt, struct str *out)
{
	CLEANUP_STR struct str facts = {0};
	opt_range_text(opt, &facts);
	if (opt->def)
		str_addf(&facts, "%sdefault %s", facts.len ? "; " : "", opt->def);
	str_add(out, opt->help ? opt->help : "");
	if (facts.len)
		str_addf(out, " (%s)", str_text(&facts));
}

/* ---- help ---- */

/* Words of @text from column HELP_COLUMN on; the caller's line is at @column already. */
static void print_wrapped(FILE *out, const char *text, int column)
{
	if (column >= HELP_COLUMN - 1) {
		fputc('\n', out);
		column = 0;
	}
	fprintf(out, "%*s", HELP_COLUMN - column, "");
	column = HELP_COLUMN;
	while (*text) {
		int len = (int)strcspn(text, " ");
		if (column > HELP_COLUMN && column + 1 + len > HELP_WIDTH) {
			fprintf(out, "\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		} else if (column > HELP_COLUMN) {
			fputc(' ', out);
			column++;
		}
		fprintf(out, "%.*s", len, text);
		column += len;
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

static void help_heading(FILE *out, const char *text, bool is_first)
{
	fprintf(out, "%s%s:\n", is_first ? "" : "\n", text);
}

static void help_row(FILE *out, const struct opt *opt)
{
	CLEANUP_STR struct str left = {0};
	CLEANUP_STR struct str right = {0};
	str_add(&left, "  ");
	if (opt->short_name)
		str_addf(&left, "%s, ", opt->short_name);
	str_add(&left, opt->name);
	if (opt->type != OPT_FLAG)
		str_addf(&left, " %s%s", opt->meta ? opt->meta : "VALUE",
			 takes_many(opt) ? "..." : "");
	describe(opt, &right);
	fputs(str_text(&left), out);
	print_wrapped(out, str_text(&right), (int)left.len);
}

void opt_help(const struct opt_set *set, FILE *out)
{
	print_rows(set, NULL, &(struct form){help_heading, help_row}, out);
}

/* ---- manual page ---- */

/* Text that roff prints as it stands. */
static void roff_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '-')
			fputs("\\-", out);
		else if (*text == '\\')
			fputs("\\e", out);
		else
			fputc(*text, out);
	}
}

static void man_heading(FILE *out, const char *text, bool is_first)
{
	(void)is_first;
	fprintf(out, ".SS %s\n", text);
}

static void man_row(FILE *out, const struct opt *opt)
{
	CLEANUP_STR struct str text = {0};
	fputs(".TP\n\\fB", out);
	if (opt->short_name) {
		roff_text(out, opt->short_name);
		fputs("\\fR, \\fB", out);
	}
	roff_text(out, opt->name);
	fputs("\\fR", out);
	if (opt->type != OPT_FLAG) {
		fputs(" \\fI", out);
		roff_text(out, opt->meta ? opt->meta : "VALUE");
		fputs(takes_many(opt) ? "\\fR ..." : "\\fR", out);
	}
	describe(opt, &text);
	if (text.len)
		text.s[0] = (char)toupper((unsigned char)text.s[0]);
	fputs("\n\\&", out); /* a line that begins with a dot or a quote would be a request */
	roff_text(out, str_text(&text));
	fputs(".\n", out);
}

static void man_names(const struct opt_set *set, const struct opt_set *above, FILE *out)
{
	const char *before = ".P\nAs described above: ";
	for (size_t g = 0; g < set->count; g++) {
		for (size_t i = 0; i < set->groups[g].count; i++) {
			const struct opt *opt = &set->groups[g].opts[i];
			if (opt->flags & OPT_F_HIDDEN || !is_described(above, opt))
				continue;
			fputs(before, out);
			fputs("\\fB", out);
			roff_text(out, opt->name);
			fputs("\\fR", out);
			before = ",\n";
		}
	}
	if (before[0] == ',')
		fputs(".\n", out);
}

void opt_man(const struct opt_set *set, const struct opt_set *above, FILE *out)
{
	man_names(set, above, out);
	print_rows(set, above, &(struct form){man_heading, man_row}, out);
}
