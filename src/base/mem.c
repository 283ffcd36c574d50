// SPDX-License-Identifier: Apache-2.0
/* Address space reserved early, memory taken as it is touched. */
#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
#endif

void *mem_reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

void mem_unreserve(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes ? bytes : 1);
}

int mem_populate(void *p, size_t bytes)
{
	/* Huge pages cut the page-table walks of long copies; a kernel without them just says no. */
	(void)madvise(p, bytes, MADV_HUGEPAGE);
	if (!madvise(p, bytes, MADV_POPULATE_WRITE))
		return 0;
	if (errno != EINVAL)
		return -ENOMEM;
	/* Kernels before 5.14: touch each page by hand. */
	for (size_t i = 0; i < bytes; i += 4096)
		((volatile char *)p)[i] = 0;
	return 0;
}
