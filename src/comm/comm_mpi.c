// SPDX-License-Identifier: Apache-2.0
/*
 * Ranks over MPI, one thread of each. Three kinds of traffic:
 *
 *   meetings   non-blocking collectives, and one message of each rank to rank 0 (comm_gather)
 *   mail       messages to rank 0 and the wish to stop, picked up by whoever looks
 *   trouble    rank 0's roll call (ROLL, HERE) and verdict (FAIL), which every wait listens for
 *
 * A wait tests its request, serves trouble, and sleeps an eighth of the time it has waited, 1 ms at most: short waits end
 * sharply, long ones take no CPU from the ranks that still work. A request that missed its deadline can neither be finished nor
 * withdrawn (MPI has no way to cancel a collective), so its buffer is never freed.
 */
#include <assert.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "comm/comm.h"

enum { HOST_MAX = 64, PIECE = 32768 /* numbers, 256 KiB */, PINGS = 8, NAMED_MAX = 8 };
enum { FINALIZE_S = 10 /* for the library to close its connections */ };
enum { TAG_STOP = 1, TAG_ROLL, TAG_HERE, TAG_FAIL, TAG_PING, TAG_PONG, TAG_MAIL_0, TAG_GATHER_0 = 64, GATHER_TAGS = 1024 };

#define ROLL_NS	    (3 * NS_PER_S) /* to answer the roll call */
#define ROOT_NS	    (5 * NS_PER_S) /* how much longer than rank 0 the others wait for its verdict */
#define CLEAN_UP_NS (2 * NS_PER_S) /* for the others, before rank 0 ends the job */
#define LEAVE_NS     (30 * NS_PER_S) /* from the first to the last rank's goodbye */
#define PART_NS	     (100 * NS_PER_MS) /* from the last meeting to MPI_Finalize() */
#define SLEEP_MAX_NS NS_PER_MS

struct letter {
	struct str text;
	MPI_Request request;
};

/* A letter that has been announced: a long one comes no sooner than its sender looks after it. */
struct arrival {
	char *text; /* NULL: there is none */
	int source, len;
	MPI_Request request;
};

struct comm {
	int rank, size;
	bool is_job;
	bool is_broken;	 /* a meeting failed: MPI_Finalize() would hang */
	bool is_leaving; /* nobody will fetch mail any more */
	bool is_stopped, is_stop_told;
	uint64_t verdict_ns; /* MPI has failed here: rank 0 will have said by then what is wrong */
	int gathers; /* so far: a fast rank may be several meetings ahead, so each has its tag */
	char (*hosts)[HOST_MAX]; /* [size] */
	char library[MPI_MAX_LIBRARY_VERSION_STRING];
	struct letter mail[COMM_MAILS];
	struct arrival arriving[COMM_MAILS];
	uint64_t *piece, *piece_sum; /* PIECE numbers each */
};

static void nap(uint64_t since_ns)
{
	uint64_t ns = MIN((clock_mono_ns() - since_ns) / 8, SLEEP_MAX_NS);
	struct timespec ts = {.tv_nsec = (long)ns};
	if (ns < 5 * NS_PER_US)
		sched_yield();
	else
		nanosleep(&ts, NULL);
}

/* Has anybody sent this? Return: its source, -1: nobody. */
static int probe(int source, int tag, int *ret_len)
{
	int flag = 0, len = 0;
	MPI_Status status;
	if (MPI_Iprobe(source, tag, MPI_COMM_WORLD, &flag, &status) || !flag)
		return -1;
	MPI_Get_count(&status, MPI_BYTE, &len);
	if (ret_len)
		*ret_len = len;
	return status.MPI_SOURCE;
}

