// SPDX-License-Identifier: Apache-2.0
/*
 * The tree as a file. Written here and not by jansson because a histogram in its indented form
 * takes four lines per bucket, and because its doubles are not the shortest that read back.
 */
#include <stdlib.h>

#include "base/file.h"
#include "base/str.h"
#include "result/internal.h"
#include "result/result.h"

static void dump(struct str *out, json_t *node, unsigned depth);

static void dump_string(struct str *out, const json_t *node)
{
	CLEANUP_FREE char *text = json_dumps(node, JSON_ENCODE_ANY);
	if (text)
		str_add(out, text);
	else
		out->rc = -ENOMEM;
}

static void dump_scalar(struct str *out, const json_t *node)
{
	char buf[40];
	switch (json_typeof(node)) {
	case JSON_STRING:
		dump_string(out, node);
		break;
	case JSON_INTEGER:
		str_addf(out, "%lld", (long long)json_integer_value(node));
		break;
	case JSON_REAL:
		str_add(out, fmt_double(buf, sizeof(buf), json_real_value(node)));
		break;
	case JSON_TRUE:
		str_add(out, "true");
		break;
	case JSON_FALSE:
		str_add(out, "false");
		break;
	default:
		str_add(out, "null");
	}
}

static void newline(struct str *out, unsigned depth)
{
	str_addf(out, "\n%*s", (int)depth * 4, "");
}

static void dump_key(struct str *out, const char *key)
{
	json_t *text = json_string(key);
	if (text)
		dump_string(out, text);
	else
		out->rc = -ENOMEM;
	json_decref(text);
	str_add(out, ": ");
}

static void dump_object(struct str *out, json_t *node, unsigned depth)
{
	const char *key, *comma = "";
	json_t *child;
	str_add(out, "{");
	json_object_foreach(node, key, child)
	{
		str_add(out, comma);
		newline(out, depth + 1);
		dump_key(out, key);
		dump(out, child, depth + 1);
		comma = ",";
	}
	if (json_object_size(node) > 0)
		newline(out, depth);
	str_add(out, "}");
}

static bool has_objects(const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (json_is_object(json_array_get(list, i)))
			return true;
	}
	return false;
}

/* Lists of numbers, of pairs and of texts stay on one line. */
static void dump_array(struct str *out, json_t *node, unsigned depth)
{
	bool is_tall = has_objects(node);
	str_add(out, "[");
	for (size_t i = 0; i < json_array_size(node); i++) {
		if (i > 0)
			str_add(out, is_tall ? "," : ", ");
		if (is_tall)
			newline(out, depth + 1);
		dump(out, json_array_get(node, i), depth + 1);
	}
	if (is_tall)
		newline(out, depth);
	str_add(out, "]");
}

static void dump(struct str *out, json_t *node, unsigned depth)
{
	if (json_is_object(node))
		dump_object(out, node, depth);
	else if (json_is_array(node))
		dump_array(out, node, depth);
	else
		dump_scalar(out, node);
}

int result_dump(const struct run_result *r, bool has_histograms, struct str *ret)
{
	json_t *root = result_json(r);
	if (!root)
		return -ENOMEM;
	if (!has_histograms)
		json_object_del(root, "histograms");
	str_clear(ret);
	dump(ret, root, 0);
	str_add(ret, "\n");
	json_decref(root);
	return ret->rc;
}

int result_write(const struct run_result *r, const char *path)
{
	CLEANUP_STR struct str out = {0};
	int rc = result_dump(r, true, &out);
	return rc ? rc : file_write_atomic(path, out.s, out.len);
}
