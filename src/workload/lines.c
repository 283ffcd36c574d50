// SPDX-License-Identifier: Apache-2.0
/*
 * Traces reach several GB and are kept compressed: this cuts them into lines without holding more
 * than one.
 *
 *   file - zlib (also passes plain text) or zstd - buf[begin..end) - line
 */
#include "workload/lines.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

enum {
	INPUT_BYTES = 128 << 10,
	LINE_CAP = LINES_MAX_BYTES + 2, /* room for CRLF */
};

struct lines {
	gzFile gz;        /* plain and gzip; owns its descriptor */
	ZSTD_DCtx *zstd;  /* else this, with the three below */
	int fd;           /* -1 when gz has it */
	ZSTD_inBuffer in; /* window of input[] */
	size_t frame_due; /* what zstd still expects of the frame, 0: between frames */
	char *input;
	char *buf; /* LINE_CAP + INPUT_BYTES */
	size_t begin, end;
	bool at_end;
	uint64_t number;
	char reason[160]; /* "" until the file could not be read */
};

static int fail(struct lines *l, const char *reason)
{
	snprintf(l->reason, sizeof(l->reason), "%s", reason);
	return -EIO;
}

static ssize_t read_gz(struct lines *l, char *to, size_t max)
{
	int n = gzread(l->gz, to, (unsigned)max);
	int code;
	const char *text = gzerror(l->gz, &code);

	if (n < 0)
		return fail(l, code == Z_ERRNO ? strerror(errno) : text);
	if (n == 0 && code == Z_BUF_ERROR)
		return fail(l, "compressed data end too early");
	return n;
}

static int fill_zstd_input(struct lines *l)
{
	ssize_t n;

	do {
		n = read(l->fd, l->input, INPUT_BYTES);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return fail(l, strerror(errno));
	l->in = (ZSTD_inBuffer){.src = l->input, .size = (size_t)n};
	return 0;
}

static ssize_t read_zstd(struct lines *l, char *to, size_t max)
{
	ZSTD_outBuffer out = {.dst = to, .size = max};

	while (out.pos == 0) {
		int rc = l->in.pos == l->in.size ? fill_zstd_input(l) : 0;
		if (rc)
			return rc;
		bool input_ended = l->in.size == 0;
		if (input_ended && l->frame_due == 0)
			return 0;
		l->frame_due = ZSTD_decompressStream(l->zstd, &out, &l->in);
		if (ZSTD_isError(l->frame_due))
			return fail(l, ZSTD_getErrorName(l->frame_due));
		if (input_ended && out.pos == 0 && l->frame_due)
			return fail(l, "compressed data end too early");
	}
	return (ssize_t)out.pos;
}

/* Appends what the file gives next. The caller has at most LINE_CAP bytes in the buffer. */
static int fill(struct lines *l)
{
	memmove(l->buf, l->buf + l->begin, l->end - l->begin);
	l->end -= l->begin;
	l->begin = 0;
	ssize_t n = l->gz ? read_gz(l, l->buf + l->end, INPUT_BYTES)
			  : read_zstd(l, l->buf + l->end, INPUT_BYTES);
	if (n < 0)
		return (int)n;
	l->end += (size_t)n;
	l->at_end = n == 0;
	return 0;
}

/* Drops the rest of a line that is too long. */
static int skip_line(struct lines *l)
{
	for (;;) {
		char *end = memchr(l->buf + l->begin, '\n', l->end - l->begin);
		if (end) {
			l->begin = (size_t)(end + 1 - l->buf);
			return -EMSGSIZE;
		}
		l->begin = l->end;
		if (l->at_end)
			return -EMSGSIZE;
		int rc = fill(l);
		if (rc)
			return rc;
	}
}

static int give_line(struct lines *l, size_t len, size_t with_end, const char **text,
		     size_t *ret_len)
{
	const char *line = l->buf + l->begin;

	if (len && line[len - 1] == '\r')
		len--;
	l->begin += with_end;
	if (len > LINES_MAX_BYTES)
		return -EMSGSIZE;
	*text = line;
	*ret_len = len;
	return 0;
}

int lines_next(struct lines *l, const char **text, size_t *len)
{
	size_t seen = 0; /* bytes of this line known to hold no line end */

	if (l->reason[0])
		return -EIO;
	l->number++;
	for (;;) {
		char *start = l->buf + l->begin;
		size_t have = l->end - l->begin;
		char *end = memchr(start + seen, '\n', have - seen);
		if (end)
			return give_line(l, (size_t)(end - start), (size_t)(end + 1 - start), text,
					 len);
		if (have > LINE_CAP)
			return skip_line(l);
		if (l->at_end)
			return have ? give_line(l, have, have, text, len) : -ENODATA;
		seen = have;
		int rc = fill(l);
		if (rc)
			return rc;
	}
}

uint64_t lines_number(const struct lines *l)
{
	return l->number;
}

const char *lines_reason(const struct lines *l)
{
	return l->reason;
}

void lines_rewind(struct lines *l)
{
	if (l->gz) {
		gzrewind(l->gz);
	} else {
		lseek(l->fd, 0, SEEK_SET);
		ZSTD_DCtx_reset(l->zstd, ZSTD_reset_session_only);
	}
	l->in = (ZSTD_inBuffer){0};
	l->frame_due = 0;
	l->begin = l->end = 0;
	l->at_end = false;
	l->number = 0;
	l->reason[0] = '\0';
}

void lines_close(struct lines *l)
{
	if (!l)
		return;
	if (l->gz)
		gzclose(l->gz);
	if (l->fd >= 0)
		close(l->fd);
	ZSTD_freeDCtx(l->zstd);
	free(l->input);
	free(l->buf);
	free(l);
}

/* The decompressor, by the first bytes of the file. */
static int choose_decompressor(struct lines *l)
{
	static const unsigned char zstd_magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
	unsigned char magic[sizeof(zstd_magic)];
	ssize_t n = pread(l->fd, magic, sizeof(magic), 0);

	if (n < 0)
		return -errno;
	if (n == (ssize_t)sizeof(magic) && memcmp(magic, zstd_magic, sizeof(magic)) == 0) {
		l->zstd = ZSTD_createDCtx();
		l->input = malloc(INPUT_BYTES);
		return l->zstd && l->input ? 0 : -ENOMEM;
	}
	l->gz = gzdopen(l->fd, "rb");
	if (!l->gz)
		return -ENOMEM;
	l->fd = -1;
	gzbuffer(l->gz, INPUT_BYTES);
	return 0;
}

static int open_regular(struct lines *l, const char *path)
{
	struct stat st;

	l->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (l->fd < 0 || fstat(l->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	return choose_decompressor(l);
}

int lines_open(const char *path, struct lines **ret, struct error *err)
{
	struct lines *l = calloc(1, sizeof(*l));

	if (!l)
		return error_set(err, -ENOMEM, ERR_FS_FULL, "out of memory");
	l->fd = -1;
	l->buf = malloc(LINE_CAP + INPUT_BYTES);
	int rc = l->buf ? open_regular(l, path) : -ENOMEM;
	if (rc) {
		lines_close(l);
		return error_set(err, rc, ERR_CONFIG_NOT_FOUND, "cannot read %s: %s", path,
				 rc == -EINVAL ? "not a regular file" : strerror(-rc));
	}
	*ret = l;
	return 0;
}