/* A message that has been probed, and short: comes at once. */
static void take(int source, int tag, void *buf, int len)
{
	MPI_Recv(buf, len, MPI_BYTE, source, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* Small enough that MPI keeps a copy; nobody waits for it. */
static void tell(int rank, int tag, const void *data, int len)
{
	MPI_Request request;
	if (!MPI_Isend(data, len, MPI_BYTE, rank, tag, MPI_COMM_WORLD, &request))
		MPI_Request_free(&request);
}

static void tell_others(const struct comm *c, int tag, const void *data, int len)
{
	for (int r = 1; r < c->size; r++)
		tell(r, tag, data, len);
}

/* ---- trouble ---- */

static void name_ranks(const struct comm *c, const bool *is_here, struct str *out)
{
	int missing = 0;
	for (int r = 0; r < c->size; r++) {
		if (is_here[r])
			continue;
		if (missing++ < NAMED_MAX)
			str_addf(out, "%srank %d on %s", missing > 1 ? ", " : "", r, c->hosts[r]);
	}
	if (missing > NAMED_MAX)
		str_addf(out, " and %d more", missing - NAMED_MAX);
	if (!missing)
		str_add(out, "all of them answer, but one has not come this far");
}

/* Rank 0: who is there? @is_here: [size], what is known already. */
static void call_roll(const struct comm *c, bool *is_here)
{
	uint64_t begin = clock_mono_ns();
	is_here[0] = true;
	tell_others(c, TAG_ROLL, NULL, 0);
	while (clock_mono_ns() - begin < ROLL_NS) {
		int source = probe(MPI_ANY_SOURCE, TAG_HERE, NULL);
		if (source >= 0) {
			take(source, TAG_HERE, NULL, 0);
			is_here[source] = true;
			continue;
		}
		if (!memchr(is_here, false, (size_t)c->size))
			return;
		nap(begin);
	}
}

/* Rank 0's deadline has passed. @is_here: [size] who is known to have come; NULL: nobody knows. Return: -ETIMEDOUT with @err, told to all. */
static int fail_late(struct comm *c, const bool *has_come, const char *what, struct error *err)
{
	CLEANUP_STR struct str names = {0};
	CLEANUP_FREE bool *is_here = calloc((size_t)c->size, sizeof(*is_here));
	struct error verdict = {0};
	c->is_broken = true;
	if (is_here && has_come)
		memcpy(is_here, has_come, (size_t)c->size * sizeof(*is_here));
	else if (is_here)
		call_roll(c, is_here);
	if (is_here)
		name_ranks(c, is_here, &names);
	error_set(&verdict, -ETIMEDOUT, ERR_RUN_TIMEOUT, "no answer while %s: %s", what, str_text(&names));
	error_hint(&verdict, "the process or its host has died, hangs, or is slower than --rank-timeout allows");
	tell_others(c, TAG_FAIL, verdict.message, (int)strlen(verdict.message));
	if (err)
		*err = verdict;
	return -ETIMEDOUT;
}

/*
 * MPI itself says that something is wrong, often of a third rank. Rank 0 finds out which; the others leave it the time to, or
 * they would end the job before anybody knows why.
 */
static int fail_mpi(struct comm *c, int code, uint64_t deadline_ns, const char *what, struct error *err)
{
	char reason[MPI_MAX_ERROR_STRING] = "", text[1024];
	int len;
	c->is_broken = true;
	MPI_Error_string(code, reason, &len);
	reason[strcspn(reason, "\n")] = '\0';
	snprintf(text, sizeof(text), "%s (MPI says: %.400s)", what, reason);
	if (!c->rank)
		return fail_late(c, NULL, text, err);
	c->verdict_ns = deadline_ns + ROOT_NS;
	return error_set(err, -EIO, ERR_RUN_FAILED, "MPI failed while %s", text);
}

/* Letters that nobody will fetch: their senders must not wait for ever. */
static void drop_mail(void)
{
	MPI_Status status;
	for (int flag, len;;) {
		if (MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, &status) || !flag)
			return;
		MPI_Get_count(&status, MPI_BYTE, &len);
		char *text = malloc((size_t)len + 1);
		MPI_Request request;
		int done = 0;
		if (!text || MPI_Irecv(text, len, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD, &request)) {
			free(text);
			return;
		}
		if (!MPI_Test(&request, &done, MPI_STATUS_IGNORE) && done)
			free(text);
		else
			MPI_Request_free(&request); /* it comes when it comes, and the text stays for it */
	}
}

/* What every wait listens for. Return: 0; -ECONNABORTED with @err: rank 0 has given up. */
static int serve(struct comm *c, struct error *err)
{
	char message[1024] = "";
	int len;
	if (c->is_leaving)
		drop_mail();
	if (!c->rank || c->is_leaving)
		return 0;
	if (probe(0, TAG_ROLL, NULL) >= 0) {
		take(0, TAG_ROLL, NULL, 0);
		tell(0, TAG_HERE, NULL, 0);
	}
	if (probe(0, TAG_FAIL, &len) < 0)
		return 0;
	assert(len < (int)sizeof(message));
	take(0, TAG_FAIL, message, len);
	c->is_broken = true;
	return error_set(err, -ECONNABORTED, ERR_RUN_TIMEOUT, "%s", message);
}

static bool is_late(const struct comm *c, uint64_t deadline_ns)
{
	return clock_mono_ns() > deadline_ns + (c->rank ? ROOT_NS : 0);
}

/* This rank's part of a wait that ended badly. */
static int give_up(struct comm *c, const char *what, struct error *err)
{
	if (!c->rank)
		return fail_late(c, NULL, what, err);
	c->is_broken = true;
	return error_set(err, -ETIMEDOUT, ERR_RUN_TIMEOUT, "no answer while %s: rank 0 on %s", what, c->hosts[0]);
}

/* Waits for one request; @code: what starting it returned. */
static int await(struct comm *c, int code, MPI_Request *request, uint64_t deadline_ns, const char *what,
		 struct error *err)
{
	uint64_t begin = clock_mono_ns();
	for (int done = 0;;) {
		if (!code)
			code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
		if (code)
			return fail_mpi(c, code, deadline_ns, what, err);
		if (done)
			return 0;
		int rc = serve(c, err);
		if (rc)
			return rc;
		if (is_late(c, deadline_ns))
			return give_up(c, what, err);
		nap(begin);
	}
}

/* ---- joining and leaving ---- */

/* Both MPIs say more than the name: Open MPI after a comma, MPICH on further lines. */
void comm_library_name(char *ret, size_t size)
{
	char text[MPI_MAX_LIBRARY_VERSION_STRING];
	int len;
	MPI_Get_library_version(text, &len);
	text[strcspn(text, ",\n")] = '\0';
	CLEANUP_STR struct str words = {0};
	char *state, *word = strtok_r(text, " \t", &state);
	for (; word; word = strtok_r(NULL, " \t", &state))
		str_addf(&words, "%s%s", words.len ? " " : "", word);
	snprintf(ret, size, "%s", str_text(&words));
}

static int check_launcher(struct comm *c, struct error *err)
{
	struct comm_launcher launcher;
	c->is_job = comm_launcher_read(&launcher);
	if (!c->is_job || launcher.size == c->size)
		return 0;
	error_set(err, -EINVAL, ERR_RUN_DEPENDENCY,
		  "the launcher started %d processes (%s), but %s, which this program is linked with, knows %d",
		  launcher.size, launcher.variable, c->library, c->size);
	error_hint(err, "use the launcher that belongs to that MPI, or a program built with the launcher's");
	return -EINVAL;
}

/* Still before anything can go wrong slowly: a rank that dies here takes the job with it. */
static int exchange_hosts(struct comm *c)
{
	char own[HOST_MAX] = "";
	gethostname(own, sizeof(own) - 1);
	c->hosts = calloc((size_t)c->size, sizeof(*c->hosts));
	c->piece = malloc(PIECE * sizeof(*c->piece));
	c->piece_sum = malloc(PIECE * sizeof(*c->piece_sum));
	if (!c->hosts || !c->piece || !c->piece_sum)
		return -ENOMEM;
	return MPI_Allgather(own, HOST_MAX, MPI_CHAR, c->hosts, HOST_MAX, MPI_CHAR, MPI_COMM_WORLD) ? -EIO : 0;
}

/* MPI's own threads inherit what is blocked here: signals for the job go to the program's threads and to no others. */
static int init_thread(void)
{
	sigset_t ours, before;
	int provided = MPI_THREAD_SINGLE;
	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &ours, &before);
	MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return provided;
}

