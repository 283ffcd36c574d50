// SPDX-License-Identifier: Apache-2.0
/* What mlpstorage can be told to do. Help, manual page and completion follow from these tables. */
#include "cmd/cmd.h"

const struct cmd_program cmd_programs[] = {
	{"kvcache", "serve the KV cache of a language model from memory and storage"},
	{"history", "what was run, and the same again"},
	{0},
};

const struct cmd_command cmd_commands[] = {
	{"kvcache", "run", "measure how this machine's storage serves KV-cache traffic",
	 CMD_GROUP_ENGINE | CMD_GROUP_PROGRAM | CMD_GROUP_DISTRIBUTED | CMD_GROUP_CLUSTER | CMD_GROUP_UNIVERSAL |
		 CMD_GROUP_EVERY,
	 cmd_kvcache_check, cmd_kvcache_run},
	{"kvcache", "datasize", "tell how much memory and storage a workload takes",
	 CMD_GROUP_SIZE | CMD_GROUP_UNIVERSAL | CMD_GROUP_EVERY, cmd_kvcache_check,
	 cmd_kvcache_datasize},
	{"history", "list", "show the runs below the results directory, newest first",
	 CMD_GROUP_LIST | CMD_GROUP_EVERY, cmd_history_check, cmd_history_list},
	{"history", "show", "show command lines; with an ID everything that is known of that run",
	 CMD_GROUP_SHOW | CMD_GROUP_EVERY, cmd_history_check, cmd_history_show, "[ID]"},
	{"history", "rerun", "run the recorded command line again, in a new run directory",
	 CMD_GROUP_RERUN | CMD_GROUP_EVERY, cmd_history_rerun_check, cmd_history_rerun, "ID"},
	{0},
};
