/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd/validate.h - can this machine do the run that is asked for? Everything that is wrong is told at once, with a way to
 * solve it, before anything is created.
 *
 * Receives: an invocation, findings of others.  Gives: numbered messages, an exit code.
 * Must not know: how the run is started.
 *
 * In what-if nothing is started, so that nothing is needed: what would be an error is a warning.
 */
#pragma once

#include "cmd/cmd.h"

/** Findings so far. Zero-initialise but for inv; cmd_validation_release() after. */
struct cmd_validation {
	const struct cmd_invocation *inv;
	struct problems errors;
	struct problems warnings;
	int rc; /* 0, or -ENOMEM from then on */
};

/** cmd_validation_error() - something the run cannot do without. An empty hint gets the package to install, where one helps. */
void cmd_validation_error(struct cmd_validation *v, const struct error *err);
/** cmd_validation_warn() - something to know. */
void cmd_validation_warn(struct cmd_validation *v, const struct error *err);

/**
 * cmd_validation_hosts() - can the other machines of a distributed run be reached? All are tried at once, 10 s at most
 * each. In what-if nobody is contacted. (validate_hosts.c)
 */
void cmd_validation_hosts(struct cmd_validation *v);

/** cmd_validation_local() - is there room on this machine: memory, space, places for files? Ranks elsewhere see to that themselves. */
void cmd_validation_local(struct cmd_validation *v);

/**
 * cmd_validation_lockfile() - are the versions those of --verify-lockfile, where it is given? (lockfile.c)
 * @engine: NULL: none is needed, or it was not found
 */
void cmd_validation_lockfile(struct cmd_validation *v, const struct launch_program *engine);

/**
 * cmd_validation_report() - tell what was found
 * Return: EXIT_OK, or the exit code of the first error.
 */
int cmd_validation_report(const struct cmd_validation *v);
void cmd_validation_release(struct cmd_validation *v);

/**
 * cmd_install_hint() - what to type on this distribution to get what @code says is missing
 * @os_release: text of /etc/os-release
 * @ret: "install it: apt-get install openmpi-bin"; stays empty for what is no package
 */
void cmd_install_hint(enum err_code code, const char *os_release, struct str *ret);
