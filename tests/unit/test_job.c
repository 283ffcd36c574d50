// SPDX-License-Identifier: Apache-2.0
/* Hosts, layout and launcher prefix: pure functions over what was typed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "launch/job.h"

/* What was typed, as one row of a test. */
struct typed {
	const char *hosts;
	int64_t ranks, npernode;
	struct launch_job job; /* but for layout and params */
	const char *params;
};

/* The line for @t into @line; the first problem's text when there is none. */
static void make_line(const struct typed *t, struct str *line, struct strlist *notices)
{
	struct strlist words = {0}, params = {0}, argv = {0};
	struct launch_hosts hosts = {0};
	struct launch_layout layout = {0};
	struct problems problems = {0};
	assert_int_equal(strlist_add(&words, t->hosts), 0);
	assert_int_equal(strlist_add_shell(&params, t->params ? t->params : ""), 0);
	assert_int_equal(launch_hosts_parse(&words, &hosts, &problems), 0);
	if (!problems.count)
		assert_int_equal(launch_layout_make(&hosts, t->ranks, t->npernode, &layout, &problems), 0);
	if (!problems.count) {
		struct launch_job job = t->job;
		job.layout = &layout;
		job.params = &params;
		job.launcher = job.launcher ? job.launcher : "mpirun";
		assert_int_equal(launch_prefix(&job, &argv, notices), 0);
	}
	str_clear(line);
	for (size_t i = 0; i < argv.count; i++)
		str_addf(line, "%s%s", i ? " " : "", argv.v[i]);
	if (problems.count)
		str_add(line, problems.list[0].message);
	problems_release(&problems);
	launch_layout_release(&layout);
	launch_hosts_release(&hosts);
	strlist_release(&words);
	strlist_release(&params);
	strlist_release(&argv);
}

static void check(const struct typed *t, const char *expected)
{
	CLEANUP_STR struct str line = {0};
	struct strlist notices = {0};
	make_line(t, &line, &notices);
	assert_string_equal(str_text(&line), expected);
	assert_int_equal(notices.count, 0);
	strlist_release(&notices);
}

/* Its examples, one by one. */
static void the_reference_prefix(void **state)
{
	(void)state;
	check(&(struct typed){.hosts = "h1,h2", .ranks = 8},
	      "mpirun -n 8 -host h1:4,h2:4 --bind-to none --map-by node");
	check(&(struct typed){.hosts = "h1 h2 h3", .ranks = 7},
	      "mpirun -n 7 -host h1:3,h2:2,h3:2 --bind-to none --map-by node");
	check(&(struct typed){.hosts = "h1:2 h2:2", .ranks = 4},
	      "mpirun -n 4 -host h1:2,h2:2 --bind-to none --map-by node");
	check(&(struct typed){.hosts = "h1:2 h2:2", .ranks = 5},
	      "--hosts: 4 slots are not enough for 5 processes");
	check(&(struct typed){.hosts = "127.0.0.1", .ranks = 4},
	      "mpirun -n 4 -host 127.0.0.1:4 --bind-to none --map-by socket");
	check(&(struct typed){.hosts = "h1,h2,h3"},
	      "mpirun -n 3 -host h1:1,h2:1,h3:1 --bind-to none --map-by node");
}

static void options_of_the_launcher(void **state)
{
	(void)state;
	check(&(struct typed){.hosts = "h1", .ranks = 2, .job = {.oversubscribe = true, .allow_run_as_root = true},
			      .params = "-x 'A=b c' --tag-output"},
	      "mpirun -n 2 -host h1:2 --bind-to none --map-by socket --oversubscribe --allow-run-as-root "
	      "-x A=b c --tag-output");
	check(&(struct typed){.hosts = "h1", .job = {.btl = LAUNCH_BTL_VADER, .launcher = "mpiexec"}},
	      "mpiexec -n 1 -host h1:1 --bind-to none --map-by socket --mca btl vader,self");
	check(&(struct typed){.hosts = "h1", .job = {.btl = LAUNCH_BTL_TCP}},
	      "mpirun -n 1 -host h1:1 --bind-to none --map-by socket --mca btl tcp,self");
}

static void binding_and_mapping_of_the_user(void **state)
{
	(void)state;
	static const char *const said[] = {"--bind-to core", "-bind-to core", "--bind-to=core"};
	for (size_t i = 0; i < ARRAY_LEN(said); i++) {
		CLEANUP_STR struct str expected = {0};
		str_addf(&expected, "mpirun -n 1 -host h1:1 --map-by socket %s", said[i]);
		check(&(struct typed){.hosts = "h1", .params = said[i]}, str_text(&expected));
	}
	check(&(struct typed){.hosts = "h1", .params = "--map-by core"},
	      "mpirun -n 1 -host h1:1 --bind-to none --map-by core");
	check(&(struct typed){.hosts = "h1", .params = "--map-by-more bind-to"},
	      "mpirun -n 1 -host h1:1 --bind-to none --map-by socket --map-by-more bind-to");
}