static void comm_free(struct comm *c)
{
	for (int i = 0; i < COMM_MAILS; i++) {
		str_release(&c->mail[i].text);
		free(c->arriving[i].text);
	}
	free(c->hosts);
	free(c->piece);
	free(c->piece_sum);
	free(c);
}

static void *end_late(void *exit_code)
{
	sleep(FINALIZE_S);
	_exit((int)(intptr_t)exit_code);
}

/*
 * Nobody has anything to say any more, but what follows has no deadline: MPI_Finalize() can wait for ever for a connection that
 * is not properly closed, MPI_Abort() for a launcher that is cut off. Then a thread ends the process, as it would have ended.
 */
static void end_soon(int exit_code)
{
	pthread_t thread;
	sigset_t all, before;
	fflush(NULL); /* what _exit() would lose */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	if (!pthread_create(&thread, NULL, end_late, (void *)(intptr_t)exit_code))
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void finalize(int exit_code)
{
	end_soon(exit_code);
	MPI_Finalize();
}

int comm_open(struct comm **ret, struct error *err)
{
	struct comm *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	for (int i = 0; i < COMM_MAILS; i++)
		c->mail[i].request = c->arriving[i].request = MPI_REQUEST_NULL;
	int provided = init_thread();
	MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &c->size);
	comm_library_name(c->library, sizeof(c->library));
	int rc = check_launcher(c, err);
	if (!rc && provided < MPI_THREAD_FUNNELED)
		rc = error_set(err, -EINVAL, ERR_RUN_DEPENDENCY, "%s was built without support for threads", c->library);
	if (!rc && (rc = exchange_hosts(c)))
		error_set(err, rc, ERR_RUN_DEPENDENCY, "cannot exchange the names of the hosts: %s", strerror(-rc));
	if (rc) {
		finalize(err_exit_code(err ? err->code : ERR_RUN_DEPENDENCY));
		comm_free(c);
		return rc;
	}
	*ret = c;
	return 0;
}

