// SPDX-License-Identifier: Apache-2.0
/*
 * Takes the standard output of a program apart: "frames DIR" writes each frame's payload to DIR/<kind>.<rank>.<number> and prints
 * "kind rank length"; what is no frame goes to DIR/text. Fails when a frame is damaged.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/frame.h"

static const char *dir;
static unsigned count[FRAME_KIND_COUNT];
static struct str text;

static void on_frame(void *arg, enum frame_kind kind, uint32_t rank, const char *data, size_t len)
{
	char path[512];
	(void)arg;
	snprintf(path, sizeof(path), "%s/%s.%u.%u", dir, frame_kind_name(kind), rank, count[kind]++);
	if (file_write_atomic(path, data, len))
		exit(1);
	printf("%s %u %zu\n", frame_kind_name(kind), rank, len);
}

static void on_text(void *arg, const char *bytes, size_t n)
{
	(void)arg;
	str_add_mem(&text, bytes, n);
}

int main(int argc, char **argv)
{
	char buf[65536], path[512];
	struct frame_reader reader;
	const struct frame_handler handler = {.on_frame = on_frame, .on_text = on_text};
	if (argc != 2)
		return 2;
	dir = argv[1];
	frame_reader_init(&reader, &handler);
	for (ssize_t n; (n = read(STDIN_FILENO, buf, sizeof(buf))) > 0;)
		frame_reader_feed(&reader, buf, (size_t)n);
	frame_reader_end(&reader);
	snprintf(path, sizeof(path), "%s/text", dir);
	int rc = file_write_atomic(path, str_text(&text), text.len);
	bool is_damaged = reader.damaged > 0;
	frame_reader_release(&reader);
	str_release(&text);
	return rc || is_damaged;
}
