// SPDX-License-Identifier: Apache-2.0
/* base/frame: what is written is read back however the bytes arrive; damage costs one frame, no more. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/frame.h"

/* Everything a reader gave, as one readable line: "text[result 3 payload]text". */
struct seen {
	struct frame_reader reader;
	struct str story;
};

static void see_frame(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len)
{
	struct seen *s = arg;
	assert_int_equal(data[len], '\0');
	str_addf(&s->story, "[%s %" PRIu32 " ", frame_kind_name(kind), rank);
	str_add_mem(&s->story, data, len);
	str_add(&s->story, "]");
}

static void see_text(void *arg, const char *bytes, size_t n)
{
	struct seen *s = arg;
	str_add_mem(&s->story, bytes, n);
}

static void seen_init(struct seen *s)
{
	*s = (struct seen){0};
	const struct frame_handler handler = {.on_frame = see_frame, .on_text = see_text, .arg = s};
	frame_reader_init(&s->reader, &handler);
}

static void seen_release(struct seen *s)
{
	frame_reader_release(&s->reader);
	str_release(&s->story);
}

/* The bytes that frame_write() puts on a pipe. */
static void add_frame(struct str *to, enum frame_kind kind, uint32_t rank, const char *payload, size_t len)
{
	int fd[2];
	char buf[4096];
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(frame_write(fd[1], kind, rank, payload, len), 0);
	close(fd[1]);
	for (ssize_t n; (n = read(fd[0], buf, sizeof(buf))) > 0;)
		str_add_mem(to, buf, (size_t)n);
	close(fd[0]);
}

static void expect(const struct str *bytes, const char *story, uint64_t damaged)
{
	struct seen s;
	seen_init(&s);
	assert_int_equal(frame_reader_feed(&s.reader, bytes->s, bytes->len), 0);
	frame_reader_end(&s.reader);
	assert_string_equal(str_text(&s.story), story);
	assert_int_equal(s.reader.damaged, damaged);
	seen_release(&s);
}

static void make_stream(struct str *bytes)
{
	str_add(bytes, "before\n");
	add_frame(bytes, FRAME_RESULT, 3, "{\"a\": 1}", 8);
	add_frame(bytes, FRAME_SNAPSHOT, UINT32_MAX, "", 0);
	str_add(bytes, "between \x1e not a frame \x1eMLPS2 x\n");
	add_frame(bytes, FRAME_SERIES, 0, "one\ntwo\n", 8);
	str_add(bytes, "after");
}

static const char stream_story[] = "before\n[result 3 {\"a\": 1}][snapshot 4294967295 ]"
				   "between \x1e not a frame \x1eMLPS2 x\n[series 0 one\ntwo\n]after";

static void a_stream_split_at_every_byte_reads_the_same(void **state)
{
	(void)state;
	CLEANUP_STR struct str bytes = {0};
	make_stream(&bytes);
	for (size_t cut = 0; cut <= bytes.len; cut++) {
		struct seen s;
		seen_init(&s);
		assert_int_equal(frame_reader_feed(&s.reader, bytes.s, cut), 0);
		assert_int_equal(frame_reader_feed(&s.reader, bytes.s + cut, bytes.len - cut), 0);
		frame_reader_end(&s.reader);
		assert_string_equal(str_text(&s.story), stream_story);
		assert_int_equal(s.reader.frames, 3);
		assert_int_equal(s.reader.damaged, 0);
		seen_release(&s);
	}
}

static void single_bytes_read_the_same(void **state)
{
	(void)state;
	CLEANUP_STR struct str bytes = {0};
	struct seen s;
	make_stream(&bytes);
	seen_init(&s);
	for (size_t i = 0; i < bytes.len; i++)
		assert_int_equal(frame_reader_feed(&s.reader, bytes.s + i, 1), 0);
	frame_reader_end(&s.reader);
	assert_string_equal(str_text(&s.story), stream_story);
	seen_release(&s);
}

static void the_form_on_the_wire_is_fixed(void **state)
{
	(void)state;
	CLEANUP_STR struct str bytes = {0};
	add_frame(&bytes, FRAME_READY, 12, "", 0);
	/* ef46...: XXH64 of nothing with seed 0, as its specification gives it */
	assert_string_equal(str_text(&bytes), "\x1eMLPS1 ready 12 0 ef46db3751d8e999\n\n");
}