/* Rank 0 lets the others clean up and ends what hangs; they wait for it to do so. */
static void leave_broken(struct comm *c, int exit_code)
{
	uint64_t begin = clock_mono_ns(), end = begin + (c->rank ? 2 : 1) * CLEAN_UP_NS;
	c->is_leaving = false; /* still answers the roll call */
	while (clock_mono_ns() < MAX(end, c->verdict_ns)) {
		if (serve(c, NULL))
			c->verdict_ns = 0;
		nap(begin);
	}
	end_soon(exit_code);
	MPI_Abort(MPI_COMM_WORLD, exit_code);
	_exit(exit_code);
}

/*
 * MPICH over UCX (seen with 4.0.2 and TCP) hangs in MPI_Finalize() in most runs where all ranks enter it within some milliseconds
 * of their last message: one rank waits for the others to answer that its connection closes, and they already wait for the
 * launcher. After a pause in which everybody still looks after messages it does not.
 */
static void part(struct comm *c)
{
	uint64_t begin = clock_mono_ns();
	while (clock_mono_ns() - begin < PART_NS) {
		(void)serve(c, NULL);
		nap(begin);
	}
}

void comm_close(struct comm *c, int exit_code)
{
	if (!c)
		return;
	uint64_t deadline_ns = clock_mono_ns() + LEAVE_NS;
	c->is_leaving = true;
	for (int i = 0; i < COMM_MAILS && !c->is_broken; i++)
		(void)await(c, 0, &c->mail[i].request, deadline_ns, "leaving", NULL);
	for (int i = 0; i < COMM_MAILS && !c->is_broken; i++)
		(void)await(c, 0, &c->arriving[i].request, deadline_ns, "leaving", NULL);
	if (!c->is_broken)
		(void)comm_barrier(c, deadline_ns, NULL);
	if (c->is_broken)
		leave_broken(c, exit_code);
	part(c);
	finalize(exit_code);
	comm_free(c);
}

int comm_rank(const struct comm *c)
{
	return c->rank;
}

int comm_size(const struct comm *c)
{
	return c->size;
}

bool comm_is_job(const struct comm *c)
{
	return c->is_job;
}

