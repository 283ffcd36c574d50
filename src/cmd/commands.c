// SPDX-License-Identifier: Apache-2.0
/* What mlpstorage can be told to do. Help, manual page and completion follow from these tables. */
#include "cmd/cmd.h"

const struct cmd_program cmd_programs[] = {
	{"kvcache", "serve the KV cache of a language model from memory and storage"},
	{0},
};

const struct cmd_command cmd_commands[] = {
	{"kvcache", "run", "measure how this machine's storage serves KV-cache traffic",
	 CMD_GROUP_ENGINE | CMD_GROUP_PROGRAM | CMD_GROUP_CLUSTER | CMD_GROUP_UNIVERSAL, cmd_kvcache_check,
	 cmd_kvcache_run},
	{"kvcache", "datasize", "tell how much memory and storage a workload takes",
	 CMD_GROUP_SIZE | CMD_GROUP_UNIVERSAL, cmd_kvcache_check, cmd_kvcache_datasize},
	{0},
};
