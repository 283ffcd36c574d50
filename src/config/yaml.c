// SPDX-License-Identifier: Apache-2.0
/*
 * A YAML text as a tree that knows the line of every node. libfyaml reports events; the tree is
 * built here and not by its document functions, because those keep no position for mappings and
 * copy what an alias points to, so that a small file can grow without limit. Here an alias is a
 * second pointer to the same node, and a node can be named only after it is complete, so there are
 * no cycles.
 */
#include "config/yaml.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* Far above any description of a workload, low enough that nothing below needs to be clever. */
enum { FILE_BYTES_MAX = 1 << 20, NODES_MAX = 20000, PAIRS_MAX = 4096, DEPTH_MAX = 48 };

struct yaml_pair {
	char *key;
	unsigned line;
	struct yaml_node *value;
};

struct yaml_node {
	enum yaml_kind kind;
	unsigned line, column;
	char *text;               /* YAML_SCALAR */
	char *anchor;             /* its name, or NULL */
	struct yaml_node **items; /* YAML_SEQUENCE; borrowed from the document's chain */
	struct yaml_pair *pairs;  /* YAML_MAPPING */
	size_t count;
	size_t cap;
	struct yaml_node *older; /* the document's chain of all nodes */
};

struct yaml {
	char *name;
	struct yaml_node *root;
	struct yaml_node *newest;
	size_t nodes; /* nodes, aliases and merged pairs, at most NODES_MAX */
};

/* One document being read. */
struct reader {
	struct yaml *y;
	struct fy_parser *parser;
	struct fy_diag *diag;
	struct error *err;
	unsigned line; /* of the latest event that had a position */
	unsigned column;
};

static int refuse(const struct reader *r, unsigned line, unsigned column, const char *what)
{
	return error_set(r->err, -EINVAL, ERR_CONFIG_PARSE, "%s:%u:%u: %s", r->y->name, line,
			 column, what);
}

static int no_memory(const struct reader *r)
{
	return error_set(r->err, -ENOMEM, ERR_INTERNAL, "%s: out of memory", r->y->name);
}

/* libfyaml found the text malformed: its first complaint is the cause, later ones follow from it.
 */
static int refuse_syntax(const struct reader *r)
{
	void *at = NULL;
	const struct fy_diag_error *e = fy_diag_errors_iterate(r->diag, &at);
	if (!e)
		return refuse(r, r->line, r->column, "not readable as YAML");
	unsigned line = e->line > 0 ? (unsigned)e->line : r->line;
	unsigned column = e->column > 0 ? (unsigned)e->column : 1;
	return refuse(r, line, column, e->msg);
}

static struct yaml_node *node_new(struct reader *r, enum yaml_kind kind)
{
	struct yaml_node *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->kind = kind;
	n->line = r->line;
	n->column = r->column;
	n->older = r->y->newest;
	r->y->newest = n;
	r->y->nodes++;
	return n;
}

static void note_position(struct reader *r, struct fy_event *event)
{
	const struct fy_mark *mark = fy_event_start_mark(event);
	if (!mark)
		return;
	r->line = (unsigned)mark->line + 1;
	r->column = (unsigned)mark->column + 1;
}

static int token_text(const struct reader *r, struct fy_token *token, char **ret)
{
	size_t len = 0;
	const char *text = token ? fy_token_get_text(token, &len) : "";
	char *copy = text ? strndup(text, len) : NULL;
	if (!copy)
		return no_memory(r);
	*ret = copy;
	return 0;
}

static bool is_null_text(const char *text)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
	for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
		if (!strcmp(text, nulls[i]))
			return true;
	return false;
}

static int read_scalar(struct reader *r, struct fy_event *event, struct yaml_node **ret)
{
	struct fy_token *token = fy_event_get_token(event);
	struct yaml_node *n = node_new(r, YAML_SCALAR);
	if (!n)
		return no_memory(r);
	int rc = token_text(r, token, &n->text);
	if (rc)
		return rc;
	bool plain = !token || fy_token_scalar_style(token) == FYSS_PLAIN;
	if (plain && is_null_text(n->text))
		n->kind = YAML_NULL;
	*ret = n;
	return 0;
}

