// SPDX-License-Identifier: Apache-2.0
/* What is asked of another machine over ssh, and how its answer is read. */
#include "cluster/remote.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"

void remote_mark(char mark[REMOTE_MARK_SIZE])
{
	uint64_t bits[2];
	if (getrandom(bits, sizeof(bits), 0) != sizeof(bits))
		bits[0] = bits[1] = clock_mono_ns();
	snprintf(mark, REMOTE_MARK_SIZE, "%016llx%016llx", (unsigned long long)bits[0],
		 (unsigned long long)bits[1]);
}

void remote_command(enum source_set set, const char *mark, struct str *ret)
{
	CLEANUP_STR struct str script = {0};
	str_add(&script, "for f in");
	for (const struct source *s = source_next(set, NULL); s; s = source_next(set, s)) {
		str_add(&script, " ");
		str_add_quoted(&script, s->path);
	}
	str_addf(
		&script,
		"; do echo \"%s begin $f\"; cat \"$f\"; echo \"%s end $f $?\"; done; echo \"%s done\"",
		mark, mark, mark);
	/* The login shell may be any: it need only know single quotes. */
	str_add(ret, "sh -c ");
	str_add_quoted(ret, str_text(&script));
	if (script.rc)
		ret->rc = script.rc;
}

/** An answer, and how its parts are marked. */
struct answer {
	const char *text;
	size_t len;
	const char *mark;
};

/* The first place of "<mark> <word><path><after>" from @from. NULL: none. */
static const char *find_mark(const struct answer *a, const char *from, const char *word,
			     const char *path, const char *after, size_t *ret_len)
{
	CLEANUP_STR struct str line = {0};
	str_addf(&line, "%s %s%s%s", a->mark, word, path, after);
	*ret_len = line.len;
	return line.rc ? NULL
		       : memmem(from, (size_t)(a->text + a->len - from), str_text(&line), line.len);
}

static int read_part(void *ctx, const struct source *source, struct str *ret)
{
	const struct answer *a = ctx;
	size_t begin_len, end_len;
	const char *begin = find_mark(a, a->text, "begin ", source->path, "\n", &begin_len);
	if (!begin)
		return -ENODATA;
	begin += begin_len;
	const char *end = find_mark(a, begin, "end ", source->path, " ", &end_len);
	if (!end || end + end_len >= a->text + a->len || end[end_len] != '0')
		return -ENODATA;
	if (end - begin > SOURCE_TEXT_MAX)
		return -EFBIG;
	str_add_mem(ret, begin, (size_t)(end - begin));
	return ret->rc;
}

json_t *remote_parse(enum source_set set, const char *mark, const char *text, size_t len,
		     const char *fallback_name)
{
	struct answer a = {text, len, mark};
	size_t ignored;
	if (!len || !find_mark(&a, text, "done", "", "\n", &ignored))
		return NULL;
	return source_collect(set, read_part, &a, fallback_name);
}

int remote_ssh(const char *host, const char *user, int64_t timeout_s, const char *command,
	       struct strlist *argv)
{
	int rc = strlist_add_split(argv, "ssh -o BatchMode=yes", " ");
	if (!rc)
		rc = strlist_add(argv, "-o");
	if (!rc)
		rc = strlist_addf(argv, "ConnectTimeout=%lld", (long long)timeout_s);
	if (!rc)
		rc = strlist_add_split(argv, "-o StrictHostKeyChecking=accept-new", " ");
	if (!rc && user)
		rc = strlist_add(argv, "-l");
	if (!rc && user)
		rc = strlist_add(argv, user);
	if (!rc)
		rc = strlist_add(argv, "--"); /* a name is never an option */
	if (!rc)
		rc = strlist_add(argv, host);
	return rc ? rc : strlist_add(argv, command);
}

static bool is_full_name(const char *host, const char *own)
{
	struct addrinfo hints = {.ai_flags = AI_CANONNAME, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	if (getaddrinfo(own, NULL, &hints, &found))
		return false;
	bool is_same = found->ai_canonname && !strcasecmp(found->ai_canonname, host);
	freeaddrinfo(found);
	return is_same;
}

bool remote_is_local(const char *host)
{
	static const char *const names[] = {"localhost", "127.0.0.1", "::1"};
	char own[256] = "";
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (!strcasecmp(names[i], host))
			return true;
	gethostname(own, sizeof(own) - 1);
	if (!strcasecmp(own, host))
		return true;
	/* Only a name that begins as ours and goes on with a domain can be our full one. */
	size_t len = strcspn(own, ".");
	return len && !strncasecmp(own, host, len) && host[len] == '.' && is_full_name(host, own);
}

/* Length of the name in "name", "name:4" and "::1". */
static size_t name_length(const char *entry)
{
	const char *colon = strrchr(entry, ':');
	if (!colon || strchr(entry, ':') != colon || !isdigit((unsigned char)colon[1]) ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return strlen(entry);
	return (size_t)(colon - entry);
}

int remote_unique(const struct strlist *entries, struct strlist *ret)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < entries->count; i++) {
		CLEANUP_STR struct str name = {0};
		str_add_mem(&name, entries->v[i], name_length(entries->v[i]));
		if (name.len && !strlist_has(ret, str_text(&name)))
			rc = strlist_add(ret, str_text(&name));
		if (!rc)
			rc = name.rc;
	}
	return rc;
}
