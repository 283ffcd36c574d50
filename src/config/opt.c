// SPDX-License-Identifier: Apache-2.0
/* What a program does with an option's table row: parsing, defaults, echo. For people: opt_doc.c. */
#include "config/opt.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "config/internal.h"

static void *field_of(const struct opt_group *group, size_t index)
{
	return (char *)group->target + group->opts[index].offset;
}

static bool is_list(const struct opt *opt)
{
	return opt->type == OPT_LIST || opt->type == OPT_WORDS || opt->type == OPT_ARGS;
}

/* Words like "-nu" and "--duration" are options; "-5", "-.5" and "-" may be values. */
static bool looks_like_option(const char *word)
{
	return word[0] == '-' && word[1] && word[1] != '.' && !isdigit((unsigned char)word[1]);
}

static void bound_text(const struct opt *opt, double bound, char *buf, size_t size)
{
	if (opt->type == OPT_SIZE)
		fmt_size_exact(buf, size, (uint64_t)bound);
	else if (opt->type == OPT_INT && bound >= (double)INT64_MAX)
		snprintf(buf, size, "%" PRId64, INT64_MAX);
	else if (opt->type == OPT_INT)
		snprintf(buf, size, "%.0f", bound);
	else
		snprintf(buf, size, "%.10g", bound);
}

void opt_range_text(const struct opt *opt, struct str *out)
{
	if (opt->type == OPT_CHOICE) {
		for (size_t i = 0; opt->choices[i]; i++)
			str_addf(out, "%s%s", i ? ", " : "", opt->choices[i]);
		return;
	}
	if (opt->min == opt->max)
		return;
	char lo[32], hi[32];
	bound_text(opt, opt->min, lo, sizeof(lo));
	if (isinf(opt->max)) {
		str_addf(out, "at least %s", lo);
		return;
	}
	bound_text(opt, opt->max, hi, sizeof(hi));
	str_addf(out, "%s..%s", lo, hi);
}

static const char *kind_text(const struct opt *opt)
{
	switch (opt->type) {
	case OPT_INT:
		return "a whole number";
	case OPT_REAL:
		return "a number";
	case OPT_SIZE:
		return "a size like 4096, 64KiB or 1MiB";
	case OPT_CHOICE:
		return "one of its choices";
	case OPT_FLAG:
		return "true or false";
	case OPT_ARGS:
		return "words with closed quotes";
	default:
		return opt->meta ? opt->meta : "a text";
	}
}

/* What a value should have been, for the end of a message: "expected 1..100000". */
static void expected_text(const struct opt *opt, struct str *out)
{
	str_add(out, "expected ");
	size_t before = out->len;
	if (opt->type == OPT_CHOICE)
		str_add(out, "one of ");
	opt_range_text(opt, out);
	if (out->len == before)
		str_add(out, kind_text(opt));
}

/* Values parsed from text, checked, and not yet stored. */
union opt_value {
	bool flag;
	int64_t i;
	double real;
	uint64_t size;
	int choice;
};

static bool in_range(const struct opt *opt, double v)
{
	return opt->min == opt->max || (v >= opt->min && v <= opt->max);
}