static int read_alias(struct reader *r, struct fy_event *event, struct yaml_node **ret)
{
	char *name CLEANUP_FREE = NULL;
	int rc = token_text(r, fy_event_get_token(event), &name);
	if (rc)
		return rc;
	r->y->nodes++;
	for (struct yaml_node *n = r->y->newest; n; n = n->older) {
		if (n->anchor && !strcmp(n->anchor, name)) {
			*ret = n;
			return 0;
		}
	}
	return refuse(r, r->line, r->column, "alias of an anchor that is not complete before it");
}

static int item_add(const struct reader *r, struct yaml_node *n, struct yaml_node *item)
{
	if (n->count == n->cap) {
		size_t cap = n->cap ? 2 * n->cap : 8;
		struct yaml_node **items = reallocarray(n->items, cap, sizeof(struct yaml_node *));
		if (!items)
			return no_memory(r);
		n->items = items;
		n->cap = cap;
	}
	n->items[n->count++] = item;
	return 0;
}

static const struct yaml_pair *pair_find(const struct yaml_node *n, const char *key)
{
	for (size_t i = 0; i < n->count; i++)
		if (!strcmp(n->pairs[i].key, key))
			return &n->pairs[i];
	return NULL;
}

static int pair_add(const struct reader *r, struct yaml_node *n, const struct yaml_pair *pair)
{
	if (n->count == PAIRS_MAX)
		return refuse(r, n->line, n->column, "mapping with too many keys");
	if (n->count == n->cap) {
		size_t cap = n->cap ? 2 * n->cap : 8;
		struct yaml_pair *pairs = reallocarray(n->pairs, cap, sizeof(*pairs));
		if (!pairs)
			return no_memory(r);
		n->pairs = pairs;
		n->cap = cap;
	}
	char *key = strdup(pair->key);
	if (!key)
		return no_memory(r);
	n->pairs[n->count++] = (struct yaml_pair){key, pair->line, pair->value};
	return 0;
}

/* What stands in the mapping itself is stronger than what is merged into it. */
static int merge_one(struct reader *r, struct yaml_node *n, const struct yaml_node *from)
{
	if (from->kind != YAML_MAPPING)
		return refuse(r, from->line, from->column,
			      "'<<' takes a mapping or a list of them");
	for (size_t i = 0; i < from->count; i++) {
		if (++r->y->nodes > NODES_MAX)
			return refuse(r, n->line, n->column, "too many nodes");
		int rc = pair_find(n, from->pairs[i].key) ? 0 : pair_add(r, n, &from->pairs[i]);
		if (rc)
			return rc;
	}
	return 0;
}

static int merge_into(struct reader *r, struct yaml_node *n, const struct yaml_node *from)
{
	if (from->kind != YAML_SEQUENCE)
		return merge_one(r, n, from);
	for (size_t i = 0; i < from->count; i++) {
		int rc = merge_one(r, n, from->items[i]);
		if (rc)
			return rc;
	}
	return 0;
}

static int read_node(struct reader *r, struct fy_event *event, unsigned depth,
		     struct yaml_node **ret);

/* The next event; NULL with *rc set when the text ends or is malformed. */
static struct fy_event *next_event(struct reader *r, int *rc)
{
	struct fy_event *event = fy_parser_parse(r->parser);
	if (!event) {
		*rc = refuse_syntax(r);
		return NULL;
	}
	note_position(r, event);
	return event;
}

static int read_sequence(struct reader *r, struct yaml_node *n, unsigned depth)
{
	for (;;) {
		int rc = 0;
		struct fy_event *event = next_event(r, &rc);
		if (!event)
			return rc;
		bool end = event->type == FYET_SEQUENCE_END;
		struct yaml_node *item = NULL;
		if (!end)
			rc = read_node(r, event, depth, &item);
		fy_parser_event_free(r->parser, event);
		if (!rc && !end)
			rc = item_add(r, n, item);
		if (rc || end)
			return rc;
	}
}

