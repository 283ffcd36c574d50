// SPDX-License-Identifier: Apache-2.0
/* Programs side by side: output, time limits, failures to start, signals. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/clock.h"
#include "launch/capture.h"

static struct launch_capture job(const char *script, int64_t limit_ms)
{
	struct launch_capture c = {.limit_ms = limit_ms};
	assert_int_equal(strlist_add(&c.argv, "sh"), 0);
	assert_int_equal(strlist_add(&c.argv, "-c"), 0);
	assert_int_equal(strlist_add(&c.argv, script), 0);
	return c;
}

static void release(struct launch_capture *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		launch_capture_release(&list[i]);
}

static void test_output_and_status(void **state)
{
	(void)state;
	struct launch_capture c[] = {job("echo out; echo err >&2", 20000), job("exit 7", 20000),
				     job("kill -9 $$", 20000)};
	launch_capture(c, ARRAY_LEN(c), 10);
	assert_int_equal(c[0].rc, 0);
	assert_int_equal(c[0].exit_status, 0);
	assert_string_equal(str_text(&c[0].out), "out\n");
	assert_string_equal(str_text(&c[0].err), "err\n");
	assert_int_equal(c[1].rc, 0);
	assert_int_equal(c[1].exit_status, 7);
	assert_int_equal(c[2].exit_status, 128 + SIGKILL);
	release(c, ARRAY_LEN(c));
}

/* More output than a pipe holds, on both streams. */
static void test_large_output(void **state)
{
	(void)state;
	struct launch_capture c =
		job("head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2", 60000);
	launch_capture(&c, 1, 1);
	assert_int_equal(c.rc, 0);
	assert_int_equal(c.out.len, 3000000);
	assert_int_equal(c.err.len, 2000000);
	release(&c, 1);
}

static void test_more_than_is_kept(void **state)
{
	(void)state;
	struct launch_capture c = job("cat /dev/zero", 60000);
	launch_capture(&c, 1, 1);
	assert_int_equal(c.rc, -EFBIG);
	release(&c, 1);
}

static void test_time_limit(void **state)
{
	(void)state;
	struct launch_capture c[] = {job("exec sleep 1000", 200), job("echo done", 20000)};
	launch_capture(c, ARRAY_LEN(c), 10);
	assert_int_equal(c[0].rc, -ETIMEDOUT);
	assert_int_equal(c[1].rc, 0);
	assert_string_equal(str_text(&c[1].out), "done\n");
	release(c, ARRAY_LEN(c));
}

/* Something left behind that holds the pipes is not waited for, and does not stay. */
static void test_left_behind(void **state)
{
	(void)state;
	struct launch_capture c = job("sleep 1000 & echo $!", 20000);
	launch_capture(&c, 1, 1);
	assert_int_equal(c.rc, 0);
	pid_t left = atoi(str_text(&c.out));
	assert_true(left > 1);
	/* killed, and then taken by whoever is the father of orphans */
	for (int i = 0; i < 500 && !kill(left, 0); i++) {
		char path[64], state_line[256] = "";
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)left);
		FILE *f = fopen(path, "r");
		if (!f || !fgets(state_line, sizeof(state_line), f) || strstr(state_line, ") Z ")) {
			if (f)
				fclose(f);
			release(&c, 1);
			return;
		}
		fclose(f);
		usleep(10000);
	}
	assert_int_not_equal(kill(left, 0), 0);
	release(&c, 1);
}

static void test_no_such_program(void **state)
{
	(void)state;
	struct launch_capture c[2] = {{.limit_ms = 1000}, job("echo x", 20000)};
	assert_int_equal(strlist_add(&c[0].argv, "/no/such/program"), 0);
	launch_capture(c, 2, 1);
	assert_int_equal(c[0].rc, -ENOENT);
	assert_int_equal(c[1].rc, 0);
	release(c, 2);
	launch_capture(NULL, 0, 10);
}

/* At most so many at once: each holds a file while it runs and counts those of the others. */
static void test_parallel(void **state)
{
	(void)state;
	char dir[] = "/tmp/test_capture.XXXXXX";
	assert_non_null(mkdtemp(dir));
	CLEANUP_FREE char *script = NULL;
	assert_true(asprintf(&script, "mkdir %s/$$; ls %s | wc -l; sleep 0.05; rmdir %s/$$", dir,
			     dir, dir) > 0);
	struct launch_capture c[9];
	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		c[i] = job(script, 60000);
	launch_capture(c, ARRAY_LEN(c), 3);
	for (size_t i = 0; i < ARRAY_LEN(c); i++) {
		assert_int_equal(c[i].rc, 0);
		assert_in_range(atoi(str_text(&c[i].out)), 1, 3);
	}
	release(c, ARRAY_LEN(c));
	assert_int_equal(rmdir(dir), 0);
}

/* A signal ends all of them at once, and takes its effect afterwards. */
static void test_signal(void **state)
{
	(void)state;
	pid_t child = fork();
	if (!child) {
		struct launch_capture c[] = {job("kill -TERM $PPID; exec sleep 1000", 600000),
					     job("exec sleep 1000", 600000),
					     job("echo never", 600000)};
		sigset_t term;
		sigemptyset(&term);
		sigaddset(&term, SIGTERM);
		sigprocmask(SIG_BLOCK, &term, NULL);
		launch_capture(c, ARRAY_LEN(c), 2);
		bool all = c[0].rc == -EINTR && c[1].rc == -EINTR && c[2].rc == -EINTR;
		release(c, ARRAY_LEN(c));
		if (!all)
			_exit(1);
		sigprocmask(SIG_UNBLOCK, &term, NULL);
		_exit(2);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* The program gets stdin from /dev/null and signals as they should be. */
static void test_fresh_start(void **state)
{
	(void)state;
	sigset_t usr, old;
	sigemptyset(&usr);
	sigaddset(&usr, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr, &old);
	struct launch_capture c = job("cat; grep SigBlk /proc/self/status", 20000);
	launch_capture(&c, 1, 1);
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_string_equal(str_text(&c.out), "SigBlk:\t0000000000000000\n");
	release(&c, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_and_status), cmocka_unit_test(test_large_output),
		cmocka_unit_test(test_more_than_is_kept), cmocka_unit_test(test_time_limit),
		cmocka_unit_test(test_left_behind),       cmocka_unit_test(test_no_such_program),
		cmocka_unit_test(test_parallel),          cmocka_unit_test(test_signal),
		cmocka_unit_test(test_fresh_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
