// SPDX-License-Identifier: Apache-2.0
/* Fuzz entry: the input, cut at NUL bytes, as a command line of kv-cache. What is accepted must
 * survive a round trip. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPTIONS_MAX = 64 };

struct parsed {
	struct config_options options;
	unsigned char source[OPTIONS_MAX];
	struct opt_group group;
	struct opt_set set;
};

static size_t parse(struct parsed *p, const struct strlist *argv)
{
	struct problems problems = {0};
	bool help = false;
	size_t count;
	const struct opt *table = config_option_table(&count);
	if (count > OPTIONS_MAX)
		abort();
	p->group = (struct opt_group){"Options", table, count, &p->options, p->source};
	p->set = (struct opt_set){&p->group, 1};
	if (opt_defaults(&p->set) ||
	    opt_parse(&p->set, (int)argv->count, argv->v, &problems, &help))
		abort();
	size_t found = problems.count + help;
	problems_release(&problems);
	return found;
}

static void check_round_trip(const struct parsed *first)
{
	static struct parsed second;
	struct strlist argv = {0};
	for (size_t i = 0; i < first->group.count; i++)
		if (opt_to_argv(&first->group, i, &argv))
			abort();
	if (parse(&second, &argv))
		abort();
	for (size_t i = 0; i < first->group.count; i++) {
		CLEANUP_STR struct str a = {0}, b = {0};
		if (opt_text(&first->group, i, &a) != opt_text(&second.group, i, &b) ||
		    strcmp(str_text(&a), str_text(&b)))
			abort();
	}
	opt_release(&second.set);
	strlist_release(&argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct parsed first;
	CLEANUP_STR struct str text = {0};
	struct strlist argv = {0};
	str_add_mem(&text, (const char *)data, size);
	for (size_t i = 0; i < size; i += strlen(text.s + i) + 1)
		if (strlist_add(&argv, text.s + i))
			abort();
	if (!parse(&first, &argv))
		check_round_trip(&first);
	opt_release(&first.set);
	strlist_release(&argv);
	return 0;
}