static int read_key(struct reader *r, const struct yaml_node *n, bool merged,
		    struct fy_event *event, struct yaml_pair *pair)
{
	struct yaml_node *key = NULL;
	pair->line = r->line;
	unsigned column = r->column;
	if (event->type != FYET_SCALAR)
		return refuse(r, r->line, column, "a key must be a plain text");
	int rc = read_scalar(r, event, &key);
	if (rc)
		return rc;
	pair->key = key->text;
	if (pair_find(n, pair->key) || (merged && !strcmp(pair->key, "<<")))
		return error_set(r->err, -EINVAL, ERR_CONFIG_PARSE,
				 "%s:%u:%u: key '%s' stands twice", r->y->name, pair->line, column,
				 pair->key);
	return 0;
}

static int read_value(struct reader *r, unsigned depth, struct yaml_pair *pair)
{
	int rc = 0;
	struct fy_event *event = next_event(r, &rc);
	if (!event)
		return rc;
	rc = read_node(r, event, depth, &pair->value);
	fy_parser_event_free(r->parser, event);
	return rc;
}

static int read_mapping(struct reader *r, struct yaml_node *n, unsigned depth)
{
	const struct yaml_node *merged = NULL;
	for (;;) {
		int rc = 0;
		struct yaml_pair pair = {0};
		struct fy_event *event = next_event(r, &rc);
		if (!event)
			return rc;
		bool end = event->type == FYET_MAPPING_END;
		if (!end)
			rc = read_key(r, n, merged, event, &pair);
		fy_parser_event_free(r->parser, event);
		if (!rc && !end)
			rc = read_value(r, depth, &pair);
		if (rc)
			return rc;
		if (end)
			return merged ? merge_into(r, n, merged) : 0;
		if (!strcmp(pair.key, "<<"))
			merged = pair.value;
		else
			rc = pair_add(r, n, &pair);
		if (rc)
			return rc;
	}
}

static int read_content(struct reader *r, struct fy_event *event, unsigned depth,
			struct yaml_node **ret)
{
	if (event->type == FYET_SCALAR)
		return read_scalar(r, event, ret);
	bool mapping = event->type == FYET_MAPPING_START;
	if (!mapping && event->type != FYET_SEQUENCE_START)
		return refuse(r, r->line, r->column, "unexpected end");
	struct yaml_node *n = node_new(r, mapping ? YAML_MAPPING : YAML_SEQUENCE);
	if (!n)
		return no_memory(r);
	int rc = mapping ? read_mapping(r, n, depth + 1) : read_sequence(r, n, depth + 1);
	if (!rc)
		*ret = n;
	return rc;
}

static int read_node(struct reader *r, struct fy_event *event, unsigned depth,
		     struct yaml_node **ret)
{
	if (depth > DEPTH_MAX)
		return refuse(r, r->line, r->column, "nested too deeply");
	if (r->y->nodes > NODES_MAX)
		return refuse(r, r->line, r->column, "too many nodes");
	if (event->type == FYET_ALIAS)
		return read_alias(r, event, ret);
	int rc = read_content(r, event, depth, ret);
	struct fy_token *anchor = fy_event_get_anchor_token(event);
	return rc || !anchor ? rc : token_text(r, anchor, &(*ret)->anchor);
}

/* The events around the root: stream and document start and end, and at most one document. */
static int read_stream(struct reader *r)
{
	for (;;) {
		int rc = 0;
		struct fy_event *event = next_event(r, &rc);
		if (!event)
			return rc;
		enum fy_event_type type = event->type;
		if (type == FYET_DOCUMENT_START && r->y->root)
			rc = refuse(r, r->line, r->column, "a second document; only one is read");
		else if (type != FYET_STREAM_START && type != FYET_DOCUMENT_START &&
			 type != FYET_DOCUMENT_END && type != FYET_STREAM_END)
			rc = read_node(r, event, 0, &r->y->root);
		fy_parser_event_free(r->parser, event);
		if (rc || type == FYET_STREAM_END)
			return rc;
	}
}

/* Length of the UTF-8 character at @p, 0 when it is none or a NUL. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	if (p[0] < 0x80)
		return p[0] ? 1 : 0;
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || len > left)
		return 0;
	/* Overlong forms, surrogates and what lies beyond U+10FFFF. */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* libfyaml takes a byte that is no character for the end of the text, and the rest would be lost in
 * silence. */
static int check_text(struct reader *r, const char *text, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_length((const unsigned char *)text + i, len - i);
		if (!n)
			return refuse(r, r->line, r->column, "a byte that is not UTF-8 text");
		r->column++;
		if (text[i] == '\n') {
			r->line++;
			r->column = 1;
		}
		i += n;
	}
	return 0;
}

