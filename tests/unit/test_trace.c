// SPDX-License-Identifier: Apache-2.0
/* Traces: good and bad rows, compression, replay times, and the known totals of the Mooncake
 * conversation trace. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/str.h"
#include "workload/key.h"
#include "workload/workload.h"

static const char *path_in(void **state)
{
	return *state;
}

static int set_up(void **state)
{
	char *path = strdup("/tmp/test_trace.XXXXXX");
	int fd = path ? mkstemp(path) : -1;

	if (fd < 0)
		return -1;
	*state = path;
	return close(fd);
}

static int tear_down(void **state)
{
	int rc = unlink(path_in(state));
	free(*state);
	return rc;
}

static void put(const char *path, const void *data, size_t len)
{
	CLEANUP_FCLOSE FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

#define ROW(ts, in, out, ids)                                                \
 "{\"timestamp\": " ts ", \"input_length\": " in ", \"output_length\": " out \
 ", \"hash_ids\": [" ids "]}"

static struct config make_config(const char *path, enum config_trace_format format, double speedup)
{
	struct config cfg = {0};

	cfg.opt.trace = (char *)path;
	cfg.opt.trace_format = format;
	cfg.opt.trace_speedup = speedup;
	return cfg;
}

static struct workload *make(const char *path, double speedup)
{
	struct config cfg = make_config(path, TRACE_AUTO, speedup);
	struct workload *w;
	struct error err = {0};

	if (workload_new(&cfg, 42, 0, &w, &err))
		fail_msg("%s", err.message);
	return w;
}

static void test_rows(void **state)
{
	struct workload_cursor c = {0};
	struct request r = {0};

	put_text(path_in(state), ROW("1000", "1030", "5", "7, 8, 1152921504606846975") "\n" ROW(
					 "1250.5", "512", "0", "7") "\n" ROW("3000", "0", "9", ""));
	struct workload *w = make(path_in(state), 1);
	assert_true(workload_is_trace(w));
	assert_int_equal(workload_streams(w), 1);
	assert_int_equal(workload_qos(w, 0), QOS_INTERACTIVE);

	assert_int_equal(workload_next(w, 0, &c, &r), 0);
	assert_int_equal(r.gap_ns, 0);
	assert_int_equal(r.sequence, 0);
	assert_int_equal(r.block_count, 3);
	assert_int_equal(r.blocks[0], 7);
	assert_int_equal(r.blocks[2], KEY_BLOCK_MAX);
	assert_int_equal(r.input_tokens, 1030);
	assert_int_equal(r.generated_tokens, 5);
	assert_int_equal(r.prefix, -1);
	assert_int_equal(r.turn, 0);
	assert_int_equal(workload_block_tokens(&r, 0), 512);
	assert_int_equal(workload_block_tokens(&r, 1), 512);
	assert_int_equal(workload_block_tokens(&r, 2), 6);

	assert_int_equal(workload_next(w, 0, &c, &r), 0);
	assert_int_equal(r.gap_ns, 250500 * NS_PER_US);
	assert_int_equal(r.block_count, 1);
	assert_int_equal(workload_block_tokens(&r, 0), 512);

	assert_int_equal(workload_next(w, 0, &c, &r), 0);
	assert_int_equal(r.sequence, 2);
	assert_int_equal(r.block_count, 0);
	assert_int_equal(c.gap_sum_ns, 2000 * NS_PER_MS);
	assert_int_equal(workload_next(w, 0, &c, &r), -ENODATA);
	assert_int_equal(workload_next(w, 0, &c, &r), -ENODATA);
	assert_int_equal(c.sequence, 3);
	assert_null(workload_bad_row(w));
	request_release(&r);
	workload_free(w);
}

static void gaps(const char *path, double speedup, const uint64_t *want_ns, size_t count)
{
	struct workload *w = make(path, speedup);
	struct workload_cursor c = {0};
	struct request r = {0};

	for (size_t i = 0; i < count; i++) {
		assert_int_equal(workload_next(w, 0, &c, &r), 0);
		assert_int_equal(r.gap_ns, want_ns[i]);
	}
	assert_int_equal(workload_next(w, 0, &c, &r), -ENODATA);
	request_release(&r);
	workload_free(w);
}

/* The third row lies before the second, the fourth is again later: arrivals wait, then follow the
 * clock. */