static void npernode_stands_in_the_line_only_when_typed(void **state)
{
	(void)state;
	check(&(struct typed){.hosts = "h1,h2", .npernode = 3},
	      "mpirun -n 6 -host h1:3,h2:3 --npernode 3 --bind-to none --map-by node");
	check(&(struct typed){.hosts = "h1,h2", .ranks = 6, .npernode = 3},
	      "mpirun -n 6 -host h1:3,h2:3 --npernode 3 --bind-to none --map-by node");
	check(&(struct typed){.hosts = "h1,h2", .ranks = 2, .npernode = 1},
	      "mpirun -n 2 -host h1:1,h2:1 --npernode 1 --bind-to none --map-by node");
}

static void impossible_layouts(void **state)
{
	(void)state;
	check(&(struct typed){.hosts = "h1,h2", .ranks = 4, .npernode = 1},
	      "--npernode 1 on 2 hosts makes 2 processes, but --num-processes is 4");
	check(&(struct typed){.hosts = "h1,h2,h3", .ranks = 2},
	      "--num-processes 2: fewer than the 3 hosts, so that some would get none");
	check(&(struct typed){.hosts = "h1:4,h2:1", .npernode = 2},
	      "--hosts: h2 has 1 slots, but --npernode is 2");
}

static void one_machine_named_twice_is_one_host(void **state)
{
	(void)state;
	check(&(struct typed){.hosts = "h1 H1", .ranks = 3},
	      "mpirun -n 3 -host h1:2,H1:1 --bind-to none --map-by socket");
}

static void hydra_form(void **state)
{
	(void)state;
	const struct launch_job mpich = {.mpi = LAUNCH_MPI_HYDRA, .oversubscribe = true, .allow_run_as_root = true};
	check(&(struct typed){.hosts = "h1,h2", .ranks = 5, .job = mpich, .params = "-genv A b"},
	      "mpirun -n 5 -hosts h1:3,h2:2 -bind-to none -genv A b");
	check(&(struct typed){.hosts = "h1:8,h2:8", .npernode = 2, .job = mpich, .params = "-bind-to core"},
	      "mpirun -n 4 -hosts h1:8,h2:8 -ppn 2 -bind-to core");
}

static void what_a_launcher_cannot_do_is_said(void **state)
{
	(void)state;
	const struct typed rows[] = {
		{.hosts = "h1,h2", .job = {.btl = LAUNCH_BTL_TCP}},
		{.hosts = "h1", .job = {.btl = LAUNCH_BTL_TCP, .mpi = LAUNCH_MPI_HYDRA}},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_STR struct str line = {0};
		struct strlist notices = {0};
		make_line(&rows[i], &line, &notices);
		assert_null(strstr(str_text(&line), "btl"));
		assert_int_equal(notices.count, 1);
		assert_non_null(strstr(notices.v[0], "--mpi-btl"));
		strlist_release(&notices);
	}
}

