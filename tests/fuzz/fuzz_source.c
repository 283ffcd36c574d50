// SPDX-License-Identifier: Apache-2.0
/*
 * Fuzz entry: what another machine says of itself. The first byte chooses: any text as one of the sources, or as a whole answer
 * over ssh, or as a host entry of a rank. Whatever is made of it must be JSON that can be written, read back and added up.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "cluster/remote.h"
#include "cluster/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes @value. */
static void check_round_trip(json_t *value)
{
	if (!value)
		return;
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	json_t *again = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
	if (!again || json_typeof(again) != json_typeof(value))
		abort();
	json_decref(again);
	json_decref(value);
	free(text);
}

/* Takes @entry. */
static void check_cluster(json_t *entry)
{
	struct cluster c = {.method = "mpi"};
	if (!entry)
		return;
	cluster_add_host(&c, json_incref(entry));
	cluster_add_host(&c, entry);
	cluster_add_local(&c, "/nonexistent");
	check_round_trip(cluster_dictionary(&c, false));
	cluster_release(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	unsigned choice = data[0];
	const char *text = (const char *)data + 1;
	size_t len = size - 1;
	for (const struct source *s = source_next(SOURCE_SET_FACTS, NULL); s; s = source_next(SOURCE_SET_FACTS, s))
		if (choice-- == 0)
			check_round_trip(source_parse(s->key, text, len));
	json_t *facts = data[0] == 'S' ? remote_parse(SOURCE_SET_FACTS, "M", text, len, "host") : NULL;
	if (facts)
		check_cluster(cluster_host_entry(facts));
	json_decref(facts);
	if (data[0] == 'J')
		check_cluster(json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL));
	return 0;
}
