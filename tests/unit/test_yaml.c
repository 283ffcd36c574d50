// SPDX-License-Identifier: Apache-2.0
/* YAML as the workload files need it: kinds, lines, merges, and one clear message for what is
 * malformed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "config/yaml.h"

static struct yaml *parse_ok(const char *text)
{
	struct yaml *y = NULL;
	struct error err = {0};
	if (yaml_parse(text, "f.yaml", &y, &err))
		fail_msg("%s", err.message);
	return y;
}

static struct yaml_node *get(struct yaml_node *map, const char *key)
{
	struct yaml_node *value = NULL;
	const char *k;
	for (size_t i = 0; (k = yaml_pair(map, i, &value, NULL)); i++)
		if (!strcmp(k, key))
			return value;
	fail_msg("no key %s", key);
	return NULL;
}

static void test_kinds_and_lines(void **state)
{
	struct yaml *y = parse_ok("a: 1\n"
				  "b:\n"
				  "  c: [10, 20]\n"
				  "  d:\n"
				  "e: {}\n"
				  "f: \"null\"\n"
				  "g: ~\n"
				  "h: 'it''s'\n");
	struct yaml_node *root = yaml_root(y);
	assert_int_equal(yaml_kind(root), YAML_MAPPING);
	assert_int_equal(yaml_count(root), 6);
	assert_string_equal(yaml_name(y), "f.yaml");
	assert_string_equal(yaml_text(get(root, "a")), "1");

	struct yaml_node *b = get(root, "b");
	struct yaml_node *c = get(b, "c");
	assert_null(yaml_text(b));
	assert_int_equal(yaml_kind(c), YAML_SEQUENCE);
	assert_int_equal(yaml_count(c), 2);
	assert_int_equal(yaml_line(c), 3);
	assert_string_equal(yaml_text(yaml_item(c, 1)), "20");
	assert_null(yaml_item(c, 2));
	assert_int_equal(yaml_kind(get(b, "d")), YAML_NULL);
	assert_null(yaml_text(get(b, "d")));

	assert_int_equal(yaml_kind(get(root, "e")), YAML_MAPPING);
	assert_int_equal(yaml_count(get(root, "e")), 0);
	assert_string_equal(yaml_text(get(root, "f")), "null"); /* quoted: a text */
	assert_int_equal(yaml_kind(get(root, "g")), YAML_NULL);
	assert_string_equal(yaml_text(get(root, "h")), "it's");

	struct yaml_node *value;
	unsigned line;
	assert_string_equal(yaml_pair(root, 1, &value, &line), "b");
	assert_int_equal(line, 2);
	assert_int_equal(yaml_line(value), 3);
	assert_null(yaml_pair(root, 6, &value, &line));
	yaml_free(y);
	(void)state;
}

static void test_empty(void **state)
{
	struct yaml *y = parse_ok("");
	assert_null(yaml_root(y));
	yaml_free(y);
	y = parse_ok("# only a comment\n");
	assert_null(yaml_root(y));
	yaml_free(y);
	yaml_free(NULL);
	(void)state;
}

static void test_alias_and_merge(void **state)
{
	struct yaml *y = parse_ok("base: &b {x: 1, y: 2}\n"
				  "more: &m {y: 8, z: 9}\n"
				  "same: *b\n"
				  "one:\n"
				  "  <<: *b\n"
				  "  y: 3\n"
				  "two: {<<: [*b, *m]}\n");
	struct yaml_node *root = yaml_root(y);
	assert_string_equal(yaml_text(get(get(root, "same"), "x")), "1");
	struct yaml_node *one = get(root, "one");
	assert_int_equal(yaml_count(one), 2);
	assert_string_equal(yaml_text(get(one, "x")), "1");
	assert_string_equal(yaml_text(get(one, "y")), "3"); /* its own value is stronger */
	struct yaml_node *two = get(root, "two");
	assert_int_equal(yaml_count(two), 3);
	assert_string_equal(yaml_text(get(two, "y")), "2"); /* the first of the list is stronger */
	assert_string_equal(yaml_text(get(two, "z")), "9");
	yaml_free(y);
	(void)state;
}