const char *comm_host(const struct comm *c, int rank)
{
	return c->hosts[rank];
}

unsigned comm_host_ranks(const struct comm *c)
{
	unsigned n = 0;
	for (int r = 0; r < c->size; r++)
		n += !strcmp(c->hosts[r], c->hosts[c->rank]);
	return n;
}

const char *comm_library(const struct comm *c)
{
	return c->library;
}

/* ---- meetings ---- */

static int gather_send(struct comm *c, int tag, const void *data, size_t len, uint64_t deadline_ns, struct error *err)
{
	/* A copy, which outlives a wait that fails. */
	char *copy = malloc(len + 1);
	if (!copy)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	memcpy(copy, data, len);
	MPI_Request request;
	int code = MPI_Isend(copy, (int)len, MPI_BYTE, 0, tag, MPI_COMM_WORLD, &request);
	int rc = await(c, code, &request, deadline_ns, "rank 0 collects the ranks' reports", err);
	if (!rc)
		free(copy);
	return rc;
}

/* The next text to come, whoever sends it. Return: 0 with *ret to free; -errno with @err. */
static int gather_receive(struct comm *c, int tag, bool *has_come, int *ret_rank, char **ret, int *ret_len,
			  uint64_t deadline_ns, struct error *err)
{
	uint64_t begin = clock_mono_ns();
	while ((*ret_rank = probe(MPI_ANY_SOURCE, tag, ret_len)) < 0) {
		if (is_late(c, deadline_ns))
			return fail_late(c, has_come, "collecting the ranks' reports", err);
		nap(begin);
	}
	char *text = malloc((size_t)*ret_len + 1);
	if (!text)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	MPI_Request request;
	int code = MPI_Irecv(text, *ret_len, MPI_BYTE, *ret_rank, tag, MPI_COMM_WORLD, &request);
	int rc = await(c, code, &request, deadline_ns, "a rank sends its report", err);
	if (rc)
		return rc; /* MPI may still write there */
	text[*ret_len] = '\0';
	has_come[*ret_rank] = true;
	*ret = text;
	return 0;
}

int comm_gather(struct comm *c, const void *data, size_t len, comm_take_fn take_fn, void *arg, uint64_t deadline_ns,
		struct error *err)
{
	int tag = TAG_GATHER_0 + c->gathers++ % GATHER_TAGS;
	if (len > INT32_MAX)
		return error_set(err, -EMSGSIZE, ERR_INTERNAL, "a report of %zu bytes is too long", len);
	if (c->rank)
		return gather_send(c, tag, data, len, deadline_ns, err);
	CLEANUP_STR struct str own = {0};
	CLEANUP_FREE bool *has_come = calloc((size_t)c->size, sizeof(*has_come));
	str_add_mem(&own, data, len);
	if (own.rc || !has_come)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	has_come[0] = true;
	int taken = take_fn(arg, 0, str_text(&own), len);
	for (int i = 1; i < c->size; i++) {
		char *text = NULL;
		int r, n, rc = gather_receive(c, tag, has_come, &r, &text, &n, deadline_ns, err);
		if (rc)
			return rc;
		int took = take_fn(arg, r, text, (size_t)n);
		if (took && !taken)
			taken = took;
		free(text);
	}
	return taken ? error_set(err, taken, ERR_INTERNAL, "cannot take a rank's report: %s", strerror(-taken)) : 0;
}

int comm_bcast(struct comm *c, void *data, size_t len, uint64_t deadline_ns, struct error *err)
{
	char *at = data;
	for (size_t n; len; len -= n, at += n) {
		MPI_Request request;
		n = MIN(len, PIECE * sizeof(*c->piece));
		memcpy(c->piece, at, n);
		int code = MPI_Ibcast(c->piece, (int)n, MPI_BYTE, 0, MPI_COMM_WORLD, &request);
		int rc = await(c, code, &request, deadline_ns, "telling all ranks", err);
		if (rc)
			return rc;
		memcpy(at, c->piece, n);
	}
	return 0;
}

