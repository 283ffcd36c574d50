// SPDX-License-Identifier: Apache-2.0
/*
 * Frames on a pipe. The reader is a state machine over bytes:
 *
 *     TEXT --0x1e--> HEADER --'\n'--> PAYLOAD --length and '\n'--> TEXT
 *                      |                 `--damaged: look for a frame inside--> TEXT
 *                      `--too long--> SKIP --length, or the next 0x1e--> TEXT
 */
#include "base/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include <xxhash.h>

#include "base/mem.h"

static const char mark[] = "\x1eMLPS1 ";

enum {
	MARK_BYTES = sizeof(mark) - 1,
	HEADER_MAX = 96, /* mark, the longest kind, three numbers */
};

static const char *const kind_names[] = {
#define X(constant, name) [constant] = name,
	FRAME_KINDS
#undef X
};

const char *frame_kind_name(enum frame_kind kind)
{
	return kind_names[kind];
}

/* Writes from the front of @iov until nothing is left; a pipe that is full is waited for. */
static int write_vector(int fd, struct iovec *iov, int count)
{
	while (count) {
		ssize_t n = writev(fd, iov, count);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};
			poll(&p, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (size_t left = (size_t)n; count; iov++, count--) {
			if (left < iov->iov_len) {
				iov->iov_base = (char *)iov->iov_base + left;
				iov->iov_len -= left;
				break;
			}
			left -= iov->iov_len;
		}
	}
	return 0;
}

int frame_write(int fd, enum frame_kind kind, uint32_t rank, const void *data, size_t len)
{
	char header[HEADER_MAX], newline[] = "\n";
	if (len > FRAME_PAYLOAD_MAX)
		return -EMSGSIZE;
	int n = snprintf(header, sizeof(header), "%s%s %" PRIu32 " %zu %016" PRIx64 "\n", mark,
			 kind_names[kind], rank, len, (uint64_t)XXH64(data, len, 0));
	struct iovec iov[] = {
		{.iov_base = header, .iov_len = (size_t)n},
		{.iov_base = (void *)data, .iov_len = len},
		{.iov_base = newline, .iov_len = 1},
	};
	return write_vector(fd, iov, ARRAY_LEN(iov));
}

void frame_reader_init(struct frame_reader *r, const struct frame_handler *handler)
{
	*r = (struct frame_reader){.handler = *handler, .payload_max = FRAME_PAYLOAD_MAX};
}

void frame_reader_release(struct frame_reader *r)
{
	str_release(&r->buf);
}

static void give_text(struct frame_reader *r, const char *bytes, size_t n)
{
	if (n)
		r->handler.on_text(r->handler.arg, bytes, n);
}

static void to_text(struct frame_reader *r)
{
	str_clear(&r->buf);
	r->state = FRAME_IN_TEXT;
}

static bool parse_hash(const char *text, uint64_t *ret)
{
	*ret = 0;
	for (int i = 0; i < 16; i++) {
		const char *digits = "0123456789abcdef";
		const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
		if (!digit)
			return false;
		*ret = *ret << 4 | (uint64_t)(digit - digits);
	}
	return !text[16];
}

/* The header in r->buf, without its newline, is four words behind the mark. */
static bool parse_header(struct frame_reader *r)
{
	char *save, *words[4];
	char *at = r->buf.s + MARK_BYTES;
	for (size_t i = 0; i < ARRAY_LEN(words); i++, at = NULL) {
		words[i] = strtok_r(at, " ", &save);
		if (!words[i])
			return false;
	}
	uint64_t rank;
	size_t kind = 0;
	while (kind < FRAME_KIND_COUNT && strcmp(kind_names[kind], words[0]))
		kind++;
	if (kind == FRAME_KIND_COUNT || strtok_r(NULL, "", &save) || parse_u64(words[1], &rank) ||
	    rank > UINT32_MAX || parse_u64(words[2], &r->len) || !parse_hash(words[3], &r->hash))
		return false;
	r->kind = (enum frame_kind)kind;
	r->rank = (uint32_t)rank;
	return true;
}

static void end_header(struct frame_reader *r)
{
	bool is_good = parse_header(r);
	str_clear(&r->buf);
	if (is_good && r->len <= r->payload_max) {
		r->state = FRAME_IN_PAYLOAD;
		return;
	}
	r->damaged++;
	r->state = is_good ? FRAME_IN_SKIP : FRAME_IN_TEXT;
	r->len += r->len < UINT64_MAX; /* the newline behind it */
}

