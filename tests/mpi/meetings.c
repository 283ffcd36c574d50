// SPDX-License-Identifier: Apache-2.0
/*
 * Every meeting of comm.h with numbers that are known beforehand, and what each costs: "meetings" under a launcher prints
 * microseconds per call as rank 0 sees it. Then a long letter. Fails when a number is wrong. "meetings CODE": meets nobody, and leaves with an exit
 * code a library that does not end.
 */
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "comm/comm.h"

enum { ROUNDS = 20, NUMBERS = 100000 /* more than one piece */ };

static struct comm *comm;
static uint64_t deadline_ns;
static uint64_t v[NUMBERS];
static bool seen[65536];

static void must(bool is_true, const char *what)
{
	if (is_true)
		return;
	fprintf(stderr, "rank %d: wrong: %s\n", comm_rank(comm), what);
	exit(1);
}

static int take(void *arg, int rank, const char *data, size_t len)
{
	char expected[32];
	int *count = arg;
	snprintf(expected, sizeof(expected), "rank %d", rank);
	must(len == strlen(expected) && !strcmp(data, expected) && !seen[rank], "a gathered text");
	seen[rank] = true;
	++*count;
	return 0;
}

static void gather(void)
{
	char own[32];
	int count = 0, n = snprintf(own, sizeof(own), "rank %d", comm_rank(comm));
	memset(seen, 0, sizeof(seen));
	must(!comm_gather(comm, own, (size_t)n, take, &count, deadline_ns, NULL), "gather");
	must(comm_rank(comm) || count == comm_size(comm), "number of texts");
}

static void barrier(void)
{
	must(!comm_barrier(comm, deadline_ns, NULL), "barrier");
}

static void bcast(void)
{
	for (size_t i = 0; i < NUMBERS; i++)
		v[i] = comm_rank(comm) ? 0 : i * i;
	must(!comm_bcast(comm, v, sizeof(v), deadline_ns, NULL), "bcast");
	for (size_t i = 0; i < NUMBERS; i++)
		must(v[i] == i * i, "a broadcast number");
}

static void sum(void)
{
	uint64_t rank = (uint64_t)comm_rank(comm), size = (uint64_t)comm_size(comm);
	for (size_t i = 0; i < NUMBERS; i++)
		v[i] = i + rank - 1; /* also what wraps around */
	must(!comm_reduce(comm, COMM_SUM, v, NUMBERS, deadline_ns, NULL), "sum");
	for (size_t i = 0; i < NUMBERS; i++)
		must(v[i] == (rank ? i + rank - 1 : size * i + size * (size - 1) / 2 - size), "a sum");
}

static void all(void)
{
	uint64_t rank = (uint64_t)comm_rank(comm), size = (uint64_t)comm_size(comm);
	uint64_t most[2] = {rank, INT64_MAX - rank}, bits[1] = {UINT64_C(1) << rank % 64};
	must(!comm_allreduce(comm, COMM_MAX, most, 2, deadline_ns, NULL), "max");
	must(most[0] == size - 1 && most[1] == INT64_MAX, "a maximum");
	must(!comm_allreduce(comm, COMM_OR, bits, 1, deadline_ns, NULL), "or");
	must(bits[0] == (size >= 64 ? UINT64_MAX : (UINT64_C(1) << size) - 1), "bits");
	unsigned same;
	must(!comm_count_same(comm, UINT64_MAX - rank / 2, &same, deadline_ns, NULL), "count");
	must(same == (rank == size - 1 && size % 2 ? 1 : 2), "number of equals");
}

static void clocks(void)
{
	int64_t offset;
	must(!comm_clock_offset(comm, &offset, deadline_ns, NULL), "clocks");
	must(offset > -(int64_t)NS_PER_S && offset < (int64_t)NS_PER_S, "one machine has one clock");
}

/* A letter whose sender does not look after it for a while holds nobody up; it comes when the sender does. */
static void mail(void)
{
	enum { LETTER = 4 << 20, AWAY_S = 2 };
	CLEANUP_STR struct str text = {0};
	int rank = comm_rank(comm), sender = comm_size(comm) - 1, from;
	char *letter = calloc(1, LETTER);
	must(letter, "memory");
	barrier();
	memset(letter, 'x', LETTER);
	if (rank == sender)
		must(!comm_post(comm, COMM_MAIL_INTERVAL, letter, LETTER), "posting a letter");
	if (rank == sender && rank)
		sleep(AWAY_S);
	for (bool has_come = rank; !has_come;) {
		uint64_t begin = clock_mono_ns();
		has_come = comm_fetch(comm, COMM_MAIL_INTERVAL, &from, &text);
		must(clock_mono_ns() - begin < AWAY_S * NS_PER_S / 2, "looking for mail took as long as its sender");
		must(begin < deadline_ns, "a letter that does not come");
	}
	if (!rank)
		must(from == sender && text.len == LETTER && !memcmp(text.s, letter, LETTER), "a letter");
	barrier();
	free(letter);
}

static bool hangs;

/* In place of the library's. */
int MPI_Finalize(void)
{
	while (hangs)
		pause();
	return PMPI_Finalize();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(void);
	} meetings[] = {{"gather of 8 bytes", gather}, {"barrier", barrier}, {"broadcast of 800 kB", bcast},
			{"sum of 100000 numbers", sum}, {"three small ones to all", all}, {"clocks", clocks}};
	struct error err = {0};
	if (comm_open(&comm, &err)) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	if (argc > 1) {
		hangs = true;
		comm_close(comm, atoi(argv[1]));
		return 1;
	}
	deadline_ns = clock_mono_ns() + 120 * NS_PER_S;
	for (size_t i = 0; i < ARRAY_LEN(meetings); i++) {
		barrier();
		uint64_t begin = clock_mono_ns();
		for (int k = 0; k < ROUNDS; k++)
			meetings[i].fn();
		if (!comm_rank(comm))
			printf("%-24s %8.0f us, %d ranks\n", meetings[i].name,
			       (double)(clock_mono_ns() - begin) / 1e3 / ROUNDS, comm_size(comm));
	}
	mail();
	fflush(stdout);
	comm_close(comm, 0);
	return 0;
}