static void bad_hosts(void **state)
{
	(void)state;
	static const struct {
		const char *hosts;
		const char *message;
	} rows[] = {
		{"h1:0", "--hosts: \"h1:0\": the number of slots must be 1..65536"},
		{"h1:", "--hosts: \"h1:\": the number of slots must be 1..65536"},
		{"h1:x", "--hosts: \"h1:x\": the number of slots must be 1..65536"},
		{"h1:-1", "--hosts: \"h1:-1\": the number of slots must be 1..65536"},
		{"h1:65537", "--hosts: \"h1:65537\": the number of slots must be 1..65536"},
		{":2", "--hosts: \":2\": not a host name, expected host or host:slots"},
		{"-h", "--hosts: \"-h\": not a host name, expected host or host:slots"},
		{"a..b", "--hosts: \"a..b\": not a host name, expected host or host:slots"},
		{"a.", "--hosts: \"a.\": not a host name, expected host or host:slots"},
		{"a;b", "--hosts: \"a;b\": not a host name, expected host or host:slots"},
		{"$(x)", "--hosts: \"$(x)\": not a host name, expected host or host:slots"},
		{"fe80::1", "--hosts: \"fe80::1\": expected host or host:slots; name an IPv6 host by its name"},
		{"[::1]:2", "--hosts: \"[::1]:2\": expected host or host:slots; name an IPv6 host by its name"},
		{"h1:2,h2", "--hosts: h2 has no number of slots, but others have: give all or none"},
		{", ,", "--hosts: no host is named"},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check(&(struct typed){.hosts = rows[i].hosts}, rows[i].message);
	char longest[255];
	memset(longest, 'a', sizeof(longest));
	longest[254] = '\0';
	CLEANUP_STR struct str message = {0};
	str_addf(&message, "--hosts: \"%s\": not a host name, expected host or host:slots", longest);
	check(&(struct typed){.hosts = longest}, str_text(&message));
}

static void every_bad_host_is_told(void **state)
{
	(void)state;
	struct strlist words = {0};
	struct launch_hosts hosts = {0};
	struct problems problems = {0};
	assert_int_equal(strlist_add_split(&words, "a:0 good b;c", " "), 0);
	assert_int_equal(launch_hosts_parse(&words, &hosts, &problems), 0);
	assert_int_equal(problems.count, 2);
	launch_hosts_release(&hosts);
	problems_release(&problems);
	strlist_release(&words);
}

static void whose_launcher_it_is(void **state)
{
	(void)state;
	enum launch_mpi mpi;
	assert_int_equal(launch_mpi_parse("mpirun (Open MPI) 4.1.4\n\nReport bugs", &mpi), 0);
	assert_int_equal(mpi, LAUNCH_MPI_OPEN);
	assert_int_equal(launch_mpi_parse("mpiexec.openmpi (OpenRTE) 4.1.4\n", &mpi), 0);
	assert_int_equal(mpi, LAUNCH_MPI_OPEN);
	assert_int_equal(launch_mpi_parse("HYDRA build details:\n    Version: 4.0.2\n", &mpi), 0);
	assert_int_equal(mpi, LAUNCH_MPI_HYDRA);
	assert_int_equal(launch_mpi_parse("mpiexec version 1.2 of PALS", &mpi), -EINVAL);
}

static void expect_death(enum launch_mpi mpi, const char *text, const struct launch_death *want)
{
	struct launch_death d;
	assert_true(launch_death_parse(mpi, text, &d));
	assert_int_equal(d.rank, want->rank);
	assert_int_equal(d.pid, want->pid);
	assert_string_equal(d.host, want->host);
	assert_int_equal(d.signal, want->signal);
	assert_int_equal(d.status, want->status);
	assert_int_equal(d.is_doubtful, want->is_doubtful);
}

/* In the words of Open MPI 4.1 and of Hydra 4.0. */
static void which_rank_died(void **state)
{
	(void)state;
	struct launch_death d;
	expect_death(LAUNCH_MPI_OPEN,
		     "x\nmpirun.openmpi noticed that process rank 3 with PID 0 on node h-2.example exited on signal 9 (Killed).\n",
		     &(struct launch_death){.rank = 3, .host = "h-2.example", .signal = 9});
	expect_death(LAUNCH_MPI_OPEN, "  Process name: [[857,1],12]\n  Exit code:    8\n",
		     &(struct launch_death){.rank = 12, .status = 8});
	expect_death(LAUNCH_MPI_HYDRA,
		     "=   PID 25969 RUNNING AT vm\n=   EXIT CODE: 9\n"
		     "YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)\n",
		     &(struct launch_death){.rank = -1, .pid = 25969, .host = "vm", .signal = 9, .status = 9, .is_doubtful = true});
	expect_death(LAUNCH_MPI_HYDRA, "=   PID 7 RUNNING AT h\n=   EXIT CODE: 3\n",
		     &(struct launch_death){.rank = -1, .pid = 7, .host = "h", .status = 3});
	assert_false(launch_death_parse(LAUNCH_MPI_OPEN, "process rank of nothing", &d));
	assert_false(launch_death_parse(LAUNCH_MPI_HYDRA, "", &d));
}

/* A launcher that is asked: an answer, another's answer, none at all. */
static void a_launcher_is_asked(void **state)
{
	(void)state;
	char dir[] = "/tmp/test_job.XXXXXX";
	assert_non_null(mkdtemp(dir));
	static const struct {
		const char *script;
		int rc;
	} rows[] = {
		{"#!/bin/sh\n[ \"$1\" = --version ] && echo 'HYDRA build details:'\n", 0},
		{"#!/bin/sh\necho 'HYDRA build'; exit 3\n", 0},
		{"#!/bin/sh\necho HYDRA >&2\n", 0},
		{"#!/bin/sh\necho 'PALS 1.0'\n", -EINVAL},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *path = path_join(dir, "launcher");
		enum launch_mpi mpi = LAUNCH_MPI_OPEN;
		struct error err = {0};
		assert_int_equal(file_write_atomic(path, rows[i].script, strlen(rows[i].script)), 0);
		assert_int_equal(chmod(path, 0755), 0);
		assert_int_equal(launch_mpi_ask(path, &mpi, &err), rows[i].rc);
		if (!rows[i].rc)
			assert_int_equal(mpi, LAUNCH_MPI_HYDRA);
		else
			assert_int_equal(err.code, ERR_MPI_MISSING);
		assert_int_equal(launch_mpi_ask("/nonexistent/mpirun", &mpi, &err), -ENOENT);
		unlink(path);
	}
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reference_prefix),
		cmocka_unit_test(options_of_the_launcher),
		cmocka_unit_test(binding_and_mapping_of_the_user),
		cmocka_unit_test(npernode_stands_in_the_line_only_when_typed),
		cmocka_unit_test(impossible_layouts),
		cmocka_unit_test(one_machine_named_twice_is_one_host),
		cmocka_unit_test(hydra_form),
		cmocka_unit_test(what_a_launcher_cannot_do_is_said),
		cmocka_unit_test(bad_hosts),
		cmocka_unit_test(every_bad_host_is_told),
		cmocka_unit_test(whose_launcher_it_is),
		cmocka_unit_test(which_rank_died),
		cmocka_unit_test(a_launcher_is_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
