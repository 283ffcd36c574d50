/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cluster/remote.h - another machine's sources over ssh: what is asked, and how the answer is read.
 *
 * Receives: host names, an answer's bytes.  Gives: argument vectors, the JSON of cluster/source.h.
 * Must not know: how programs are run.
 *
 * Nothing of ours has to be installed there. One command line prints the files with marks around them:
 *
 *     <mark> begin /proc/meminfo
 *     MemTotal: ...
 *     <mark> end /proc/meminfo 0        status of cat
 *     ...
 *     <mark> done
 *
 * The mark is drawn at random for each answer, so that no text of the machine can be taken for it; what a login
 * script prints before the first one is passed over.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/str.h"
#include "cluster/source.h"

enum { REMOTE_MARK_SIZE = 33 };

/** remote_mark() - draw a mark. */
void remote_mark(char mark[REMOTE_MARK_SIZE]);

/** remote_command() - the command line for the other machine's login shell: the only text here that a shell reads. */
void remote_command(enum source_set set, const char *mark, struct str *ret);

/**
 * remote_parse() - an answer to remote_command()
 * @fallback_name: hostname where the answer does not tell it
 * Return: as source_collect(); NULL when the answer is cut off or none.
 */
json_t *remote_parse(enum source_set set, const char *mark, const char *text, size_t len,
		     const char *fallback_name);

/** remote_ssh() - append ssh's words for running @command on @host; never asks, gives up connecting after @timeout_s.
 * @user: NULL: ssh's own choice. Return: 0 or -ENOMEM. */
int remote_ssh(const char *host, const char *user, int64_t timeout_s, const char *command,
	       struct strlist *argv);

/** remote_is_local() - does @host name this machine: localhost, 127.0.0.1, ::1, its name or its full name, in any case?
 * May ask the resolver for the full name. */
bool remote_is_local(const char *host);

/** remote_unique() - names of "host" and "host:slots" entries, in order, each once. Return: 0 or -ENOMEM. */
int remote_unique(const struct strlist *entries, struct strlist *ret);