/* Every step takes bytes from the front and says how many; 0 only after a change of state. */

static size_t step_text(struct frame_reader *r, const char *bytes, size_t n)
{
	const char *start = memchr(bytes, mark[0], n);
	size_t text = start ? (size_t)(start - bytes) : n;
	give_text(r, bytes, text);
	if (start)
		r->state = FRAME_IN_HEADER;
	return text;
}

static size_t step_header(struct frame_reader *r, const char *bytes, size_t n)
{
	size_t taken = 0;
	while (taken < n && r->state == FRAME_IN_HEADER) {
		char c = bytes[taken];
		bool is_mark = r->buf.len < MARK_BYTES && c == mark[r->buf.len];
		if (r->buf.len < MARK_BYTES && !is_mark) {
			give_text(r, str_text(&r->buf), r->buf.len);
			to_text(r);
		} else if (r->buf.len >= MARK_BYTES && c == '\n') {
			end_header(r);
			taken++;
		} else if (r->buf.len == HEADER_MAX || (!is_mark && (c == mark[0] || !c))) {
			r->damaged++;
			to_text(r);
		} else {
			str_add_mem(&r->buf, &c, 1);
			taken++;
		}
		if (r->buf.rc)
			break;
	}
	return taken;
}

static size_t step_payload(struct frame_reader *r, const char *bytes, size_t n)
{
	size_t take = MIN(n, (size_t)r->len + 1 - r->buf.len);
	str_add_mem(&r->buf, bytes, take);
	return take;
}

static size_t step_skip(struct frame_reader *r, const char *bytes, size_t n)
{
	size_t take = (size_t)MIN((uint64_t)n, r->len);
	const char *next = memchr(bytes, mark[0], take);
	if (next)
		take = (size_t)(next - bytes);
	r->len -= take;
	if (next || !r->len)
		r->state = FRAME_IN_TEXT;
	return take;
}

static bool payload_is_whole(const struct frame_reader *r)
{
	return r->state == FRAME_IN_PAYLOAD && r->buf.len == r->len + 1;
}

/*
 * A whole payload is in the buffer. A damaged one may have swallowed the frames behind it (when bytes
 * are missing from the middle): what stands from the first mark in it goes to @again.
 */
static void end_payload(struct frame_reader *r, struct str *again)
{
	size_t len = (size_t)r->len;
	if (r->buf.s[len] == '\n' && XXH64(r->buf.s, len, 0) == r->hash) {
		r->frames++;
		r->buf.s[len] = '\0';
		r->handler.on_frame(r->handler.arg, r->kind, r->rank, r->buf.s, len);
	} else {
		const char *next = memmem(r->buf.s, r->buf.len, mark, MARK_BYTES);
		r->damaged++;
		if (next)
			str_add_mem(again, next, r->buf.len - (size_t)(next - r->buf.s));
	}
	to_text(r);
}

static size_t (*const steps[])(struct frame_reader *r, const char *bytes, size_t n) = {
	[FRAME_IN_TEXT] = step_text,
	[FRAME_IN_HEADER] = step_header,
	[FRAME_IN_PAYLOAD] = step_payload,
	[FRAME_IN_SKIP] = step_skip,
};

int frame_reader_feed(struct frame_reader *r, const char *bytes, size_t n)
{
	CLEANUP_STR struct str input = {0}; /* bytes that are read a second time, and the rest */
	while (n) {
		size_t taken = steps[r->state](r, bytes, n);
		bytes += taken;
		n -= taken;
		if (r->buf.rc) {
			str_release(&r->buf);
			r->damaged++;
			r->state = FRAME_IN_TEXT;
			return -ENOMEM;
		}
		if (!payload_is_whole(r))
			continue;
		struct str again = {0};
		end_payload(r, &again);
		if (!again.len) {
			str_release(&again);
			continue;
		}
		str_add_mem(&again, bytes, n);
		str_release(&input);
		input = again;
		if (input.rc)
			return -ENOMEM;
		bytes = input.s;
		n = input.len;
	}
	return 0;
}

void frame_reader_end(struct frame_reader *r)
{
	if (r->state == FRAME_IN_HEADER && r->buf.len < MARK_BYTES)
		give_text(r, str_text(&r->buf), r->buf.len);
	else if (r->state == FRAME_IN_HEADER || r->state == FRAME_IN_PAYLOAD)
		r->damaged++;
	to_text(r);
}
