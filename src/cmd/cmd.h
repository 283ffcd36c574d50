/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd/cmd.h - one invocation of mlpstorage: which command, with which options, and how it talks.
 *
 * Receives: the argument vector.  Gives: exit codes, lines on the terminal.
 * Must not know: how the engine works.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "config/config.h"
#include "config/opt.h"
#include "launch/job.h"
#include "launch/launch.h"
#include "record/record.h"

enum cmd_color { CMD_COLOR_AUTO, CMD_COLOR_ALWAYS, CMD_COLOR_NEVER };

/** Options that every benchmark, or every command, has. */
struct cmd_universal {
	char *results_dir;
	int64_t loops;
	char *config_file;
	bool what_if;
	bool skip_validation;
	char *verify_lockfile; /* NULL: none */
	bool open, closed;
	bool allow_invalid;
	bool quiet;
	bool verbose;
	bool debug;
	int stream_log_level; /* index into the names of the option's row */
	int color;            /* enum cmd_color */
};

/** Options of kvcache that are not the engine's. */
struct cmd_kvcache {
	char *bin_path;
};

/** How the machines of a run are asked what they are. */
struct cmd_cluster {
	bool skip;
	char *ssh_username; /* NULL: ssh's own choice */
	int64_t timeout_s;
	bool skip_series;
	double interval_s;   /* of the time series */
	int64_t samples_max; /* of each host */
};

/** Options of a run on several hosts. Choices are indexes into the names of their rows. */
struct cmd_distributed {
	struct strlist hosts;
	int exec_type; /* enum cmd_exec */
	int64_t num_processes, npernode; /* 0: not given */
	int64_t stop_timeout_s;
	int mpi_bin;
	int mpi_btl; /* enum launch_btl */
	bool oversubscribe;
	bool allow_run_as_root;
	struct strlist mpi_params;
};

enum cmd_exec { CMD_EXEC_MPI, CMD_EXEC_LOCAL, CMD_EXEC_DOCKER };

/** What the options of distribution come to. See distributed.c. */
struct cmd_job {
	bool is_distributed; /* a launcher starts the ranks; else all but @hosts is empty */
	struct launch_hosts hosts;
	struct launch_layout layout;
	const char *launcher;
	enum launch_mpi mpi;
	struct launch_program engine; /* what it starts for each rank */
};

/** Options of history. */
struct cmd_history {
	int64_t limit; /* 0 or less: all */
	int64_t id;    /* 0: none */
	bool json;
	char *benchmark, *model, *command, *since;
	int status; /* index into cmd_history_statuses; 0: any */
	int64_t word_id;
};

extern const char *const cmd_history_statuses[];

/** Sets of options; a command names the ones it takes. */
enum cmd_group {
	CMD_GROUP_ENGINE = 1 << 0, /* every option of kv-cache */
	CMD_GROUP_SIZE = 1 << 1,   /* those of kv-cache that say how large things are */
	CMD_GROUP_PROGRAM = 1 << 2,
	CMD_GROUP_UNIVERSAL = 1 << 3, /* every benchmark */
	CMD_GROUP_CLUSTER = 1 << 4,
	CMD_GROUP_LIST = 1 << 5,
	CMD_GROUP_SHOW = 1 << 6,
	CMD_GROUP_RERUN = 1 << 7,
	CMD_GROUP_EVERY = 1 << 8, /* every command */
	CMD_GROUP_DISTRIBUTED = 1 << 9, /* several hosts */
};

enum { CMD_GROUPS_MAX = 8 };

struct cmd_invocation;

/** A benchmark, or another word that commands stand behind. */
struct cmd_program {
	const char *name;
	const char *help;
};