static void test_replay_speed(void **state)
{
	put_text(path_in(state), ROW("100", "1", "1", "1") "\n" ROW("300", "1", "1", "1") "\n" ROW(
					 "200", "1", "1", "1") "\n" ROW("500", "1", "1", "1") "\n");
	gaps(path_in(state), 1, (uint64_t[]){0, 200 * NS_PER_MS, 0, 200 * NS_PER_MS}, 4);
	gaps(path_in(state), 4, (uint64_t[]){0, 50 * NS_PER_MS, 0, 50 * NS_PER_MS}, 4);
	gaps(path_in(state), 0.5, (uint64_t[]){0, 400 * NS_PER_MS, 0, 400 * NS_PER_MS}, 4);
	gaps(path_in(state), 0, (uint64_t[]){0, 0, 0, 0}, 4);
}

/* Rounding a speed-up does not add up over rows. */
static void test_speedup_does_not_drift(void **state)
{
	CLEANUP_STR struct str text = {0};
	struct workload_cursor c = {0};
	struct request r = {0};

	for (int i = 0; i <= 3000; i++)
		str_addf(&text, ROW("%d", "1", "1", "1") "\n", i);
	put_text(path_in(state), str_text(&text));
	struct workload *w = make(path_in(state), 3);
	while (workload_next(w, 0, &c, &r) == 0)
		;
	assert_int_equal(c.sequence, 3001);
	assert_int_equal(c.gap_sum_ns, 1000 * NS_PER_MS);
	request_release(&r);
	workload_free(w);
}

static const char good[] = ROW("0", "600", "1", "1,2") "\n" ROW("7", "1024", "2", "1,3") "\n";

static uint64_t fingerprint(const char *path, double speedup)
{
	struct workload *w = make(path, speedup);
	uint64_t result = workload_fingerprint(w);

	workload_free(w);
	return result;
}

static void test_line_ends(void **state)
{
	static const char *const same[] = {
		ROW("0", "600", "1", "1,2") "\r\n" ROW("7", "1024", "2", "1,3") "\r\n",
		ROW("0", "600", "1", "1,2") "\n" ROW("7", "1024", "2", "1,3"),
		"\n  \t\n" ROW("0", "600", "1", "1,2") "\n\r\n\n" ROW("7", "1024", "2",
								      "1,3") "\n\n  ",
		" {\"hash_ids\":[1,2],\"more\":{\"x\":[]},\"output_length\":1,\"input_length\":600,"
		"\"timestamp\":0.0}\n" ROW("7.0", "1024", "2", "1,3") "\r",
	};

	put_text(path_in(state), good);
	uint64_t want = fingerprint(path_in(state), 1);
	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		put_text(path_in(state), same[i]);
		assert_int_equal(fingerprint(path_in(state), 1), want);
	}
	put_text(path_in(state),
		 ROW("0", "600", "1", "1,2") "\n" ROW("7", "1024", "2", "1,4") "\n");
	assert_true(fingerprint(path_in(state), 1) != want);
	put_text(path_in(state), good);
	assert_true(fingerprint(path_in(state), 2) != want);
}

static void put_gz(const char *path, const char *text)
{
	gzFile gz = gzopen(path, "wb");
	assert_non_null(gz);
	assert_int_equal(gzwrite(gz, text, (unsigned)strlen(text)), strlen(text));
	assert_int_equal(gzclose(gz), Z_OK);
}

static size_t zstd_of(const char *text, char *out, size_t cap)
{
	size_t n = ZSTD_compress(out, cap, text, strlen(text), 3);
	assert_false(ZSTD_isError(n));
	return n;
}

static void test_compressed(void **state)
{
	char packed[4096];

	put_text(path_in(state), good);
	uint64_t want = fingerprint(path_in(state), 1);
	put_gz(path_in(state), good);
	assert_int_equal(fingerprint(path_in(state), 1), want);
	put(path_in(state), packed, zstd_of(good, packed, sizeof(packed)));
	assert_int_equal(fingerprint(path_in(state), 1), want);

	/* two frames, cut in the middle of a row */
	size_t half = strlen(good) / 2;
	CLEANUP_FREE char *first = strndup(good, half);
	size_t n = zstd_of(first, packed, sizeof(packed));
	n += zstd_of(good + half, packed + n, sizeof(packed) - n);
	put(path_in(state), packed, n);
	assert_int_equal(fingerprint(path_in(state), 1), want);
}

