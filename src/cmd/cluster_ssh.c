// SPDX-License-Identifier: Apache-2.0
/* Several machines asked at once over ssh: words and parsing from cluster/remote, processes from launch/capture. */
#include <string.h>

#include "cluster/remote.h"
#include "cmd/kvcache_cluster.h"
#include "launch/capture.h"

enum {
	SSH_PARALLEL = 10,
	SSH_EXTRA_S = 10 /* after the time for connecting */,
	SSH_NOT_REACHED = 255
};

/** The machines being asked. */
struct inquiry {
	enum source_set set;
	char mark[REMOTE_MARK_SIZE];
	struct launch_capture *job; /* those that are not this machine, in order */
	size_t count;
};

static int add_job(struct inquiry *q, const char *host, const char *user, int64_t timeout_s)
{
	CLEANUP_STR struct str command = {0};
	struct launch_capture *job = &q->job[q->count++];
	job->limit_ms = (timeout_s + SSH_EXTRA_S) * 1000;
	remote_command(q->set, q->mark, &command);
	return command.rc ? command.rc
			  : remote_ssh(host, user, timeout_s, str_text(&command), &job->argv);
}

void cmd_ssh_why(const struct launch_capture *job, struct str *ret)
{
	if (job->rc == -ETIMEDOUT) {
		str_addf(ret, "no answer within %lld s", (long long)job->limit_ms / 1000);
		return;
	}
	if (job->rc) {
		str_addf(ret, "ssh: %s", strerror(-job->rc));
		return;
	}
	CLEANUP_STR struct str said = {0};
	str_add(&said, str_text(&job->err));
	while (said.len && strchr("\r\n ", said.s[said.len - 1]))
		said.s[--said.len] = '\0';
	const char *line = said.len ? strrchr(said.s, '\n') : NULL;
	if (said.len)
		str_add(ret, line ? line + 1 : said.s);
	else if (job->exit_status)
		str_addf(ret, "ssh ended with exit status %d", job->exit_status);
	else
		str_add(ret, "its answer is not complete");
}

static void take_answer(const struct inquiry *q, const struct launch_capture *job, size_t index,
			const char *host, cmd_ssh_take_fn *take, void *arg)
{
	CLEANUP_STR struct str why = {0};
	bool is_there = !job->rc && job->exit_status != SSH_NOT_REACHED;
	json_t *facts =
		is_there ? remote_parse(q->set, q->mark, str_text(&job->out), job->out.len, host)
			 : NULL;
	if (!facts)
		cmd_ssh_why(job, &why);
	take(arg, index, host, facts, facts ? NULL : str_text(&why));
	json_decref(facts);
}

static void take_own(enum source_set set, size_t index, const char *host, cmd_ssh_take_fn *take,
		     void *arg)
{
	json_t *facts = source_collect_local(set, "");
	take(arg, index, host, facts, facts ? NULL : strerror(ENOMEM));
	json_decref(facts);
}

int cmd_ssh_collect(const struct strlist *hosts, enum source_set set, const char *user,
		    int64_t timeout_s, cmd_ssh_take_fn *take, void *arg)
{
	struct inquiry q = {.set = set, .job = calloc(hosts->count + 1, sizeof(*q.job))};
	CLEANUP_FREE bool *is_own = calloc(hosts->count + 1, sizeof(*is_own));
	int rc = q.job && is_own ? 0 : -ENOMEM;
	remote_mark(q.mark);
	for (size_t i = 0; !rc && i < hosts->count; i++) {
		is_own[i] = remote_is_local(hosts->v[i]);
		if (!is_own[i])
			rc = add_job(&q, hosts->v[i], user, timeout_s);
	}
	if (!rc)
		launch_capture(q.job, q.count, SSH_PARALLEL);
	for (size_t i = 0, next = 0; !rc && i < hosts->count; i++) {
		if (is_own[i])
			take_own(set, i, hosts->v[i], take, arg);
		else
			take_answer(&q, &q.job[next++], i, hosts->v[i], take, arg);
	}
	for (size_t i = 0; i < q.count; i++)
		launch_capture_release(&q.job[i]);
	free(q.job);
	return rc;
}
