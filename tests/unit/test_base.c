// SPDX-License-Identifier: Apache-2.0
/* base: numbers from text and back, quoting, paths, atomic files, random numbers, heap, errors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"
#include "base/heap.h"
#include "base/rng.h"
#include "base/str.h"

static void numbers_take_the_whole_text(void **state)
{
	(void)state;
	int64_t i = 7;
	uint64_t u = 7;
	double d = 7;
	assert_int_equal(parse_i64("-12", &i), 0);
	assert_int_equal(i, -12);
	static const char *const bad[] = {"", " 1", "1 ", "1x", "x", "0x10", "1e3", "--1"};
	for (size_t n = 0; n < ARRAY_LEN(bad); n++)
		assert_int_equal(parse_i64(bad[n], &i), -EINVAL);
	assert_int_equal(i, -12); /* untouched on failure */
	assert_int_equal(parse_i64("9223372036854775808", &i), -ERANGE);
	assert_int_equal(parse_u64("-1", &u), -EINVAL);
	assert_int_equal(parse_u64("18446744073709551615", &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(parse_double("1e3", &d), 0);
	assert_true(d == 1000.0);
	static const char *const not_numbers[] = {"nan", "inf", "-infinity", "0x1p3", "1.0.0", "", "1,5"};
	for (size_t n = 0; n < ARRAY_LEN(not_numbers); n++)
		assert_int_equal(parse_double(not_numbers[n], &d), -EINVAL);
	assert_int_equal(parse_double("1e999", &d), -ERANGE);
}

static void words_as_a_shell_splits_them(void **state)
{
	(void)state;
	struct strlist l = {0};
	assert_int_equal(strlist_add_shell(&l, " a  'b c'\"d\"\\ e\t\"\\$ \\x\" ''\n--f=\"g h\" "), 0);
	static const char *const expected[] = {"a", "b cd e", "$ \\x", "", "--f=g h"};
	assert_int_equal(l.count, ARRAY_LEN(expected));
	for (size_t i = 0; i < ARRAY_LEN(expected); i++)
		assert_string_equal(l.v[i], expected[i]);
	assert_int_equal(strlist_add_shell(&l, "a 'b"), -EINVAL);
	assert_int_equal(strlist_add_shell(&l, "\"b"), -EINVAL);
	strlist_release(&l);
	assert_int_equal(strlist_add_shell(&l, "  "), 0);
	assert_int_equal(l.count, 0);
}

static void sizes_have_binary_units(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"4096", 4096}, {"4k", 4096}, {"4KiB", 4096}, {"1M", 1 << 20}, {"2GiB", UINT64_C(2) << 30}, {"512B", 512}};
	uint64_t v;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(parse_size(good[i].text, &v), 0);
		assert_true(v == good[i].bytes);
	}
	static const char *const bad[] = {"", "k", "1kb", "1 M", "-1", "1.5M", "1MB"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(parse_size(bad[i], &v), -EINVAL);
	assert_int_equal(parse_size("99999999999T", &v), -ERANGE);
	char buf[32];
	assert_string_equal(fmt_size_exact(buf, sizeof(buf), 1 << 20), "1MiB");
	assert_string_equal(fmt_size_exact(buf, sizeof(buf), 4097), "4097");
	assert_string_equal(fmt_bytes(buf, sizeof(buf), 1536), "1.50 KiB");
}

static void doubles_read_back(void **state)
{
	(void)state;
	static const double values[] = {0.0, 16.0, 100.0, 0.1, 1.0 / 3.0, 1e-300, 123456789.125, -2.5, 1e22};
	char buf[64];
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		double back;
		assert_int_equal(parse_double(fmt_double(buf, sizeof(buf), values[i]), &back), 0);
		assert_true(back == values[i]);
	}
	assert_string_equal(fmt_double(buf, sizeof(buf), 16.0), "16.0");
	assert_string_equal(fmt_double(buf, sizeof(buf), 100.0), "100.0");
	assert_string_equal(fmt_double(buf, sizeof(buf), 0.1), "0.1");
}

/* What a shell makes of the quoted words is what went in. */
static void quoting_survives_a_shell(void **state)
{
	(void)state;
	static const char *const words[] = {"plain", "", "two words", "it's", "$HOME `id` \"x\" \\", "a;b&c|d>e*f?g[h]~"};
	struct str command = {0};
	str_add(&command, "printf '%s\\n'");
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		str_add(&command, " ");
		str_add_quoted(&command, words[i]);
	}
	FILE *f = popen(str_text(&command), "r"); /* the one place where a shell is wanted */
	assert_non_null(f);
	char line[128];
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		assert_non_null(fgets(line, sizeof(line), f));
		line[strcspn(line, "\n")] = '\0';
		assert_string_equal(line, words[i]);
	}
	pclose(f);
	str_release(&command);
	struct str plain = {0};
	str_add_quoted(&plain, "--x=/a/b-c_d.e:1,2@h");
	assert_string_equal(str_text(&plain), "--x=/a/b-c_d.e:1,2@h");
	str_release(&plain);
}

static void lists_serve_as_argv(void **state)
{
	(void)state;
	struct strlist l = {0}, copy = {0};
	assert_int_equal(strlist_add_split(&l, " a,b  c,,", ", "), 0);
	assert_int_equal(l.count, 3);
	assert_null(l.v[3]);
	assert_true(strlist_has(&l, "b"));
	assert_false(strlist_has(&l, "d"));
	assert_int_equal(strlist_copy(&copy, &l), 0);
	strlist_release(&l);
	assert_string_equal(copy.v[2], "c");
	strlist_release(&copy);
}