/* A torn frame at the end counts as damaged, wherever it was torn; what never became a frame is text. */
static void a_torn_frame_is_counted(void **state)
{
	(void)state;
	CLEANUP_STR struct str whole = {0};
	add_frame(&whole, FRAME_RESULT, 1, "payload", 7);
	for (size_t len = 0; len < whole.len; len++) {
		CLEANUP_STR struct str torn = {0};
		str_add(&torn, "text");
		str_add_mem(&torn, whole.s, len);
		CLEANUP_STR struct str story = {0};
		str_add(&story, "text");
		if (len < 7)
			str_add_mem(&story, whole.s, len);
		expect(&torn, str_text(&story), len < 7 ? 0 : 1);
	}
}

/* Each missing byte of the middle one of three frames costs that frame at most, and no text behind it. */
static void a_missing_byte_costs_one_frame(void **state)
{
	(void)state;
	CLEANUP_STR struct str first = {0}, middle = {0}, last = {0};
	add_frame(&first, FRAME_READY, 0, "first", 5);
	add_frame(&middle, FRAME_RESULT, 1, "middle", 6);
	add_frame(&last, FRAME_AGGREGATE, 2, "last", 4);
	size_t header = strlen("\x1eMLPS1 result 1 6 0123456789abcdef\n");
	for (size_t gap = header; gap < middle.len; gap++) {
		CLEANUP_STR struct str bytes = {0};
		str_add_mem(&bytes, first.s, first.len);
		str_add_mem(&bytes, middle.s, gap);
		str_add_mem(&bytes, middle.s + gap + 1, middle.len - gap - 1);
		str_add_mem(&bytes, last.s, last.len);
		struct seen s;
		seen_init(&s);
		assert_int_equal(frame_reader_feed(&s.reader, bytes.s, bytes.len), 0);
		frame_reader_end(&s.reader);
		assert_non_null(strstr(str_text(&s.story), "[ready 0 first]"));
		assert_null(strstr(str_text(&s.story), "[result 1"));
		assert_int_equal(s.reader.damaged, 1);
		seen_release(&s);
	}
}

/* Bytes are missing from the middle of a payload, so that it seems to reach over the next frames. */
static void frames_swallowed_by_a_damaged_one_are_found(void **state)
{
	(void)state;
	CLEANUP_STR struct str bytes = {0}, torn = {0};
	char big[300];
	memset(big, 'x', sizeof(big));
	add_frame(&torn, FRAME_RESULT, 1, big, sizeof(big));
	str_add_mem(&bytes, torn.s, torn.len - 150);
	add_frame(&bytes, FRAME_RESULT, 2, "{}", 2);
	add_frame(&bytes, FRAME_RESULT, 3, "{}", 2);
	str_add(&bytes, "and text that is long enough to fill what the torn frame still waits for, "
			"which is a hundred bytes and more");
	struct seen s;
	seen_init(&s);
	assert_int_equal(frame_reader_feed(&s.reader, bytes.s, bytes.len), 0);
	frame_reader_end(&s.reader);
	assert_non_null(strstr(str_text(&s.story), "[result 2 {}][result 3 {}]and text"));
	assert_int_equal(s.reader.damaged, 1);
	seen_release(&s);
}

static void a_wrong_checksum_drops_the_frame_alone(void **state)
{
	(void)state;
	CLEANUP_STR struct str bytes = {0};
	add_frame(&bytes, FRAME_RESULT, 1, "payload", 7);
	bytes.s[bytes.len - 3] ^= 1;
	add_frame(&bytes, FRAME_RESULT, 2, "whole", 5);
	expect(&bytes, "[result 2 whole]", 1);
}

static void malformed_headers_are_counted(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"\x1eMLPS1 unknown 1 2 e9d75bd8b2db2a4a\n",
		"\x1eMLPS1 result -1 2 e9d75bd8b2db2a4a\n",
		"\x1eMLPS1 result 4294967296 2 e9d75bd8b2db2a4a\n",
		"\x1eMLPS1 result 1 2x e9d75bd8b2db2a4a\n",
		"\x1eMLPS1 result 1 2 E9D75BD8B2DB2A4A\n",
		"\x1eMLPS1 result 1 2 e9d75bd8b2db2a4a5\n",
		"\x1eMLPS1 result 1 2 e9d75bd8b2db2a4a more\n",
		"\x1eMLPS1 result 1\n",
		"\x1eMLPS1 \n",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP_STR struct str bytes = {0};
		str_add(&bytes, bad[i]);
		add_frame(&bytes, FRAME_RESULT, 2, "good", 4);
		expect(&bytes, "[result 2 good]", 1);
	}
}