static int parse_choice(const struct opt *opt, const char *text, int *ret)
{
	for (int i = 0; opt->choices[i]; i++) {
		if (!strcmp(opt->choices[i], text)) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

/* At least one word, every quote closed. */
static int check_args(const char *text)
{
	struct strlist words = {0};
	int rc = strlist_add_shell(&words, text);
	if (!rc && !words.count)
		rc = -EINVAL;
	strlist_release(&words);
	return rc;
}

/* Return: 0; -EINVAL not of the type; -ERANGE outside min..max. */
static int parse_value(const struct opt *opt, const char *text, union opt_value *ret)
{
	int rc = 0;
	double compare = 0;
	switch (opt->type) {
	case OPT_FLAG:
		return parse_bool(text, &ret->flag);
	case OPT_INT:
		rc = parse_i64(text, &ret->i);
		compare = rc ? 0 : (double)ret->i;
		break;
	case OPT_REAL:
		rc = parse_double(text, &ret->real);
		compare = rc ? 0 : ret->real;
		break;
	case OPT_SIZE:
		rc = parse_size(text, &ret->size);
		compare = rc ? 0 : (double)ret->size;
		break;
	case OPT_CHOICE:
		return parse_choice(opt, text, &ret->choice);
	case OPT_ARGS:
		return check_args(text);
	case OPT_TEXT:
	case OPT_LIST:
	case OPT_WORDS:
		return text[strspn(text, opt->type == OPT_WORDS ? " ,\t" : "")] ? 0 : -EINVAL;
	}
	if (!rc && !in_range(opt, compare))
		rc = -ERANGE;
	return rc;
}

static int store_text(char **field, const char *text)
{
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int store_value(const struct opt *opt, void *field, const char *text, union opt_value v)
{
	switch (opt->type) {
	case OPT_FLAG:
		*(bool *)field = v.flag;
		return 0;
	case OPT_INT:
		*(int64_t *)field = v.i;
		return 0;
	case OPT_REAL:
		*(double *)field = v.real;
		return 0;
	case OPT_SIZE:
		*(uint64_t *)field = v.size;
		return 0;
	case OPT_CHOICE:
		*(int *)field = v.choice;
		return 0;
	case OPT_TEXT:
		return store_text(field, text);
	case OPT_LIST:
		return strlist_add(field, text);
	case OPT_WORDS:
		return strlist_add_split(field, text, " ,\t");
	case OPT_ARGS:
		return strlist_add_shell(field, text);
	}
	return 0;
}

static void refuse_text(const struct opt *opt, const char *text, int rc, struct str *out)
{
	str_addf(out, "%s: ", opt->name);
	if (!text[strspn(text, " ,\t")])
		str_add(out, "value is empty, ");
	else if (rc == -ERANGE && isinf(opt->max) && text[0] != '-')
		str_addf(out, "%s is too large, ", text);
	else if (rc == -ERANGE)
		str_addf(out, "%s is out of range, ", text);
	else if (opt->type == OPT_CHOICE)
		str_addf(out, "\"%s\" is not known, ", text);
	else if (opt->type == OPT_ARGS)
		str_addf(out, "\"%s\" leaves a quote open, ", text);
	else
		str_addf(out, "\"%s\" is not %s, ", text, kind_text(opt));
	expected_text(opt, out);
}

static int add_problem(struct problems *problems, const char *where, const struct str *text)
{
	int rc = problems_add(problems, ERR_CONFIG_INVALID, "%s%s", where, str_text(text));
	return rc ? rc : -EINVAL;
}

/* A list that stands in a stronger source replaces the weaker one, then grows. */
static void begin_source(const struct opt_group *group, size_t index, enum opt_source source)
{
	if (is_list(&group->opts[index]) && group->source[index] != source)
		strlist_release(field_of(group, index));
	group->source[index] = (unsigned char)source;
}

int opt_set_text(const struct opt_group *group, size_t index, const char *text,
		 enum opt_source source, const char *where, struct problems *problems)
{
	const struct opt *opt = &group->opts[index];
	union opt_value value = {0};
	int rc = parse_value(opt, text, &value);
	if (rc) {
		CLEANUP_STR struct str message = {0};
		refuse_text(opt, text, rc, &message);
		return add_problem(problems, where, &message);
	}
	if (source < group->source[index])
		return 0;
	begin_source(group, index, source);
	return store_value(opt, field_of(group, index), text, value);
}

const char *opt_source_name(enum opt_source source)
{
	static const char *const names[] = {
		[OPT_FROM_DEFAULT] = "default", [OPT_FROM_USER] = "user",
		[OPT_FROM_ENVIRONMENT] = "environment", [OPT_FROM_FILE] = "file",
		[OPT_FROM_TYPED] = "typed",
	};
	return names[source];
}

static void clear_field(const struct opt *opt, void *field)
{
	static const size_t sizes[] = {
		[OPT_FLAG] = sizeof(bool),           [OPT_INT] = sizeof(int64_t),
		[OPT_REAL] = sizeof(double),         [OPT_SIZE] = sizeof(uint64_t),
		[OPT_TEXT] = sizeof(char *),         [OPT_CHOICE] = sizeof(int),
		[OPT_LIST] = sizeof(struct strlist), [OPT_WORDS] = sizeof(struct strlist),
		[OPT_ARGS] = sizeof(struct strlist),
	};
	memset(field, 0, sizes[opt->type]);
}

int opt_defaults(const struct opt_set *set)
{
	for (size_t g = 0; g < set->count; g++) {
		const struct opt_group *group = &set->groups[g];
		for (size_t i = 0; i < group->count; i++) {
			const struct opt *opt = &group->opts[i];
			union opt_value value = {0};
			clear_field(opt, field_of(group, i));
			group->source[i] = OPT_FROM_DEFAULT;
			if (!opt->def)
				continue;
			int rc = parse_value(opt, opt->def, &value);
			assert(!rc && "a default must satisfy its own row");
			if (!rc)
				rc = store_value(opt, field_of(group, i), opt->def, value);
			if (rc)
				return rc;
		}
	}
	return 0;
}

static bool name_is(const struct opt *opt, const char *name, size_t len)
{
	if (strlen(opt->name) == len && !memcmp(opt->name, name, len))
		return true;
	return opt->short_name && strlen(opt->short_name) == len &&
	       !memcmp(opt->short_name, name, len);
}

static bool find_len(const struct opt_set *set, const char *name, size_t len,
		     const struct opt_group **ret_group, size_t *ret_index)
{
	for (size_t g = 0; g < set->count; g++) {
		for (size_t i = 0; i < set->groups[g].count; i++) {
			if (name_is(&set->groups[g].opts[i], name, len)) {
				*ret_group = &set->groups[g];
				*ret_index = i;
				return true;
			}
		}
	}
	return false;
}

bool opt_find(const struct opt_set *set, const char *name, const struct opt_group **ret_group,
	      size_t *ret_index)
{
	return find_len(set, name, strlen(name), ret_group, ret_index);
}

bool opt_given(const struct opt_set *set, const char *name)
{
	const struct opt_group *group;
	size_t index;
	return opt_find(set, name, &group, &index) && group->source[index] != OPT_FROM_DEFAULT;
}

const char *opt_nearest(const struct opt_set *set, const char *name)
{
	struct suggest s = {.text = name};
	const struct opt_group *group;
	size_t index;
	for (size_t g = 0; g < set->count; g++) {
		for (size_t i = 0; i < set->groups[g].count; i++) {
			const struct opt *opt = &set->groups[g].opts[i];
			if (!(opt->flags & OPT_F_HIDDEN))
				suggest_offer(&s, opt->name, strlen(opt->name));
		}
	}
	const char *near = suggest_result(&s);
	return near && opt_find(set, near, &group, &index) ? group->opts[index].name : NULL;
}

/* An argument vector being read. */
struct cursor {
	const struct opt_set *set;
	int argc;
	char *const *argv;
	int at;
	struct problems *problems;
};

static int unknown_option(const struct cursor *c, const char *word, size_t len)
{
	CLEANUP_STR struct str name = {0};
	str_add_mem(&name, word, len);
	const char *near = opt_nearest(c->set, str_text(&name));
	return problems_add(c->problems, ERR_CONFIG_INVALID, "%s: unknown option%s%s%s",
			    str_text(&name), near ? ", did you mean " : "", near ? near : "",
			    near ? "?" : "");
}

static int missing_value(const struct cursor *c, const struct opt *opt)
{
	CLEANUP_STR struct str message = {0};
	str_addf(&message, "%s: value missing, ", opt->name);
	expected_text(opt, &message);
	if (c->at < c->argc && (opt->type == OPT_TEXT || is_list(opt)))
		str_addf(&message, " (\"%s\" is read as an option; write %s=%s if it is the value)",
			 c->argv[c->at], opt->name, c->argv[c->at]);
	return add_problem(c->problems, "", &message);
}

/* Words of an OPT_WORDS option, each taken as it stands. */
static int take_words(struct cursor *c, const struct opt_group *group, size_t index)
{
	if (c->at == c->argc || c->argv[c->at][0] == '-')
		return missing_value(c, &group->opts[index]);
	begin_source(group, index, OPT_FROM_TYPED);
	for (; c->at < c->argc && c->argv[c->at][0] != '-'; c->at++) {
		int rc = strlist_add(field_of(group, index), c->argv[c->at]);
		if (rc)
			return rc;
	}
	return 0;
}

static bool is_our_option(const struct cursor *c, const char *word)
{
	const struct opt_group *group;
	size_t index;
	return find_len(c->set, word, strcspn(word, "="), &group, &index);
}

/* Words of another program: only an option of ours ends them. A single one is a quoted line. */
static int take_args(struct cursor *c, const struct opt_group *group, size_t index)
{
	int first = c->at;
	while (c->at < c->argc && !is_our_option(c, c->argv[c->at]))
		c->at++;
	if (c->at == first)
		return missing_value(c, &group->opts[index]);
	if (c->at == first + 1)
		return opt_set_text(group, index, c->argv[first], OPT_FROM_TYPED, "", c->problems);
	begin_source(group, index, OPT_FROM_TYPED);
	int rc = 0;
	for (int i = first; !rc && i < c->at; i++)
		rc = strlist_add(field_of(group, index), c->argv[i]);
	return rc;
}

static int take_flag(const struct cursor *c, const struct opt_group *group, size_t index,
		     const char *value)
{
	const struct opt *opt = &group->opts[index];
	if (value) {
		int rc = problems_add(c->problems, ERR_CONFIG_INVALID,
				      "%s: takes no value, but \"%s\" was given", opt->name, value);
		return rc ? rc : -EINVAL;
	}
	return opt_set_text(group, index, "true", OPT_FROM_TYPED, "", c->problems);
}

/* @value: what stood behind '=', NULL when there was none. c->at is at the word after the option.
 */
static int take_option(struct cursor *c, const struct opt_group *group, size_t index,
		       const char *value)
{
	const struct opt *opt = &group->opts[index];
	if (opt->type == OPT_FLAG)
		return take_flag(c, group, index, value);
	if (!value && opt->type == OPT_WORDS)
		return take_words(c, group, index);
	if (!value && opt->type == OPT_ARGS)
		return take_args(c, group, index);
	if (!value) {
		if (c->at == c->argc || looks_like_option(c->argv[c->at]))
			return missing_value(c, opt);
		value = c->argv[c->at++];
	}
	return opt_set_text(group, index, value, OPT_FROM_TYPED, "", c->problems);
}

static int take_word(struct cursor *c)
{
	const char *word = c->argv[c->at++];
	if (!looks_like_option(word) || !strcmp(word, "--"))
		return problems_add(c->problems, ERR_CONFIG_INVALID, "unexpected word \"%s\"",
				    word);
	size_t len = strcspn(word, "=");
	const char *value = word[len] ? word + len + 1 : NULL;
	const struct opt_group *group;
	size_t index;
	if (find_len(c->set, word, len, &group, &index))
		return take_option(c, group, index, value);
	/* The word behind an unknown option is most likely its value: not worth a second message.
	 */
	if (!value && c->at < c->argc && !looks_like_option(c->argv[c->at]))
		c->at++;
	return unknown_option(c, word, len);
}

int opt_parse(const struct opt_set *set, int argc, char *const *argv, struct problems *problems,
	      bool *help)
{
	for (int i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
			*help = true;
			return 0;
		}
	}
	struct cursor c = {.set = set, .argc = argc, .argv = argv, .problems = problems};
	while (c.at < c.argc) {
		int rc = take_word(&c);
		if (rc && rc != -EINVAL)
			return rc;
	}
	return 0;
}

static bool is_unset(const struct opt_group *group, size_t index)
{
	const struct opt *opt = &group->opts[index];
	if (opt->type == OPT_TEXT)
		return !*(char **)field_of(group, index);
	if (is_list(opt))
		return !((struct strlist *)field_of(group, index))->count;
	return opt->flags & OPT_F_UNSET_NULL && !opt->def &&
	       group->source[index] == OPT_FROM_DEFAULT;
}

static void list_text(const struct strlist *list, struct str *ret)
{
	for (size_t i = 0; i < list->count; i++)
		str_addf(ret, "%s%s", i ? " " : "", list->v[i]);
}

/* As strlist_add_shell() reads it back. */
static void args_text(const struct strlist *list, struct str *ret)
{
	for (size_t i = 0; i < list->count; i++) {
		str_add(ret, i ? " " : "");
		str_add_quoted(ret, list->v[i]);
	}
}

bool opt_text(const struct opt_group *group, size_t index, struct str *ret)
{
	const struct opt *opt = &group->opts[index];
	const void *field = field_of(group, index);
	char buf[64];
	if (is_unset(group, index))
		return false;
	switch (opt->type) {
	case OPT_FLAG:
		str_add(ret, *(const bool *)field ? "true" : "false");
		break;
	case OPT_INT:
		str_addf(ret, "%" PRId64, *(const int64_t *)field);
		break;
	case OPT_REAL:
		str_add(ret, fmt_double(buf, sizeof(buf), *(const double *)field));
		break;
	case OPT_SIZE:
		str_add(ret, fmt_size_exact(buf, sizeof(buf), *(const uint64_t *)field));
		break;
	case OPT_TEXT:
		str_add(ret, *(char *const *)field);
		break;
	case OPT_CHOICE:
		str_add(ret, opt->choices[*(const int *)field]);
		break;
	case OPT_LIST:
	case OPT_WORDS:
		list_text(field, ret);
		break;
	case OPT_ARGS:
		args_text(field, ret);
		break;
	}
	return true;
}

void opt_key(const struct opt *opt, char *buf, size_t size)
{
	assert(size);
	const char *name = opt->name + strspn(opt->name, "-");
	size_t i = 0;
	for (; name[i] && i + 1 < size; i++)
		buf[i] = name[i] == '-' ? '_' : name[i];
	buf[i] = '\0';
}

static int add_pair(struct strlist *argv, const char *name, const char *value)
{
	if (looks_like_option(value))
		return strlist_addf(argv, "%s=%s", name, value);
	int rc = strlist_add(argv, name);
	return rc ? rc : strlist_add(argv, value);
}

/* "--hosts a b c"; a word that starts with '-' needs a "--hosts=-x" of its own. */
static int words_to_argv(const struct opt *opt, const struct strlist *words, struct strlist *argv)
{
	bool open = false;
	for (size_t i = 0; i < words->count; i++) {
		bool dash = words->v[i][0] == '-';
		int rc = 0;
		if (!dash && !open)
			rc = strlist_add(argv, opt->name);
		if (!rc)
			rc = dash ? strlist_addf(argv, "%s=%s", opt->name, words->v[i])
				  : strlist_add(argv, words->v[i]);
		if (rc)
			return rc;
		open = !dash;
	}
	return 0;
}

int opt_to_argv(const struct opt_group *group, size_t index, struct strlist *argv)
{
	const struct opt *opt = &group->opts[index];
	const void *field = field_of(group, index);
	if (opt->type == OPT_FLAG)
		return *(const bool *)field ? strlist_add(argv, opt->name) : 0;
	if (opt->type == OPT_WORDS)
		return words_to_argv(opt, field, argv);
	if (opt->type == OPT_LIST) {
		const struct strlist *list = field;
		for (size_t i = 0; i < list->count; i++) {
			int rc = add_pair(argv, opt->name, list->v[i]);
			if (rc)
				return rc;
		}
		return 0;
	}
	CLEANUP_STR struct str value = {0};
	if (!opt_text(group, index, &value))
		return 0;
	if (opt->type == OPT_ARGS)
		return value.rc ? value.rc : strlist_addf(argv, "%s=%s", opt->name, str_text(&value));
	return value.rc ? value.rc : add_pair(argv, opt->name, str_text(&value));
}

void opt_release(const struct opt_set *set)
{
	for (size_t g = 0; g < set->count; g++) {
		const struct opt_group *group = &set->groups[g];
		for (size_t i = 0; i < group->count; i++) {
			void *field = field_of(group, i);
			if (group->opts[i].type == OPT_TEXT) {
				free(*(char **)field);
				*(char **)field = NULL;
			} else if (is_list(&group->opts[i])) {
				strlist_release(field);
			}
		}
	}
}