int comm_barrier(struct comm *c, uint64_t deadline_ns, struct error *err)
{
	MPI_Request request;
	int code = MPI_Ibarrier(MPI_COMM_WORLD, &request);
	return await(c, code, &request, deadline_ns, "waiting for all ranks", err);
}

static int reduce(struct comm *c, enum comm_op op, uint64_t *v, size_t count, bool is_for_all, uint64_t deadline_ns,
		  struct error *err)
{
	const MPI_Op ops[COMM_OPS] = {[COMM_SUM] = MPI_SUM, [COMM_MAX] = MPI_MAX, [COMM_OR] = MPI_BOR};
	for (size_t n; count; count -= n, v += n) {
		MPI_Request request;
		n = MIN(count, (size_t)PIECE);
		memcpy(c->piece, v, n * sizeof(*v));
		int code = is_for_all ? MPI_Iallreduce(c->piece, c->piece_sum, (int)n, MPI_UINT64_T, ops[op],
						       MPI_COMM_WORLD, &request)
				      : MPI_Ireduce(c->piece, c->piece_sum, (int)n, MPI_UINT64_T, ops[op], 0,
						    MPI_COMM_WORLD, &request);
		int rc = await(c, code, &request, deadline_ns, "adding up over all ranks", err);
		if (rc)
			return rc;
		if (is_for_all || !c->rank)
			memcpy(v, c->piece_sum, n * sizeof(*v));
	}
	return 0;
}

int comm_reduce(struct comm *c, enum comm_op op, uint64_t *v, size_t n, uint64_t deadline_ns, struct error *err)
{
	return reduce(c, op, v, n, false, deadline_ns, err);
}

int comm_allreduce(struct comm *c, enum comm_op op, uint64_t *v, size_t n, uint64_t deadline_ns, struct error *err)
{
	return reduce(c, op, v, n, true, deadline_ns, err);
}

int comm_count_same(struct comm *c, uint64_t key, unsigned *ret, uint64_t deadline_ns, struct error *err)
{
	/* Not freed after a failure: MPI may still write there. */
	uint64_t *keys = calloc((size_t)c->size + 1, sizeof(*keys));
	if (!keys)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	keys[c->size] = key;
	MPI_Request request;
	int code = MPI_Iallgather(&keys[c->size], 1, MPI_UINT64_T, keys, 1, MPI_UINT64_T, MPI_COMM_WORLD, &request);
	int rc = await(c, code, &request, deadline_ns, "comparing the ranks' file systems", err);
	if (rc)
		return rc;
	*ret = 0;
	for (int r = 0; r < c->size; r++)
		*ret += keys[r] == key;
	free(keys);
	return 0;
}

/* ---- clocks ---- */

static int first_of_host(const struct comm *c, int rank)
{
	int r = 0;
	while (strcmp(c->hosts[r], c->hosts[rank]) != 0)
		r++;
	return r;
}

/* One message there or back. The value stands in the comm's own buffer, which outlives a wait that fails. */
static int carry(struct comm *c, int peer, int tag, bool is_send, uint64_t *value, uint64_t deadline_ns,
		 struct error *err)
{
	MPI_Request request;
	uint64_t *at = &c->piece[is_send];
	*at = *value;
	int code = is_send ? MPI_Isend(at, 1, MPI_UINT64_T, peer, tag, MPI_COMM_WORLD, &request)
			   : MPI_Irecv(at, 1, MPI_UINT64_T, peer, tag, MPI_COMM_WORLD, &request);
	int rc = await(c, code, &request, deadline_ns, "comparing clocks", err);
	*value = *at;
	return rc;
}

/* Rank 0's side; tells the peer in the end. */
static int ping(struct comm *c, int peer, uint64_t deadline_ns, struct error *err)
{
	uint64_t best = UINT64_MAX, offset = 0;
	int rc = 0;
	for (int i = 0; i < PINGS && !rc; i++) {
		uint64_t begin = clock_mono_ns(), there = 0;
		rc = carry(c, peer, TAG_PING, true, &there, deadline_ns, err);
		if (!rc)
			rc = carry(c, peer, TAG_PONG, false, &there, deadline_ns, err);
		uint64_t end = clock_mono_ns();
		if (!rc && end - begin < best) {
			best = end - begin;
			offset = there - (begin + best / 2); /* modulo 2^64: negative ones too */
		}
	}
	return rc ? rc : carry(c, peer, TAG_PING, true, &offset, deadline_ns, err);
}