/* Reads a trace of some MB in each form and compares the totals. */
static void test_compressed_large(void **state)
{
	CLEANUP_STR struct str text = {0};
	struct trace_info plain, info;
	struct error err;

	for (int i = 0; i < 20000; i++)
		str_addf(&text, ROW("%d", "1400", "%d", "%d,%d,%d") "\n", i, i % 97, i / 3, i * 7,
			 i * 7 + 1);
	put_text(path_in(state), str_text(&text));
	assert_int_equal(trace_info_read(path_in(state), TRACE_AUTO, &plain, &err), 0);
	assert_int_equal(plain.requests, 20000);
	assert_int_equal(plain.block_refs, 60000);

	put_gz(path_in(state), str_text(&text));
	assert_int_equal(trace_info_read(path_in(state), TRACE_AUTO, &info, &err), 0);
	assert_memory_equal(&info, &plain, offsetof(struct trace_info, first_bad));

	size_t cap = ZSTD_compressBound(text.len);
	CLEANUP_FREE char *packed = malloc(cap);
	put(path_in(state), packed, zstd_of(str_text(&text), packed, cap));
	assert_int_equal(trace_info_read(path_in(state), TRACE_AUTO, &info, &err), 0);
	assert_memory_equal(&info, &plain, offsetof(struct trace_info, first_bad));
}

static void expect_refused(const char *path, int rc, const char *message)
{
	struct config cfg = make_config(path, TRACE_MOONCAKE, 1);
	struct workload *w = NULL;
	struct error err = {0};

	assert_int_equal(workload_new(&cfg, 42, 0, &w, &err), rc);
	assert_null(w);
	if (!strstr(err.message, message))
		fail_msg("'%s' is not in '%s'", message, err.message);
}

static void test_damaged_compression(void **state)
{
	static const char gz_path[] = "compressed data end too early";
	char packed[4096];
	size_t n = zstd_of(good, packed, sizeof(packed));

	put(path_in(state), packed, n - 3);
	expect_refused(path_in(state), -EIO, gz_path);
	memset(packed + n / 2, 0xff, n / 2);
	put(path_in(state), packed, n);
	expect_refused(path_in(state), -EIO, ":1: ");

	put_gz(path_in(state), good);
	CLEANUP_CLOSE int fd = open(path_in(state), O_RDWR);
	off_t size = lseek(fd, 0, SEEK_END);
	assert_int_equal(ftruncate(fd, size - 10), 0);
	expect_refused(path_in(state), -EIO, gz_path);
	assert_int_equal(pwrite(fd, "\xff\xff\xff\xff", 4, 12), 4);
	expect_refused(path_in(state), -EIO, ":1: ");
}

