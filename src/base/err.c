// SPDX-License-Identifier: Apache-2.0
/* Error records: fixed-size text that grows a prefix on its way up. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int rc, enum err_code code, const char *fmt, ...)
{
	if (!err)
		return rc;
	va_list ap;
	va_start(ap, fmt);
	err->code = code;
	err->hint[0] = '\0';
	vsnprintf(err->message, sizeof(err->message), fmt, ap);
	va_end(ap);
	return rc;
}

void error_hint(struct error *err, const char *fmt, ...)
{
	if (!err)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
}

void error_prefix(struct error *err, const char *fmt, ...)
{
	if (!err)
		return;
	char prefix[sizeof(err->message)];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	size_t room = sizeof(err->message) - 1;
	size_t lead = strlen(prefix);
	if (lead + 2 > room)
		return;
	size_t keep = strnlen(err->message, room - lead - 2);
	memmove(err->message + lead + 2, err->message, keep);
	memcpy(err->message, prefix, lead);
	memcpy(err->message + lead, ": ", 2);
	err->message[lead + 2 + keep] = '\0';
}

int problems_add_error(struct problems *p, const struct error *err)
{
	struct error *list = reallocarray(p->list, p->count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	p->list = list;
	p->list[p->count++] = *err;
	return 0;
}

int problems_add(struct problems *p, enum err_code code, const char *fmt, ...)
{
	struct error err = {.code = code};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err.message, sizeof(err.message), fmt, ap);
	va_end(ap);
	return problems_add_error(p, &err);
}

void problems_release(struct problems *p)
{
	free(p->list);
	*p = (struct problems){0};
}

enum err_code err_fs_code(int rc)
{
	switch (rc) {
	case -ENOENT:
		return ERR_FS_NOT_FOUND;
	case -ENOSPC:
	case -EDQUOT:
		return ERR_FS_FULL;
	case -ENOTDIR:
	case -EISDIR:
	case -EEXIST:
		return ERR_FS_STRUCTURE;
	default:
		return ERR_FS_PERMISSION;
	}
}

int err_exit_code(enum err_code code)
{
	if (code == ERR_NONE)
		return EXIT_OK;
	if (code == ERR_RUN_INTERRUPTED)
		return EXIT_INTERRUPTED;
	if (code < 200 || code == ERR_UNSUPPORTED)
		return EXIT_USAGE;
	if (code >= 300 && code < 400)
		return EXIT_NOT_VALID;
	if (code >= 400 && code < 500)
		return EXIT_ENVIRONMENT;
	return EXIT_RUN_FAILED;
}