static void test_malformed(void **state)
{
	static const struct {
		const char *text;
		const char *begin;
	} cases[] = {
		{"a: 1\na: 2\n", "f.yaml:2:1: key 'a' stands twice"},
		{"a: 1\nb: [1, 2\nc: 3\n", "f.yaml:4:1: "},
		{"a:\n\t- b\n", "f.yaml:2:1: "},
		{"a: \"x\\q\"\n", "f.yaml:1:6: "},
		{"a: *gone\n", "f.yaml:1:5: alias of an anchor"},
		{"a: &a [*a]\n", "f.yaml:1:9: alias of an anchor"},
		{"a: 1\n---\nb: 1\n", "f.yaml:2:1: a second document"},
		{"? [a, b]\n: 1\n", "f.yaml:1:3: a key must be a plain text"},
		{"a: 1\nb: x\xff\n", "f.yaml:2:5: a byte that is not UTF-8"},
		{"a: \xed\xa0\x80\n", "f.yaml:1:4: a byte that is not UTF-8"},
		{"<<: 1\n", "f.yaml:1:5: '<<' takes a mapping"},
		{"<<: {a: 1}\n<<: {b: 1}\n", "f.yaml:2:1: key '<<' stands twice"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct error err = {0};
		struct yaml *y = NULL;
		assert_int_equal(yaml_parse(cases[i].text, "f.yaml", &y, &err), -EINVAL);
		assert_null(y);
		assert_int_equal(err.code, ERR_CONFIG_PARSE);
		if (strncmp(err.message, cases[i].begin, strlen(cases[i].begin)))
			fail_msg("case %zu: %s", i, err.message);
	}
	(void)state;
}

/* @head once, then @item @count times. */
static int parse_repeated(const char *head, const char *item, size_t count, struct error *err)
{
	CLEANUP_STR struct str text = {0};
	struct yaml *y = NULL;
	str_add(&text, head);
	for (size_t i = 0; i < count; i++)
		str_add(&text, item);
	int rc = yaml_parse(str_text(&text), "big.yaml", &y, err);
	yaml_free(y);
	return rc;
}

/* Files made to exhaust a reader are refused before they do. */
static void test_limits(void **state)
{
	struct error err = {0};
	assert_int_equal(parse_repeated("", "[", 100000, &err), -EINVAL);
	assert_int_equal(parse_repeated("- &a 1\n", "- *a\n", 100000, &err), -EINVAL);
	assert_non_null(strstr(err.message, "too many nodes"));
	assert_int_equal(parse_repeated("", "- 1\n", 10000, &err), 0);

	/* Each level holds the one below ten times: 10^9 nodes if they were copied. */
	CLEANUP_STR struct str text = {0};
	str_add(&text, "a0: &a0 [x, x]\n");
	for (int i = 1; i < 10; i++) {
		str_addf(&text, "a%d: &a%d [", i, i);
		for (int j = 0; j < 10; j++)
			str_addf(&text, "*a%d%s", i - 1, j < 9 ? ", " : "]\n");
	}
	struct yaml *y = parse_ok(str_text(&text));
	assert_int_equal(yaml_count(yaml_root(y)), 10);
	yaml_free(y);
	(void)state;
}

static void test_open(void **state)
{
	struct error err = {0};
	struct yaml *y = NULL;
	assert_int_equal(yaml_open("/no/such/file.yaml", &y, &err), -ENOENT);
	assert_int_equal(err.code, ERR_CONFIG_NOT_FOUND);
	assert_non_null(strstr(err.message, "/no/such/file.yaml"));

	char path[] = "/tmp/test_yaml_XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a: [\n", 5), 5);
	assert_int_equal(yaml_open(path, &y, &err), -EINVAL);
	assert_int_equal(strncmp(err.message, path, strlen(path)), 0);
	assert_int_equal(ftruncate(fd, (1 << 20) + 1), 0);
	assert_int_equal(yaml_open(path, &y, &err), -EFBIG);
	close(fd);
	unlink(path);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds_and_lines), cmocka_unit_test(test_empty),
		cmocka_unit_test(test_alias_and_merge), cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_limits),          cmocka_unit_test(test_open),
	};
	return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
