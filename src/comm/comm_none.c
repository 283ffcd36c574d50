// SPDX-License-Identifier: Apache-2.0
/* One rank that always agrees with itself. */
#include "comm/comm.h"

struct comm {
	int rank;
};

int comm_open(struct comm **ret, struct error *err)
{
	struct comm *c = malloc(sizeof(*c));
	if (!c)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	*c = (struct comm){.rank = 0};
	*ret = c;
	return 0;
}

void comm_close(struct comm *c)
{
	free(c);
}

int comm_rank(const struct comm *c)
{
	return c->rank;
}

int comm_agree(struct comm *c, int rc)
{
	(void)c;
	return rc;
}
