// SPDX-License-Identifier: Apache-2.0
/* Fuzz entry: a text split as a shell would (--mpi-params). Quoted and joined again its words must come back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct strlist *words)
{
	CLEANUP_STR struct str joined = {0};
	struct strlist again = {0};
	for (size_t i = 0; i < words->count; i++) {
		str_add(&joined, i ? " " : "");
		str_add_quoted(&joined, words->v[i]);
	}
	if (strlist_add_shell(&again, str_text(&joined)) || again.count != words->count)
		abort();
	for (size_t i = 0; i < words->count; i++)
		if (strcmp(words->v[i], again.v[i]) != 0)
			abort();
	strlist_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_STR struct str text = {0};
	struct strlist words = {0};
	str_add_mem(&text, (const char *)data, size);
	if (!strlist_add_shell(&words, str_text(&text)))
		check_round_trip(&words);
	strlist_release(&words);
	return 0;
}