static void a_header_without_end_is_no_frame(void **state)
{
	(void)state;
	CLEANUP_STR struct str bytes = {0};
	str_add(&bytes, "\x1eMLPS1 ");
	for (int i = 0; i < 200; i++)
		str_add(&bytes, "y");
	add_frame(&bytes, FRAME_RESULT, 2, "good", 4);
	struct seen s;
	seen_init(&s);
	assert_int_equal(frame_reader_feed(&s.reader, bytes.s, bytes.len), 0);
	assert_int_equal(s.reader.damaged, 1);
	assert_non_null(strstr(str_text(&s.story), "[result 2 good]"));
	seen_release(&s);
}

static void a_frame_above_the_limit_is_skipped(void **state)
{
	(void)state;
	CLEANUP_STR struct str bytes = {0};
	add_frame(&bytes, FRAME_RESULT, 1, "12345678", 8);
	add_frame(&bytes, FRAME_RESULT, 2, "123456789", 9);
	str_add(&bytes, "text");
	add_frame(&bytes, FRAME_RESULT, 3, "1", 1);
	/* a length that no memory holds, and a frame behind it */
	str_add(&bytes, "\x1eMLPS1 result 1 18446744073709551615 e9d75bd8b2db2a4a\nlost");
	add_frame(&bytes, FRAME_RESULT, 4, "4", 1);
	struct seen s;
	seen_init(&s);
	s.reader.payload_max = 8;
	assert_int_equal(frame_reader_feed(&s.reader, bytes.s, bytes.len), 0);
	frame_reader_end(&s.reader);
	assert_string_equal(str_text(&s.story), "[result 1 12345678]text[result 3 1][result 4 4]");
	assert_int_equal(s.reader.damaged, 2);
	seen_release(&s);
}

struct drain {
	struct seen seen;
	int fd;
};

static void *drain(void *arg)
{
	struct drain *d = arg;
	char buf[1000];
	for (ssize_t n; (n = read(d->fd, buf, sizeof(buf))) > 0;)
		frame_reader_feed(&d->seen.reader, buf, (size_t)n);
	return NULL;
}

/* A megabyte through a pipe of 64 KiB that does not block: the writer waits for the reader. */
static void a_full_pipe_is_waited_for(void **state)
{
	(void)state;
	enum { BYTES = 1 << 20 };
	static char big[BYTES];
	memset(big, 'z', BYTES);
	int fd[2];
	struct drain d;
	pthread_t reader;
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
	d.fd = fd[0];
	seen_init(&d.seen);
	assert_int_equal(pthread_create(&reader, NULL, drain, &d), 0);
	assert_int_equal(frame_write(fd[1], FRAME_RESULT, 7, big, BYTES), 0);
	close(fd[1]);
	pthread_join(reader, NULL);
	close(fd[0]);
	assert_int_equal(d.seen.reader.frames, 1);
	assert_int_equal(d.seen.story.len, BYTES + strlen("[result 7 ]"));
	seen_release(&d.seen);
}

static void a_closed_pipe_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(frame_write(-1, FRAME_RESULT, 0, "x", 1), -EBADF);
	assert_int_equal(frame_write(-1, FRAME_RESULT, 0, "x", FRAME_PAYLOAD_MAX + 1), -EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_split_at_every_byte_reads_the_same),
		cmocka_unit_test(single_bytes_read_the_same),
		cmocka_unit_test(the_form_on_the_wire_is_fixed),
		cmocka_unit_test(a_torn_frame_is_counted),
		cmocka_unit_test(a_missing_byte_costs_one_frame),
		cmocka_unit_test(frames_swallowed_by_a_damaged_one_are_found),
		cmocka_unit_test(a_wrong_checksum_drops_the_frame_alone),
		cmocka_unit_test(malformed_headers_are_counted),
		cmocka_unit_test(a_header_without_end_is_no_frame),
		cmocka_unit_test(a_frame_above_the_limit_is_skipped),
		cmocka_unit_test(a_full_pipe_is_waited_for),
		cmocka_unit_test(a_closed_pipe_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