static void test_bad_rows(void **state)
{
	static const struct {
		const char *row;
		const char *message;
	} rows[] = {
		{"{", "a line must be one JSON object: "},
		{"[1]", "a line must be one JSON object"},
		{"17", "a line must be one JSON object"},
		{ROW("0", "1", "1", "1") " x", "end of file expected"},
		{ROW("0", "1", "1", "1") ROW("0", "1", "1", "1"), "end of file expected"},
		{"{\"timestamp\": 0, \"timestamp\": 1}", "duplicate object key"},
		{"{}", "'timestamp' must be a number of milliseconds"},
		{ROW("-1", "1", "1", "1"), "'timestamp' must be"},
		{ROW("-0.5", "1", "1", "1"), "'timestamp' must be"},
		{ROW("\"0\"", "1", "1", "1"), "'timestamp' must be"},
		{ROW("1e300", "1", "1", "1"), "'timestamp' must be"},
		{ROW("1e999", "1", "1", "1"), "real number overflow"},
		{ROW("9000000000001", "1", "1", "1"), "'timestamp' must be"},
		{ROW("99999999999999999999", "1", "1", "1"), "too big integer"},
		{ROW("NaN", "1", "1", "1"), "JSON"},
		{ROW("0", "-1", "1", ""), "'input_length' must be a whole number of tokens"},
		{ROW("0", "1.5", "1", "1"), "'input_length' must be"},
		{ROW("0", "null", "1", "1"), "'input_length' must be"},
		{ROW("0", "4294967296", "1", "1"), "'input_length' must be"},
		{ROW("0", "1", "-3", "1"), "'output_length' must be"},
		{ROW("0", "1", "4294967296", "1"), "'output_length' must be"},
		{ROW("0", "1", "true", "1"), "'output_length' must be"},
		{"{\"timestamp\":0,\"input_length\":1,\"output_length\":1}",
		 "'hash_ids' must be a"},
		{"{\"timestamp\":0,\"input_length\":1,\"output_length\":1,\"hash_ids\":{}}",
		 "'hash_ids' must be a list of block ids"},
		{ROW("0", "1", "1", ""),
		 "must hold 1 ids (input_length 1 in blocks of 512), not 0"},
		{ROW("0", "0", "1", "1"), "must hold 0 ids"},
		{ROW("0", "513", "1", "1"), "must hold 2 ids"},
		{ROW("0", "512", "1", "1,2"), "must hold 1 ids"},
		{ROW("0", "512", "1", "-1"), "'hash_ids' item 1 must be"},
		{ROW("0", "600", "1", "1,2.0"), "'hash_ids' item 2 must be"},
		{ROW("0", "600", "1", "1,\"2\""), "'hash_ids' item 2 must be"},
		{ROW("0", "1", "1", "1152921504606846976"), "'hash_ids' item 1 must be"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_STR struct str text = {0};
		char want[128];
		str_addf(&text, "%s\n%s\n", ROW("0", "1", "1", "1"), rows[i].row);
		put_text(path_in(state), str_text(&text));
		snprintf(want, sizeof(want), "%s:2: ", path_in(state));
		expect_refused(path_in(state), -EINVAL, want);
		expect_refused(path_in(state), -EINVAL, rows[i].message);
	}
	put(path_in(state), "{\"timestamp\": 0\0}\n", 18);
	expect_refused(path_in(state), -EINVAL, ":1: a line must be one JSON object");
	put_text(path_in(state), "\xff\xfe\x1b[31m\n");
	expect_refused(path_in(state), -EINVAL, ":1: a line must be one JSON object");
}

static void test_files_that_are_no_traces(void **state)
{
	struct config cfg = make_config(path_in(state), TRACE_AUTO, 1);
	struct trace_info info;
	struct workload *w;
	static const char *const texts[] = {
		"Timestamp,Model,Request tokens\n1,ChatGPT,472\n",
		"{\"timestamp\": 0, \"input_length\": 1}\n",
		"{\"chat_id\": 1, \"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, "
		"\"hash_ids\": [1]}\n",
		"\x7f"
		"ELF\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct error err = {0};
		put_text(path_in(state), texts[i]);
		assert_int_equal(workload_new(&cfg, 42, 0, &w, &err), -EINVAL);
		assert_int_equal(err.code, ERR_CONFIG_PARSE);
		assert_non_null(strstr(err.message, ":1: not a known trace format"));
		assert_non_null(strstr(err.hint, "mooncake"));
		assert_int_equal(trace_info_read(path_in(state), TRACE_AUTO, &info, &err), -EINVAL);
	}
	for (int format = TRACE_AUTO; format <= TRACE_MOONCAKE; format++) {
		struct error err = {0};
		put_text(path_in(state), "\n \n");
		cfg.opt.trace_format = format;
		assert_int_equal(workload_new(&cfg, 42, 0, &w, &err), -EINVAL);
		assert_non_null(strstr(err.message, "holds no rows"));
		assert_int_equal(trace_info_read(path_in(state), (enum config_trace_format)format,
						 &info, &err),
				 -EINVAL);
		assert_non_null(strstr(err.message, "holds no rows"));
	}
	expect_refused("/nonexistent/trace.jsonl", -ENOENT,
		       "cannot read /nonexistent/trace.jsonl: No such file");
	expect_refused("/tmp", -EISDIR, "cannot read /tmp: Is a directory");
	expect_refused("/dev/null", -EINVAL, "cannot read /dev/null: not a regular file");
}

static void add_spaces(struct str *text, size_t count)
{
	CLEANUP_FREE char *spaces = malloc(count);
	memset(spaces, ' ', count);
	str_add_mem(text, spaces, count);
}

static void test_huge_lines(void **state)
{
	static const char row[] = ROW("0", "1", "1", "1");
	const size_t limit = 1 << 20;
	struct trace_info info;
	struct error err;
	CLEANUP_STR struct str text = {0};

	/* the longest line allowed, one byte more, a very long one, and one without end at the
	 * file's end */
	for (size_t extra = 0; extra < 2; extra++) {
		str_add(&text, row);
		add_spaces(&text, limit - strlen(row) + extra);
		str_add(&text, "\r\n");
	}
	str_addf(&text, "%s\n", row);
	add_spaces(&text, 5 * limit);
	str_addf(&text, "\n%s\n", row);
	add_spaces(&text, 3 * limit);
	put_text(path_in(state), str_text(&text));
	assert_int_equal(trace_info_read(path_in(state), TRACE_AUTO, &info, &err), 0);
	assert_int_equal(info.requests, 3);
	assert_int_equal(info.bad_rows, 3);
	assert_non_null(strstr(info.first_bad, ":2: a line must not be longer than 1 MiB"));

	put_text(path_in(state), str_text(&text) + limit + 2);
	expect_refused(path_in(state), -EINVAL, ":1: a line must not be longer than 1 MiB");
}

/* Rows beyond those that set-up reads: the bad one is reported, counted and passed. */
static void test_bad_row_during_the_run(void **state)
{
	enum { ROWS = 65536 };
	CLEANUP_STR struct str text = {0};
	struct workload_cursor c = {0};
	struct request r = {0};

	for (int i = 0; i < ROWS; i++)
		str_addf(&text, ROW("%d", "1", "1", "1") "\n", i);
	str_add(&text, "oops\nworse\n" ROW("70000", "1", "1", "1"));
	put_text(path_in(state), str_text(&text));
	struct workload *w = make(path_in(state), 1);
	for (int i = 0; i < ROWS; i++)
		assert_int_equal(workload_next(w, 0, &c, &r), 0);
	assert_null(workload_bad_row(w));
	assert_int_equal(workload_next(w, 0, &c, &r), -EINVAL);
	assert_int_equal(workload_next(w, 0, &c, &r), -EINVAL);
	assert_non_null(strstr(workload_bad_row(w), ":65537: a line must be one JSON object"));
	assert_int_equal(workload_next(w, 0, &c, &r), 0);
	assert_int_equal(r.sequence, ROWS + 2);
	assert_int_equal(c.gap_sum_ns, 70000 * NS_PER_MS);
	assert_int_equal(workload_next(w, 0, &c, &r), -ENODATA);
	request_release(&r);
	workload_free(w);
}

static void test_info(void **state)
{
	struct trace_info info;
	struct error err;

	put_text(path_in(state),
		 ROW("5", "513", "10", "1,2") "\n" ROW("9", "1000", "20", "1,3") "\nbad\n" ROW(
			 "7", "0", "30", "") "\n" ROW("8.75", "100", "40", "9"));
	assert_int_equal(trace_info_read(path_in(state), TRACE_AUTO, &info, &err), 0);
	assert_int_equal(info.requests, 4);
	assert_int_equal(info.bad_rows, 1);
	assert_non_null(strstr(info.first_bad, ":3: a line must be one JSON object"));
	assert_int_equal(info.span_ms, 4);
	assert_true(info.input_mean == 403.25 && info.output_mean == 25);
	assert_int_equal(info.input_p50, 100);
	assert_int_equal(info.input_p95, 1000);
	assert_int_equal(info.input_max, 1000);
	assert_int_equal(info.output_p50, 20);
	assert_int_equal(info.output_p99, 40);
	assert_int_equal(info.block_refs, 5);
	assert_int_equal(info.blocks_unique, 4);
	assert_true(info.reuse_ratio > 0.1999 && info.reuse_ratio < 0.2001);
	assert_int_equal(info.block_tokens, 512);
	assert_int_equal(info.unique_tokens, 512 + 1 + 488 + 100);

	put_text(path_in(state), "bad\nworse\n");
	assert_int_equal(trace_info_read(path_in(state), TRACE_MOONCAKE, &info, &err), -EINVAL);
	assert_non_null(strstr(err.message, ":1: a line must be one JSON object"));
}

static void test_mooncake_oracle(void **state)
{
	const char *dir = getenv("TRACE_DIR");
	char path[4096], text[64];
	struct trace_info info;
	struct error err;

	(void)state;
	if (!dir) {
		print_message("TRACE_DIR is not set: the Mooncake trace is not checked\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/mooncake_conversation_trace.jsonl", dir);
	assert_int_equal(trace_info_read(path, TRACE_AUTO, &info, &err), 0);
	assert_int_equal(info.requests, 12031);
	assert_int_equal(info.bad_rows, 0);
	snprintf(text, sizeof(text), "%.2f %.2f", info.input_mean, info.output_mean);
	assert_string_equal(text, "12035.06 342.62");
	assert_int_equal(info.block_refs, 288500);
	assert_int_equal(info.blocks_unique, 182790);
	snprintf(text, sizeof(text), "%.1f", info.reuse_ratio * 100);
	assert_string_equal(text, "36.6");
	assert_int_equal(info.span_ms, 3536999);

	struct workload *w = make(path, 1);
	struct workload_cursor c = {0};
	struct request r = {0};
	while (workload_next(w, 0, &c, &r) == 0)
		;
	assert_int_equal(c.sequence, 12031);
	assert_int_equal(c.gap_sum_ns, 3536999 * NS_PER_MS);
	request_release(&r);
	workload_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_replay_speed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_speedup_does_not_drift, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_line_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_compressed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_compressed_large, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damaged_compression, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_rows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_files_that_are_no_traces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_huge_lines, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_row_during_the_run, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_info, set_up, tear_down),
		cmocka_unit_test(test_mooncake_oracle),
	};
	return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
