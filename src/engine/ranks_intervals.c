// SPDX-License-Identifier: Apache-2.0
/*
 * Intervals on their way to the controller: each rank's lines go to rank 0 by mail as they end, one letter at a time, so a slow
 * rank 0 makes letters longer and delays nobody. What is left at the end comes in a meeting, with the number of bytes that were
 * mailed before: rank 0 first takes the mail that is still on its way.
 */
#include "engine/ranks.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* What a rank says at the end, before its last lines. */
struct last_word {
	uint64_t mailed_bytes;
};

static void pass_on(struct engine *e, int rank, const char *lines, size_t len)
{
	e->ranks.heard[rank].interval_bytes += len;
	if (len)
		ranks_emit(e, FRAME_INTERVAL, rank, lines, len);
}

void ranks_post_intervals(struct engine *e)
{
	struct str *text = &e->interval_text;

	if (!text->len || comm_post(e->comm, COMM_MAIL_INTERVAL, text->s, text->len))
		return;
	e->interval_sent += text->len;
	str_clear(text);
}

void ranks_hear_intervals(struct engine *e)
{
	CLEANUP_STR struct str text = {0};
	int rank;

	while (comm_fetch(e->comm, COMM_MAIL_INTERVAL, &rank, &text))
		pass_on(e, rank, text.s, text.len);
}

static int take_last(void *arg, int rank, const char *data, size_t len)
{
	struct engine *e = arg;
	struct last_word word;
	uint64_t deadline_ns = ranks_deadline(e, 0);

	if (len < sizeof(word))
		return -EBADMSG;
	memcpy(&word, data, sizeof(word));
	do
		ranks_hear_intervals(e);
	while (e->ranks.heard[rank].interval_bytes < word.mailed_bytes && clock_mono_ns() < deadline_ns);
	if (e->ranks.heard[rank].interval_bytes < word.mailed_bytes)
		log_warning("not all intervals of rank %d arrived", rank);
	pass_on(e, rank, data + sizeof(word), len - sizeof(word));
	return 0;
}

int ranks_last_intervals(struct engine *e, struct error *err)
{
	CLEANUP_STR struct str all = {0};
	struct last_word word = {e->interval_sent};

	if (!e->cfg->opt.frames)
		return 0;
	str_add_mem(&all, (const char *)&word, sizeof(word));
	str_add_mem(&all, str_text(&e->interval_text), e->interval_text.len);
	str_release(&e->interval_text);
	if (all.rc)
		return error_set(err, all.rc, ERR_INTERNAL, "out of memory");
	return comm_gather(e->comm, all.s, all.len, take_last, e, ranks_deadline(e, 0), err);
}
