// SPDX-License-Identifier: Apache-2.0
/* One rank, which always agrees with itself. */
#include "comm/comm.h"

#include <string.h>
#include <unistd.h>

struct comm {
	char host[256];
	struct str mail[COMM_MAILS];
	bool has_mail[COMM_MAILS];
	bool is_stopped;
};

int comm_open(struct comm **ret, struct error *err)
{
	struct comm_launcher launcher;
	if (comm_launcher_read(&launcher) && launcher.size > 1) {
		error_set(err, -EINVAL, ERR_RUN_DEPENDENCY,
			  "this program knows no other ranks, but a launcher started it as one of %d processes (%s)",
			  launcher.size, launcher.variable);
		error_hint(err, "use kv-cache-mpi, the same program with MPI");
		return -EINVAL;
	}
	struct comm *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	gethostname(c->host, sizeof(c->host) - 1);
	*ret = c;
	return 0;
}

void comm_close(struct comm *c, int exit_code)
{
	(void)exit_code;
	if (!c)
		return;
	for (int i = 0; i < COMM_MAILS; i++)
		str_release(&c->mail[i]);
	free(c);
}

int comm_rank(const struct comm *c)
{
	(void)c;
	return 0;
}

int comm_size(const struct comm *c)
{
	(void)c;
	return 1;
}

bool comm_is_job(const struct comm *c)
{
	(void)c;
	return false;
}

const char *comm_host(const struct comm *c, int rank)
{
	(void)rank;
	return c->host;
}

unsigned comm_host_ranks(const struct comm *c)
{
	(void)c;
	return 1;
}

const char *comm_library(const struct comm *c)
{
	(void)c;
	return "";
}

void comm_library_name(char *ret, size_t size)
{
	if (size)
		*ret = '\0';
}

int comm_gather(struct comm *c, const void *data, size_t len, comm_take_fn take, void *arg, uint64_t deadline_ns,
		struct error *err)
{
	(void)c, (void)deadline_ns;
	CLEANUP_STR struct str copy = {0};
	str_add_mem(&copy, data, len);
	int rc = copy.rc ? copy.rc : take(arg, 0, str_text(&copy), len);
	return rc ? error_set(err, rc, ERR_INTERNAL, "cannot take this rank's own report: %s", strerror(-rc)) : 0;
}

int comm_bcast(struct comm *c, void *data, size_t len, uint64_t deadline_ns, struct error *err)
{
	(void)c, (void)data, (void)len, (void)deadline_ns, (void)err;
	return 0;
}

int comm_barrier(struct comm *c, uint64_t deadline_ns, struct error *err)
{
	(void)c, (void)deadline_ns, (void)err;
	return 0;
}

int comm_reduce(struct comm *c, enum comm_op op, uint64_t *v, size_t n, uint64_t deadline_ns, struct error *err)
{
	(void)c, (void)op, (void)v, (void)n, (void)deadline_ns, (void)err;
	return 0;
}

int comm_allreduce(struct comm *c, enum comm_op op, uint64_t *v, size_t n, uint64_t deadline_ns, struct error *err)
{
	return comm_reduce(c, op, v, n, deadline_ns, err);
}

int comm_count_same(struct comm *c, uint64_t key, unsigned *ret, uint64_t deadline_ns, struct error *err)
{
	(void)c, (void)key, (void)deadline_ns, (void)err;
	*ret = 1;
	return 0;
}

int comm_clock_offset(struct comm *c, int64_t *ret_ns, uint64_t deadline_ns, struct error *err)
{
	(void)c, (void)deadline_ns, (void)err;
	*ret_ns = 0;
	return 0;
}

int comm_post(struct comm *c, enum comm_mail kind, const void *data, size_t len)
{
	if (c->has_mail[kind])
		return -EAGAIN;
	str_clear(&c->mail[kind]);
	str_add_mem(&c->mail[kind], data, len);
	c->has_mail[kind] = !c->mail[kind].rc;
	return c->mail[kind].rc;
}

bool comm_fetch(struct comm *c, enum comm_mail kind, int *ret_rank, struct str *ret)
{
	if (!c->has_mail[kind])
		return false;
	c->has_mail[kind] = false;
	*ret_rank = 0;
	str_clear(ret);
	str_add_mem(ret, str_text(&c->mail[kind]), c->mail[kind].len);
	return !ret->rc;
}

void comm_stop(struct comm *c)
{
	c->is_stopped = true;
}

bool comm_stop_asked(struct comm *c)
{
	return c->is_stopped;
}