static void paths_compare_by_component(void **state)
{
	(void)state;
	assert_true(path_within("/dev", "/dev"));
	assert_true(path_within("/dev/shm/x", "/dev"));
	assert_false(path_within("/devices", "/dev"));
	assert_false(path_within("/rootfs/x", "/root"));
	char *p = path_resolve("/nowhere-at-all/a/./b/../c");
	assert_string_equal(p, "/nowhere-at-all/a/c");
	free(p);
	p = path_resolve("/tmp/../etc/./nothing-here");
	assert_string_equal(p, "/etc/nothing-here");
	free(p);
}

static void files_are_replaced_whole(void **state)
{
	(void)state;
	char dir[] = "/tmp/test_base_XXXXXX";
	assert_non_null(mkdtemp(dir));
	char *path = path_join(dir, "a/b/file");
	char *parent = path_join(dir, "a/b");
	assert_int_equal(file_write_atomic(path, "x", 1), -ENOENT);
	assert_int_equal(dir_make(parent), 0);
	assert_int_equal(dir_make(parent), 0);
	assert_int_equal(file_write_atomic(path, "first", 5), 0);
	assert_int_equal(file_write_atomic(path, "second", 6), 0);
	struct str text = {0};
	assert_int_equal(file_read(path, 100, &text), 0);
	assert_string_equal(str_text(&text), "second");
	assert_int_equal(file_read(path, 3, &text), -EFBIG);
	assert_int_equal(dir_make(path), -ENOTDIR);
	assert_int_equal(file_write_atomic(parent, "x", 1), -EISDIR);
	assert_int_equal(file_write_atomic("/dev/null", "x", 1), -EINVAL);
	str_release(&text);
	unlink(path);
	assert_int_equal(rmdir(parent), 0); /* empty: no temporary file stayed */
	char *a = path_join(dir, "a");
	rmdir(a);
	rmdir(dir);
	free(a);
	free(parent);
	free(path);
}

static void draws_are_uniform_and_repeatable(void **state)
{
	(void)state;
	struct rng a = rng_stream(rng_key(1, 2)), b = rng_stream(rng_key(1, 2)), c = rng_stream(rng_key(2, 1));
	assert_true(rng_next(&a) == rng_next(&b));
	assert_true(rng_next(&a) != rng_next(&c));
	unsigned seen[6] = {0};
	for (int i = 0; i < 60000; i++)
		seen[rng_range(&a, 10, 15) - 10]++;
	for (int i = 0; i < 6; i++)
		assert_in_range(seen[i], 9500, 10500);
	assert_false(rng_chance(&a, rng_threshold(0.0)));
	assert_true(rng_chance(&a, rng_threshold(1.0)));
	unsigned hits = 0;
	for (int i = 0; i < 100000; i++)
		hits += rng_chance(&a, rng_threshold(0.2));
	assert_in_range(hits, 19500, 20500);
}

static void heap_gives_the_smallest_first_and_ties_in_order(void **state)
{
	(void)state;
	struct heap h;
	assert_int_equal(heap_init(&h, 1000), 0);
	assert_true(heap_min_key(&h) == UINT64_MAX);
	struct rng r = rng_stream(7);
	for (uint64_t i = 0; i < 1000; i++)
		heap_push(&h, (struct heap_item){.key = rng_below(&r, 50), .tie = i, .value = i});
	struct heap_item last = {0};
	for (int i = 0; i < 1000; i++) {
		struct heap_item item = heap_pop(&h);
		assert_true(i == 0 || item.key > last.key || (item.key == last.key && item.tie > last.tie));
		last = item;
	}
	heap_release(&h);
}

static void errors_grow_a_prefix(void **state)
{
	(void)state;
	struct error err = {0};
	assert_int_equal(error_set(&err, -EIO, ERR_FS_FULL, "no %s", "space"), -EIO);
	error_prefix(&err, "tier '%s'", "file");
	assert_string_equal(err.message, "tier 'file': no space");
	assert_int_equal(error_set(NULL, -EIO, ERR_FS_FULL, "x"), -EIO);
	char longer[2000];
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	error_set(&err, -EIO, ERR_FS_FULL, "%s", longer);
	error_prefix(&err, "short");
	assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
	assert_int_equal(strncmp(err.message, "short: aaa", 10), 0);
	assert_int_equal(err_exit_code(ERR_CONFIG_PARSE), 2);
	assert_int_equal(err_exit_code(ERR_FS_FULL), 3);
	assert_int_equal(err_exit_code(ERR_RUN_INTERRUPTED), 8);
	assert_int_equal(err_exit_code(ERR_UNSUPPORTED), 2);
	assert_int_equal(err_fs_code(-ENOENT), ERR_FS_NOT_FOUND);
	assert_int_equal(err_fs_code(-ENOSPC), ERR_FS_FULL);
	assert_int_equal(err_fs_code(-EISDIR), ERR_FS_STRUCTURE);
	assert_int_equal(err_fs_code(-EROFS), ERR_FS_PERMISSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_take_the_whole_text),
		cmocka_unit_test(words_as_a_shell_splits_them),
		cmocka_unit_test(sizes_have_binary_units),
		cmocka_unit_test(doubles_read_back),
		cmocka_unit_test(quoting_survives_a_shell),
		cmocka_unit_test(lists_serve_as_argv),
		cmocka_unit_test(paths_compare_by_component),
		cmocka_unit_test(files_are_replaced_whole),
		cmocka_unit_test(draws_are_uniform_and_repeatable),
		cmocka_unit_test(heap_gives_the_smallest_first_and_ties_in_order),
		cmocka_unit_test(errors_grow_a_prefix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