/** A row of the table of commands. */
struct cmd_command {
	const char *program; /* "kvcache" */
	const char *name;    /* "run" */
	const char *help;
	unsigned groups; /* enum cmd_group */
	/** What more than one option decides, added to @problems. Return: 0 or -ENOMEM. */
	int (*check)(struct cmd_invocation *inv, struct problems *problems);
	/**
	 * Do it once. Messages are written where they arise.
	 * Return: the program's exit code.
	 */
	int (*run)(struct cmd_invocation *inv);
	const char *word; /* name of a word it takes beside its options, "ID"; NULL: none */
};

/* commands.c; both end with a row without a name */
extern const struct cmd_program cmd_programs[];
extern const struct cmd_command cmd_commands[];

/** What the rules say of the parameters. See division.c. */
struct cmd_division {
	const char *asked;     /* "open", "closed"; NULL: neither */
	const char *verdict;   /* "CLOSED", "OPEN", "INVALID"; NULL: not judged */
	struct strlist issues; /* why it is no better */
};

struct cmd_invocation {
	const struct cmd_command *command;
	const char *command_line;    /* as typed, shell-quoted */
	char *const *argv;           /* as typed */
	struct opt_group engine_all; /* every row, whatever the command takes: holds the defaults */
	struct opt_group engine;     /* the rows that the command takes; target: &config.opt */
	struct opt_group groups[CMD_GROUPS_MAX];
	struct opt_set set; /* of groups */
	struct cmd_universal universal;
	struct cmd_kvcache kvcache;
	struct cmd_cluster cluster;
	struct cmd_distributed distributed;
	struct cmd_job job;
	struct cmd_history history;
	char *word; /* what was typed for command->word, NULL when nothing was */
	struct cmd_division division;
	struct config config;
};

/* options.c */

/**
 * cmd_options_init() - the command's option groups with their defaults
 * Return: 0 or -ENOMEM. cmd_options_release() after, in any case; @inv must be zeroed but for
 * command.
 */
int cmd_options_init(struct cmd_invocation *inv);
void cmd_options_release(struct cmd_invocation *inv);

/**
 * cmd_options_parse() - typed options, then the weaker layers under them
 * @help: [out] true: help was asked for, nothing else matters
 * Return: 0 (look at @problems->count) or -ENOMEM.
 */
int cmd_options_parse(struct cmd_invocation *inv, int argc, char *const *argv,
		      struct problems *problems, bool *help);

/** What a long option name is to the command of an invocation. */
enum cmd_name {
	CMD_NAME_OURS,
	CMD_NAME_REFUSED,   /* not in this version */
	CMD_NAME_ELSEWHERE, /* of another command */
	CMD_NAME_UNKNOWN,
};
enum cmd_name cmd_options_lookup(const struct cmd_invocation *inv, const char *name);

/* layers.c */

/**
 * cmd_layers_apply() - give what was not typed the value of the strongest weaker layer: the
 * --config-file, the environment (MLPSTORAGE_NUM_USERS), the person's own configuration
 * ($XDG_CONFIG_HOME/mlpstorage/config.yaml, options that say where and not what is run)
 * Every value is checked, also one that a stronger layer hides.
 * Return: 0 (look at @problems->count) or -ENOMEM.
 */
int cmd_layers_apply(struct cmd_invocation *inv, struct problems *problems);
/** cmd_layers_log() - which values are not the defaults, and where each comes from; with debug, all. */
void cmd_layers_log(const struct cmd_invocation *inv);

/* division.c */

/**
 * cmd_division_check() - may this run be what --open or --closed says it is meant for?
 * Fills inv->division. Without either option nothing is judged. Return: 0 (look at @problems->count) or -ENOMEM.
 */
int cmd_division_check(struct cmd_invocation *inv, struct problems *problems);

/* options.c */

/** cmd_log_init() - log threshold and colour as the universal options ask; NULL: their defaults. */
void cmd_log_init(const struct cmd_universal *u);

/** cmd_is_refused() - is this the name of a command that exists elsewhere but not in this version?
 */
bool cmd_is_refused(const char *name);

/* distributed.c */

struct cmd_validation;