static void discard_output(struct fy_diag *diag, void *user, const char *buf, size_t len)
{
	(void)diag;
	(void)user;
	(void)buf;
	(void)len;
}

static int read_text(struct yaml *y, const char *text, size_t len, struct error *err)
{
	const struct fy_diag_cfg quiet = {.output_fn = discard_output, .level = FYET_ERROR};
	struct reader r = {.y = y, .err = err, .line = 1, .column = 1};
	int rc = check_text(&r, text, len);
	if (rc)
		return rc;
	r.diag = fy_diag_create(&quiet);
	if (!r.diag)
		return no_memory(&r);
	fy_diag_set_collect_errors(r.diag, true);
	const struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2,
					 .diag = r.diag};
	r.parser = fy_parser_create(&cfg);
	rc = r.parser && !fy_parser_set_string(r.parser, text, len) ? read_stream(&r)
								    : no_memory(&r);
	if (r.parser)
		fy_parser_destroy(r.parser);
	fy_diag_destroy(r.diag);
	return rc;
}

static int parse_mem(const char *text, size_t len, const char *name, struct yaml **ret,
		     struct error *err)
{
	struct yaml *y = calloc(1, sizeof(*y));
	if (y)
		y->name = strdup(name);
	if (!y || !y->name) {
		yaml_free(y);
		return error_set(err, -ENOMEM, ERR_INTERNAL, "%s: out of memory", name);
	}
	int rc = read_text(y, text, len, err);
	if (rc) {
		yaml_free(y);
		return rc;
	}
	*ret = y;
	return 0;
}

int yaml_parse(const char *text, const char *name, struct yaml **ret, struct error *err)
{
	return parse_mem(text, strlen(text), name, ret, err);
}

int yaml_open(const char *path, struct yaml **ret, struct error *err)
{
	CLEANUP_STR struct str text = {0};
	int rc = file_read(path, FILE_BYTES_MAX, &text);
	if (rc == -EFBIG)
		return error_set(err, rc, ERR_CONFIG_NOT_FOUND, "%s: larger than 1 MiB", path);
	if (rc)
		return error_set(err, rc, ERR_CONFIG_NOT_FOUND, "cannot read %s: %s", path,
				 strerror(-rc));
	return parse_mem(str_text(&text), text.len, path, ret, err);
}

static void node_free(struct yaml_node *n)
{
	if (n->kind == YAML_MAPPING)
		for (size_t i = 0; i < n->count; i++)
			free(n->pairs[i].key);
	free(n->pairs);
	free(n->items);
	free(n->text);
	free(n->anchor);
	free(n);
}

void yaml_free(struct yaml *y)
{
	if (!y)
		return;
	while (y->newest) {
		struct yaml_node *n = y->newest;
		y->newest = n->older;
		node_free(n);
	}
	free(y->name);
	free(y);
}

const char *yaml_name(const struct yaml *y)
{
	return y->name;
}

struct yaml_node *yaml_root(struct yaml *y)
{
	return y->root;
}

enum yaml_kind yaml_kind(const struct yaml_node *n)
{
	return n->kind;
}

unsigned yaml_line(const struct yaml_node *n)
{
	return n->line;
}

size_t yaml_count(const struct yaml_node *n)
{
	return n->count;
}

struct yaml_node *yaml_item(struct yaml_node *n, size_t index)
{
	return n->kind == YAML_SEQUENCE && index < n->count ? n->items[index] : NULL;
}

const char *yaml_pair(struct yaml_node *n, size_t index, struct yaml_node **value,
		      unsigned *key_line)
{
	if (n->kind != YAML_MAPPING || index >= n->count)
		return NULL;
	*value = n->pairs[index].value;
	if (key_line)
		*key_line = n->pairs[index].line;
	return n->pairs[index].key;
}

struct yaml_node *yaml_find(struct yaml_node *n, const char *key)
{
	const struct yaml_pair *pair = n->kind == YAML_MAPPING ? pair_find(n, key) : NULL;
	return pair ? pair->value : NULL;
}

const char *yaml_text(struct yaml_node *n)
{
	return n->kind == YAML_SCALAR ? n->text : NULL;
}
