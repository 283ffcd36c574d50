// SPDX-License-Identifier: Apache-2.0
/* Lists of hosts as people type them. */
#include "launch/job.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

enum { NAME_MAX_CHARS = 253, LABEL_MAX_CHARS = 63 };

/* Letters, digits, '-' and '_' in labels between single dots; no label begins with '-'. */
static bool is_host_name(const char *name, size_t len)
{
	if (!len || len > NAME_MAX_CHARS)
		return false;
	size_t label = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		if (c == '.') {
			if (!label)
				return false;
			label = 0;
			continue;
		}
		if (!(isalnum(c) || c == '_' || (c == '-' && label)) || ++label > LABEL_MAX_CHARS)
			return false;
	}
	return label > 0;
}

static int refuse_entry(struct problems *problems, const char *entry, const char *why)
{
	return problems_add(problems, ERR_CONFIG_INVALID, "--hosts: \"%s\": %s", entry, why);
}

static int add_host(struct launch_hosts *hosts, const char *name, size_t len, int64_t slots)
{
	struct launch_host *list =
		reallocarray(hosts->list, hosts->count + 1, sizeof(*hosts->list));
	if (!list)
		return -ENOMEM;
	hosts->list = list;
	char *copy = strndup(name, len);
	if (!copy)
		return -ENOMEM;
	size_t same = 0;
	while (same < hosts->count && strcasecmp(list[same].name, copy))
		same++;
	hosts->distinct += same == hosts->count;
	list[hosts->count++] = (struct launch_host){.name = copy, .slots = slots};
	return 0;
}

static int parse_entry(const char *entry, struct launch_hosts *hosts, struct problems *problems)
{
	size_t len = strcspn(entry, ":");
	uint64_t slots = 0;
	if (entry[0] == '[' || (entry[len] && strchr(entry + len + 1, ':')))
		return refuse_entry(problems, entry,
				    "expected host or host:slots; name an IPv6 host by its name");
	if (!is_host_name(entry, len))
		return refuse_entry(problems, entry, "not a host name, expected host or host:slots");
	if (entry[len] && (parse_u64(entry + len + 1, &slots) || !slots || slots > LAUNCH_SLOTS_MAX))
		return refuse_entry(problems, entry, "the number of slots must be 1..65536");
	return add_host(hosts, entry, len, (int64_t)slots);
}

/* Some with slots and some without: nobody could say how many ranks the others may take. */
static int check_slots(struct launch_hosts *hosts, struct problems *problems)
{
	size_t with = 0;
	const char *without = NULL;
	for (size_t i = 0; i < hosts->count; i++) {
		with += hosts->list[i].slots > 0;
		if (!hosts->list[i].slots && !without)
			without = hosts->list[i].name;
	}
	hosts->has_slots = with && with == hosts->count;
	if (!with || hosts->has_slots)
		return 0;
	return problems_add(problems, ERR_CONFIG_INCOMPATIBLE,
			    "--hosts: %s has no number of slots, but others have: give all or none",
			    without);
}

int launch_hosts_parse(const struct strlist *words, struct launch_hosts *ret,
		       struct problems *problems)
{
	struct strlist entries = {0};
	struct launch_hosts hosts = {0};
	size_t before = problems->count;
	int rc = 0;
	for (size_t i = 0; !rc && i < words->count; i++)
		rc = strlist_add_split(&entries, words->v[i], ", \t\n");
	for (size_t i = 0; !rc && i < entries.count; i++)
		rc = parse_entry(entries.v[i], &hosts, problems);
	if (!rc && !entries.count)
		rc = problems_add(problems, ERR_CONFIG_INVALID, "--hosts: no host is named");
	if (!rc && problems->count == before)
		rc = check_slots(&hosts, problems);
	strlist_release(&entries);
	if (rc) {
		launch_hosts_release(&hosts);
		return rc;
	}
	*ret = hosts;
	return 0;
}

void launch_hosts_release(struct launch_hosts *hosts)
{
	for (size_t i = 0; i < hosts->count; i++)
		free(hosts->list[i].name);
	free(hosts->list);
	*hosts = (struct launch_hosts){0};
}

bool launch_host_is_local(const char *name)
{
	return !strcasecmp(name, "localhost") || !strncmp(name, "127.", 4);
}
