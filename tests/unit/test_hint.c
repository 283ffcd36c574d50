// SPDX-License-Identifier: Apache-2.0
/* What to install, on which distribution. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cmd/validate.h"

static void expect(enum err_code code, const char *os_release, const char *hint)
{
	CLEANUP_STR struct str text = {0};
	cmd_install_hint(code, os_release, &text);
	assert_string_equal(str_text(&text), hint);
}

static void test_distributions(void **state)
{
	(void)state;
	expect(ERR_MPI_MISSING, "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n",
	       "install it: apt-get install openmpi-bin");
	expect(ERR_RUN_DEPENDENCY, "ID=ubuntu\nID_LIKE=debian\n", "install it: apt-get install openssh-client");
	expect(ERR_MPI_MISSING, "ID=\"rhel\"\nID_LIKE=\"fedora\"\n", "install it: dnf install openmpi");
	expect(ERR_RUN_DEPENDENCY, "ID=\"centos\"\n", "install it: yum install openssh-clients");
	expect(ERR_MPI_MISSING, "ID=arch", "install it: pacman -S openmpi");
}

/* The most specific name wins; an unknown distribution goes by what it is like. */
static void test_derived(void **state)
{
	(void)state;
	expect(ERR_MPI_MISSING, "ID_LIKE=\"debian\"\nID=fedora\n", "install it: dnf install openmpi");
	expect(ERR_MPI_MISSING, "ID=rocky\nID_LIKE=\"rhel centos fedora\"\n", "install it: dnf install openmpi");
	expect(ERR_MPI_MISSING, "ID=mint\nID_LIKE='ubuntu debian'\n", "install it: apt-get install openmpi-bin");
}

static void test_unknown(void **state)
{
	(void)state;
	expect(ERR_MPI_MISSING, "", "install Open MPI or MPICH with the package manager of this system");
	expect(ERR_RUN_DEPENDENCY, "ID=plan9\nVARIANT_ID=debian\nNAME=\"ID=debian\"\n",
	       "install the client of OpenSSH with the package manager of this system");
	expect(ERR_FS_FULL, "ID=debian\n", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_distributions),
		cmocka_unit_test(test_derived),
		cmocka_unit_test(test_unknown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
