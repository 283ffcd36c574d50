// SPDX-License-Identifier: Apache-2.0
/* What to install where something is missing, in the words of the distribution that is running. */
#include <string.h>

#include "cmd/validate.h"

/* Package managers by the names that os-release gives; the first match counts. */
static const struct manager {
	const char *id;
	const char *install;
	const char *mpi;
	const char *ssh;
} managers[] = {
	{"debian", "apt-get install", "openmpi-bin", "openssh-client"},
	{"ubuntu", "apt-get install", "openmpi-bin", "openssh-client"},
	{"fedora", "dnf install", "openmpi", "openssh-clients"},
	{"rhel", "dnf install", "openmpi", "openssh-clients"},
	{"centos", "yum install", "openmpi", "openssh-clients"},
	{"suse", "zypper install", "openmpi4", "openssh-clients"},
	{"opensuse", "zypper install", "openmpi4", "openssh-clients"},
	{"arch", "pacman -S", "openmpi", "openssh"},
	{"alpine", "apk add", "openmpi", "openssh-client"},
};

static const struct manager *find_manager(const char *id, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(managers); i++)
		if (strlen(managers[i].id) == len && !memcmp(managers[i].id, id, len))
			return &managers[i];
	return NULL;
}

/* The first name of a "KEY=value" or KEY="several values" line that we know. */
static const struct manager *find_in_line(const char *text, const char *key)
{
	size_t key_len = strlen(key);
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		if (strncmp(line, key, key_len) != 0)
			continue;
		const char *end = line + strcspn(line, "\n");
		for (const char *p = line + key_len; p < end;) {
			size_t len = strcspn(p, "\"' \n");
			const struct manager *m = find_manager(p, len);
			if (m)
				return m;
			p += len ? len : 1;
		}
	}
	return NULL;
}

void cmd_install_hint(enum err_code code, const char *os_release, struct str *ret)
{
	if (code != ERR_MPI_MISSING && code != ERR_RUN_DEPENDENCY)
		return;
	bool is_mpi = code == ERR_MPI_MISSING;
	const struct manager *m = find_in_line(os_release, "ID=");
	if (!m)
		m = find_in_line(os_release, "ID_LIKE=");
	if (m)
		str_addf(ret, "install it: %s %s", m->install, is_mpi ? m->mpi : m->ssh);
	else
		str_addf(ret, "install %s with the package manager of this system",
			 is_mpi ? "Open MPI or MPICH" : "the client of OpenSSH");
}