/**
 * cmd_job_check() - hosts and layout of @inv into @inv->job
 * Return: 0 (look at @problems->count) or -ENOMEM.
 */
int cmd_job_check(struct cmd_invocation *inv, struct problems *problems);
void cmd_job_release(struct cmd_job *job);

/**
 * cmd_job_find() - the launcher and what it starts; notices of options that have no effect in this run
 * @v:      [in,out] what is missing
 * @engine: the one of a local run
 * Return: 0 or -ENOMEM.
 */
int cmd_job_find(struct cmd_validation *v, struct cmd_invocation *inv, const struct launch_program *engine);

/** cmd_job_prefix() - launcher and rank engine, the beginning of @argv. Return: 0 or -ENOMEM. */
int cmd_job_prefix(struct cmd_invocation *inv, const struct launch_program *engine, struct strlist *argv);

/** cmd_job_record() - num_processes, exec_type and hosts of the metadata. */
void cmd_job_record(const struct cmd_invocation *inv, struct record *r);

/* report.c */

/** cmd_log_error() - one error as a log line with its suggestion. @lead: stands before it, as in "2. ". */
void cmd_log_error(enum log_level level, const char *lead, const struct error *err);
/** cmd_report() - the same at level ERROR. Return: its exit code. */
int cmd_report(const struct error *err);
/** cmd_report_all() - several. Return: the exit code of the first. */
int cmd_report_all(const struct problems *problems);
/** cmd_report_memory() - there is none left. Return: its exit code. */
int cmd_report_memory(void);
/** cmd_report_stdout() - what was printed and did not arrive is an error. Return: @code, or that error's where it was EXIT_OK. */
int cmd_report_stdout(int code);
/** cmd_is_terminal() - can a line be drawn again on standard error? */
bool cmd_is_terminal(void);
/** cmd_stage() - what goes on now: on a terminal a line that the next one replaces, else "Stage 2/4: text...". */
void cmd_stage(unsigned stage, unsigned count, const char *text);
/** cmd_stage_engine() - the same; from now on the engine draws the line. */
void cmd_stage_engine(unsigned stage, unsigned count, const char *text);
/** cmd_stage_end() - there is no line any more. */
void cmd_stage_end(void);

/* run_record.c */

/** cmd_record_open() - the run directory of this invocation, with the options echoed. As
 * record_open(). */
int cmd_record_open(const struct cmd_invocation *inv, const char *benchmark, const char *model,
		    struct record **ret, struct error *err);

/**
 * cmd_record_write() - as record_write(), errors reported; with --verbose a final text also goes to
 * standard output
 * @code: the exit code so far; -1 while it runs
 * Return: @code, or the exit code of the failure where @code was EXIT_OK or -1 (then -1 stands for
 * "written").
 */
int cmd_record_write(const struct cmd_invocation *inv, struct record *r, enum record_status status,
		     int code, double runtime_s);

/* kvcache.c: what its two commands share */

int cmd_kvcache_check(struct cmd_invocation *inv, struct problems *problems);
/**
 * cmd_kvcache_record() - open the record of either command with what kvcache adds to the metadata
 * @ret_cache_dir: [out] effective cache directory: the user's, else <run dir>/kvcache_data (free())
 * Return: EXIT_OK, or reported and a code. record_free() after.
 */
int cmd_kvcache_record(struct cmd_invocation *inv, struct record **ret, char **ret_cache_dir);

int cmd_kvcache_run(struct cmd_invocation *inv);
int cmd_kvcache_datasize(struct cmd_invocation *inv);

/* history.c */

int cmd_history_check(struct cmd_invocation *inv, struct problems *problems);
int cmd_history_rerun_check(struct cmd_invocation *inv, struct problems *problems);
int cmd_history_list(struct cmd_invocation *inv);
int cmd_history_show(struct cmd_invocation *inv);
/** cmd_history_rerun() - becomes the recorded command line; returns only when that was not possible. */
int cmd_history_rerun(struct cmd_invocation *inv);
