/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/yaml.h - YAML documents with the line of every node, over libfyaml.
 *
 * Receives: a file or a text.  Gives: nodes, typed values, and messages "FILE:LINE: ...".
 * Must not know: which keys exist.  Not for the I/O path.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct yaml;	  /* a parsed document */
struct yaml_node; /* borrowed from it */

/** yaml_open() - parse @path. Return: 0; -ENOENT/-EACCES/... with ERR_CONFIG_NOT_FOUND; -EINVAL with ERR_CONFIG_PARSE and "path:line:column: ...". yaml_free() after. */
int yaml_open(const char *path, struct yaml **ret, struct error *err);
/** yaml_parse() - parse @text; @name stands for the file in messages. */
int yaml_parse(const char *text, const char *name, struct yaml **ret, struct error *err);
void yaml_free(struct yaml *y);
const char *yaml_name(const struct yaml *y);

/** yaml_root() - NULL for an empty document. */
struct yaml_node *yaml_root(struct yaml *y);

enum yaml_kind { YAML_NULL, YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };
enum yaml_kind yaml_kind(const struct yaml_node *n);
unsigned yaml_line(const struct yaml_node *n); /* from 1 */

size_t yaml_count(const struct yaml_node *n); /* items of a sequence or mapping */
struct yaml_node *yaml_item(struct yaml_node *n, size_t index);
/** yaml_pair() - key text (borrowed until yaml_free()) and value of pair @index. @key_line may be NULL. */
const char *yaml_pair(struct yaml_node *n, size_t index, struct yaml_node **value, unsigned *key_line);
/** yaml_find() - value of @key, NULL when @n has none or is no mapping. */
struct yaml_node *yaml_find(struct yaml_node *n, const char *key);
/** yaml_text() - scalar text, NULL when @n is no scalar. Borrowed until yaml_free(). */
const char *yaml_text(struct yaml_node *n);
