/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch/job.h - several ranks on several hosts: the list of hosts, how many ranks each gets, and the
 * MPI launcher's part of the command line.
 *
 * Receives: what the user typed.  Gives: argument vectors, or every reason why there is none.
 * Must not know: what the ranks do, how the launcher's process is run.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum { LAUNCH_SLOTS_MAX = 65536, LAUNCH_RANKS_MAX = 1048576 };

/** One entry of a list of hosts. */
struct launch_host {
	char *name;
	int64_t slots; /* ranks it may take; 0: not said */
};

/** Zero-initialise; launch_hosts_release() after. */
struct launch_hosts {
	struct launch_host *list; /* in the order in which they were named */
	size_t count;
	size_t distinct; /* names */
	bool has_slots;  /* all entries say them */
};

/**
 * launch_hosts_parse() - "host" or "host:slots", separated by commas, blanks or as words
 * @problems: [in,out] every entry that is neither, and entries with slots beside entries without
 * Return: 0 (look at @problems->count) or -ENOMEM.
 */
int launch_hosts_parse(const struct strlist *words, struct launch_hosts *ret,
		       struct problems *problems);
void launch_hosts_release(struct launch_hosts *hosts);

/** launch_host_is_local() - does the name mean this machine whatever its resolver says? */
bool launch_host_is_local(const char *name);

/** How many ranks there are and where. launch_layout_release() after. */
struct launch_layout {
	int64_t ranks;
	int64_t npernode;       /* ranks of each entry, where that was asked for; else 0 */
	struct strlist entries; /* "host:slots" */
	size_t distinct;
};

/**
 * launch_layout_make() - give each host its ranks
 * @ranks:    asked for; 0: @npernode for each entry, or one each
 * @npernode: asked for; 0: not
 * Slots that were typed stay as they are and must hold all ranks; else they are computed, and what does
 * not divide goes to the first hosts (7 on 3: 3, 2, 2). Every entry gets at least one rank.
 * Return: 0 (look at @problems->count) or -ENOMEM.
 */
int launch_layout_make(const struct launch_hosts *hosts, int64_t ranks, int64_t npernode,
		       struct launch_layout *ret, struct problems *problems);
void launch_layout_release(struct launch_layout *layout);

/** Families of launchers by the options they take. */
enum launch_mpi {
	LAUNCH_MPI_OPEN,  /* Open MPI's mpirun: -host h:s --map-by ... */
	LAUNCH_MPI_HYDRA, /* MPICH's mpiexec: -hosts h:s -ppn ... */
};

/** launch_mpi_name() - "Open MPI", "MPICH (Hydra)". */
const char *launch_mpi_name(enum launch_mpi mpi);

/**
 * launch_mpi_parse() - whose launcher says this about its version?
 * Return: 0; -EINVAL: none of the two.
 */
int launch_mpi_parse(const char *version_text, enum launch_mpi *ret);

/**
 * launch_mpi_ask() - run "@launcher --version"
 * Return: 0; -ENOENT: it is not installed or does not start; -EINVAL: of another family; -ETIMEDOUT: no
 * answer within five seconds; each with ERR_MPI_MISSING. -ENOMEM.
 */
int launch_mpi_ask(const char *launcher, enum launch_mpi *ret, struct error *err);

/** Transport of messages on a single host, Open MPI's "btl". */
enum launch_btl { LAUNCH_BTL_AUTO, LAUNCH_BTL_VADER, LAUNCH_BTL_TCP };

/** What the launcher is told. Everything is borrowed. */
struct launch_job {
	const char *launcher; /* program name or path */
	enum launch_mpi mpi;
	const struct launch_layout *layout;
	enum launch_btl btl;
	bool oversubscribe;
	bool allow_run_as_root;
	const struct strlist *params; /* of the user, last, word for word */
};

/** A rank that ended before its time, as far as its launcher says. */
struct launch_death {
	int64_t rank; /* -1: not said */
	int64_t pid;  /* 0: not said */
	char host[256];
	int signal; /* 0: it ended by itself */
	int status; /* exit status then */
	bool is_doubtful; /* this launcher kills the others at once with this signal, and may name one of those */
};

/** launch_death_parse() - look for it in what the launcher printed. Return: false: there is none. */
bool launch_death_parse(enum launch_mpi mpi, const char *text, struct launch_death *ret);

/**
 * launch_prefix() - append the launcher and its options to @argv, to be followed by the ranks' program
 * Open MPI: L -n N -host h1:s1,h2:s2 [--npernode K] --bind-to none --map-by node|socket (each unless @params
 * say it) [--mca btl B,self] [--oversubscribe] [--allow-run-as-root] params...
 * Hydra: L -n N -hosts h1:s1,h2:s2 [-ppn K] -bind-to none (unless @params say it) params...
 * @notices: options that this launcher has no use for
 * Return: 0 or -ENOMEM.
 */
int launch_prefix(const struct launch_job *job, struct strlist *argv, struct strlist *notices);