static int pong(struct comm *c, uint64_t *offset, uint64_t deadline_ns, struct error *err)
{
	int rc = 0;
	for (int i = 0; i < PINGS && !rc; i++) {
		uint64_t value = 0;
		rc = carry(c, 0, TAG_PING, false, &value, deadline_ns, err);
		value = clock_mono_ns();
		if (!rc)
			rc = carry(c, 0, TAG_PONG, true, &value, deadline_ns, err);
	}
	return rc ? rc : carry(c, 0, TAG_PING, false, offset, deadline_ns, err);
}

int comm_clock_offset(struct comm *c, int64_t *ret_ns, uint64_t deadline_ns, struct error *err)
{
	int first = first_of_host(c, c->rank), rc = 0;
	uint64_t offset = 0;
	if (!c->rank) {
		for (int r = 1; r < c->size && !rc; r++)
			if (first_of_host(c, r) == r)
				rc = ping(c, r, deadline_ns, err);
	} else if (first == c->rank) {
		rc = pong(c, &offset, deadline_ns, err);
		for (int r = c->rank + 1; r < c->size && !rc; r++)
			if (first_of_host(c, r) == c->rank)
				rc = carry(c, r, TAG_PING, true, &offset, deadline_ns, err);
	} else if (first) {
		rc = carry(c, first, TAG_PING, false, &offset, deadline_ns, err);
	}
	*ret_ns = (int64_t)offset;
	return rc;
}

/* ---- mail ---- */

int comm_post(struct comm *c, enum comm_mail kind, const void *data, size_t len)
{
	struct letter *l = &c->mail[kind];
	int done = 0;
	if (MPI_Test(&l->request, &done, MPI_STATUS_IGNORE) || !done)
		return -EAGAIN;
	str_clear(&l->text);
	str_add_mem(&l->text, data, len);
	if (l->text.rc)
		return l->text.rc;
	MPI_Isend(str_text(&l->text), (int)len, MPI_BYTE, 0, TAG_MAIL_0 + (int)kind, MPI_COMM_WORLD, &l->request);
	return 0;
}

static bool arrival_begin(struct arrival *a, int tag)
{
	a->source = probe(MPI_ANY_SOURCE, tag, &a->len);
	a->text = a->source < 0 ? NULL : malloc((size_t)a->len + 1);
	if (a->text && MPI_Irecv(a->text, a->len, MPI_BYTE, a->source, tag, MPI_COMM_WORLD, &a->request)) {
		free(a->text);
		a->text = NULL;
	}
	return a->text != NULL;
}

bool comm_fetch(struct comm *c, enum comm_mail kind, int *ret_rank, struct str *ret)
{
	struct arrival *a = &c->arriving[kind];
	int done = 0;
	if (c->rank || (!a->text && !arrival_begin(a, TAG_MAIL_0 + (int)kind)))
		return false;
	if (MPI_Test(&a->request, &done, MPI_STATUS_IGNORE) || !done)
		return false;
	str_clear(ret);
	str_add_mem(ret, a->text, (size_t)a->len);
	*ret_rank = a->source;
	free(a->text);
	a->text = NULL;
	return !ret->rc;
}

void comm_stop(struct comm *c)
{
	c->is_stopped = true;
	if (c->is_stop_told)
		return;
	c->is_stop_told = true;
	if (c->rank)
		tell(0, TAG_STOP, NULL, 0);
	else
		tell_others(c, TAG_STOP, NULL, 0);
}

bool comm_stop_asked(struct comm *c)
{
	int source = probe(c->rank ? 0 : MPI_ANY_SOURCE, TAG_STOP, NULL);
	if (source >= 0) {
		take(source, TAG_STOP, NULL, 0);
		c->is_stopped = true;
		if (!c->rank)
			comm_stop(c);
	}
	return c->is_stopped;
}
