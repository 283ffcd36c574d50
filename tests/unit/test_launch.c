// SPDX-License-Identifier: Apache-2.0
/* Finding the engine, and running children: small shell scripts that stand for it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "launch/erase.h"
#include "launch/launch.h"

static char root[64];

static int set_up(void **state)
{
	(void)state;
	signal(SIGINT, SIG_DFL); /* a job in the background may have it ignored */
	signal(SIGTERM, SIG_DFL);
	snprintf(root, sizeof(root), "/tmp/test_launch.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

/* A file below root, with directories. Freed by the caller. */
static char *put(const char *name, const char *text, mode_t mode)
{
	char *path = path_join(root, name);
	char *slash = strrchr(path, '/');
	*slash = '\0';
	assert_int_equal(dir_make(path), 0);
	*slash = '/';
	assert_int_equal(file_write_atomic(path, text, strlen(text)), 0);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static char *read_back(const char *name)
{
	struct str text = {0};
	CLEANUP_FREE char *path = path_join(root, name);
	assert_int_equal(file_read(path, 64 << 20, &text), 0);
	str_add(&text, "");
	return str_take(&text);
}

/* Where the engine is. */

static void expect_engine(const char *self, const char *search, const char *name,
			  const char *origin)
{
	struct launch_program p = {0};
	struct error err = {0};
	CLEANUP_FREE char *self_dir = path_join(root, self);
	CLEANUP_FREE char *expected = path_join(root, name);
	assert_int_equal(launch_find_engine(NULL, self_dir, search, &p, &err), 0);
	assert_string_equal(p.path, expected);
	assert_string_equal(p.origin, origin);
	assert_int_equal(p.argv.count, 1);
	assert_string_equal(p.argv.v[0], expected);
	assert_true(p.is_ours);
	launch_program_release(&p);
}

static void test_find_order(void **state)
{
	(void)state;
	CLEANUP_STR struct str search = {0};
	str_addf(&search, "/nonexistent:%s/bin", root);
	free(put("cmd/mlpstorage", "", 0755));
	free(put("bin/kv-cache", "", 0755));
	expect_engine("cmd", str_text(&search), "bin/kv-cache", "PATH");
	free(put("engine/kv-cache", "", 0755));
	expect_engine("cmd", str_text(&search), "engine/kv-cache", "build tree");
	free(put("cmd/kv-cache", "", 0644)); /* may not be run: passed over */
	expect_engine("cmd", str_text(&search), "engine/kv-cache", "build tree");
	free(put("cmd/kv-cache", "", 0755));
	expect_engine("cmd", str_text(&search), "cmd/kv-cache", "beside mlpstorage");
}

static void test_find_nothing(void **state)
{
	(void)state;
	struct launch_program p = {0};
	struct error err = {0};
	assert_int_equal(launch_find_engine(NULL, root, NULL, &p, &err), -ENOENT);
	assert_int_equal(err.code, ERR_FS_NOT_FOUND);
	assert_int_equal(err_exit_code(err.code), EXIT_ENVIRONMENT);
	assert_non_null(strstr(err.hint, "--kvcache-bin-path"));
}

/* A named path is taken or refused, never replaced. */
static void test_find_given(void **state)
{
	(void)state;
	struct launch_program p = {0};
	struct error err = {0};
	CLEANUP_FREE char *beside = put("kv-cache", "", 0755);
	CLEANUP_FREE char *other = put("my engine", "", 0755);
	CLEANUP_FREE char *python = put("kv-cache.py", "", 0644);
	CLEANUP_FREE char *plain = put("plain", "", 0644);
	CLEANUP_FREE char *missing = path_join(root, "missing");
	assert_int_equal(launch_find_engine(other, root, root, &p, &err), 0);
	assert_string_equal(p.path, other);
	assert_false(p.is_ours);
	launch_program_release(&p);
	assert_int_equal(launch_find_engine(python, root, root, &p, &err), 0);
	assert_int_equal(p.argv.count, 2);
	assert_string_equal(p.argv.v[0], "python3");
	assert_string_equal(p.argv.v[1], python);
	assert_false(p.is_ours);
	launch_program_release(&p);
	assert_int_equal(launch_find_engine(missing, root, root, &p, &err), -ENOENT);
	assert_int_equal(err.code, ERR_FS_NOT_FOUND);
	assert_int_equal(launch_find_engine(root, root, root, &p, &err), -ENOENT);
	assert_int_equal(launch_find_engine(plain, root, root, &p, &err), -EACCES);
	assert_int_equal(err.code, ERR_FS_PERMISSION);
}

static void test_find_given_relative(void **state)
{
	(void)state;
	struct launch_program p = {0};
	struct error err = {0};
	CLEANUP_FREE char *engine = put("kv-cache", "", 0755);
	CLEANUP_FREE char *cwd = getcwd(NULL, 0);
	assert_int_equal(chdir(root), 0);
	assert_int_equal(launch_find_engine("kv-cache", "/nonexistent", NULL, &p, &err), 0);
	assert_int_equal(chdir(cwd), 0);
	assert_string_equal(p.path, engine);
	assert_true(p.is_ours);
	launch_program_release(&p);
}

/* The printed line, read by a shell, is the argument vector again. */
static void test_command_text(void **state)
{
	(void)state;
	struct strlist argv = {0};
	CLEANUP_STR struct str line = {0};
	CLEANUP_STR struct str command = {0};
	static const char *const words[] = {"printf",    "%s|", "plain", "a b", "it's",
					    "$HOME `x`", "",    "*",     "\"",  "a\nb"};
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		assert_int_equal(strlist_add(&argv, words[i]), 0);
	launch_command_text(&argv, &line);
	str_addf(&command, "%s > %s/words", str_text(&line), root);
	assert_int_equal(system(str_text(&command)), 0);
	CLEANUP_FREE char *back = read_back("words");
	assert_string_equal(back, "plain|a b|it's|$HOME `x`||*|\"|a\nb|");
	strlist_release(&argv);
}

/* Children. */

struct run {
	struct launch_result result;
	struct error err;
	int screen[2]; /* read ends of pipes that stand for the terminal; -1: none */
	const struct launch_job_control *job;
};

/* Run @script to its end, its output on two pipes (left open for reading) and in root/out and
 * root/err. */
static int run_script(const char *script, struct run *run)
{
	CLEANUP_FREE char *path = put("script", script, 0755);
	CLEANUP_FREE char *out = path_join(root, "out");
	CLEANUP_FREE char *err = path_join(root, "err");
	struct strlist argv = {0};
	assert_int_equal(strlist_add(&argv, "/bin/sh"), 0);
	assert_int_equal(strlist_add(&argv, path), 0);
	assert_int_equal(strlist_add(&argv, root), 0);
	struct launch_request request = {&argv, out, err, run->screen[0], run->screen[1], run->job};
	int rc = launch_run(&request, &run->result, &run->err);
	strlist_release(&argv);
	return rc;
}

static void test_exit_status(void **state)
{
	(void)state;
	struct run run = {.screen = {-1, -1}};
	assert_int_equal(run_script("exit 8", &run), 0);
	assert_int_equal(run.result.exit_status, 8);
	assert_int_equal(run.result.end_signal, 0);
	assert_int_equal(run.result.stop_signal, 0);
	assert_int_equal(run_script("kill -9 $$", &run), 0);
	assert_int_equal(run.result.exit_status, -1);
	assert_int_equal(run.result.end_signal, SIGKILL);
	assert_int_equal(run.result.stop_signal, 0);
}

static void test_no_such_program(void **state)
{
	(void)state;
	struct strlist argv = {0};
	struct launch_result result;
	struct error err = {0};
	CLEANUP_FREE char *out = path_join(root, "out");
	assert_int_equal(strlist_add(&argv, "/nonexistent/program"), 0);
	struct launch_request request = {&argv, out, out, -1, -1};
	assert_int_equal(launch_run(&request, &result, &err), -ENOENT);
	assert_int_equal(err.code, ERR_RUN_DEPENDENCY);
	assert_non_null(strstr(err.message, "/nonexistent/program"));
	request.stdout_path = "/nonexistent/log";
	assert_int_equal(launch_run(&request, &result, &err), -ENOENT);
	assert_int_equal(err.code, ERR_FS_NOT_FOUND);
	strlist_release(&argv);
}

/* Nothing on stdin, a process group of its own, no signal blocked, SIGPIPE not ignored.
 */
static void test_surroundings(void **state)
{
	(void)state;
	struct run run = {.screen = {-1, -1}};
	sigset_t old;
	launch_signals_hold(&old);
	assert_int_equal(
		run_script("read line && exit 1\n"
			   "set -- $(cat /proc/$$/stat)\n"
			   "test \"$5\" = $$ || exit 2\n"
			   "grep -q 'SigBlk:.0000000000000000' /proc/self/status || exit 3\n"
			   "grep -q 'SigIgn:.*[13579bdf]...$' /proc/self/status && exit 4\n"
			   "exit 0\n",
			   &run),
		0);
	launch_signals_release(&old);
	assert_int_equal(run.result.exit_status, 0);
}

/* Each byte arrives once, in order, in the file and on the screen; the streams do not mix. */
static void test_streams(void **state)
{
	(void)state;
	FILE *screens[2] = {tmpfile(), tmpfile()};
	struct run run = {.screen = {fileno(screens[0]), fileno(screens[1])}};
	assert_int_equal(run_script("i=0\n"
				    "while [ $i -lt 20000 ]; do\n"
				    "  echo \"out line $i\"; echo \"error line $i\" >&2\n"
				    "  i=$((i + 1))\n"
				    "done\n"
				    "printf 'no newline'\n",
				    &run),
			 0);
	struct str expected[2] = {{0}, {0}};
	for (int i = 0; i < 20000; i++) {
		str_addf(&expected[0], "out line %d\n", i);
		str_addf(&expected[1], "error line %d\n", i);
	}
	str_add(&expected[0], "no newline");
	for (int i = 0; i < 2; i++) {
		CLEANUP_FREE char *file = read_back(i ? "err" : "out");
		CLEANUP_FREE char *screen = calloc(1, expected[i].len + 2);
		rewind(screens[i]);
		assert_int_equal(fread(screen, 1, expected[i].len + 1, screens[i]),
				 expected[i].len);
		assert_true(!strcmp(file, str_text(&expected[i])));
		assert_true(!strcmp(screen, str_text(&expected[i])));
		fclose(screens[i]);
		str_release(&expected[i]);
	}
	assert_false(run.result.is_log_partial);
}

/* Part of a line is shown at once: the child goes on only when the reader has seen it. */
static void test_partial_line(void **state)
{
	(void)state;
	int screen[2];
	CLEANUP_FREE char *fifo = path_join(root, "go");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(pipe(screen), 0);
	pid_t reader = fork();
	if (reader == 0) {
		char seen[4] = "";
		alarm(20);
		if (read(screen[0], seen, 3) != 3 || strcmp(seen, "abc"))
			_exit(1);
		int fd = open(fifo, O_WRONLY);
		_exit(fd < 0 || write(fd, "\n", 1) != 1);
	}
	struct run run = {.screen = {screen[1], -1}};
	assert_int_equal(run_script("printf abc; read line < \"$1/go\"; exit 3", &run), 0);
	int status;
	assert_int_equal(waitpid(reader, &status, 0), reader);
	assert_int_equal(status, 0);
	assert_int_equal(run.result.exit_status, 3);
	close(screen[0]);
	close(screen[1]);
}

/* A reader that went away costs the screen, not the file and not the run. */
static void test_screen_closed(void **state)
{
	(void)state;
	int screen[2];
	assert_int_equal(pipe(screen), 0);
	close(screen[0]);
	struct run run = {.screen = {screen[1], -1}};
	assert_int_equal(run_script("echo one; echo two; echo three; exit 0", &run), 0);
	close(screen[1]);
	CLEANUP_FREE char *file = read_back("out");
	assert_string_equal(file, "one\ntwo\nthree\n");
	assert_int_equal(run.result.exit_status, 0);
}

/* A full disk is told, and does not stop the run. */
static void test_log_full(void **state)
{
	(void)state;
	CLEANUP_FREE char *out = path_join(root, "out");
	assert_int_equal(symlink("/dev/full", out), 0);
	struct run run = {.screen = {-1, -1}};
	assert_int_equal(run_script("echo text; exit 0", &run), 0);
	assert_true(run.result.is_log_partial);
	assert_int_equal(run.result.exit_status, 0);
}

/* What the child leaves running in its group ends with it, and does not hold us up. */
static void test_leftover(void **state)
{
	(void)state;
	struct run run = {.screen = {-1, -1}};
	assert_int_equal(run_script("sleep 1000 &\necho $! > \"$1/pid\"; exit 0", &run), 0);
	assert_true(run.result.runtime_s < 20);
	CLEANUP_FREE char *pid = read_back("pid");
	CLEANUP_STR struct str stat = {0};
	str_addf(&stat, "/proc/%d/cmdline", atoi(pid));
	for (int i = 0; i < 200 && !access(str_text(&stat), F_OK); i++) {
		CLEANUP_STR struct str words = {0};
		if (file_read(str_text(&stat), 4096, &words) || !words.len)
			return; /* gone, or dead and not yet reaped */
		usleep(10000);
	}
	assert_int_not_equal(access(str_text(&stat), F_OK), 0);
}

/* A helper sends us @signal for each line the child writes into the fifo. */
static pid_t start_killer(const char *fifo, int signal)
{
	pid_t killer = fork();
	if (killer)
		return killer;
	char c;
	alarm(60);
	int fd = open(fifo, O_RDONLY);
	while (fd >= 0 && read(fd, &c, 1) == 1)
		kill(getppid(), signal);
	_exit(0);
}

static void run_with_signal(const char *script, int signal, struct run *run)
{
	CLEANUP_FREE char *fifo = path_join(root, "ready");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	pid_t killer = start_killer(fifo, signal);
	sigset_t old;
	launch_signals_hold(&old);
	int rc = run_script(script, run);
	launch_signals_release(&old);
	assert_int_equal(rc, 0);
	assert_int_equal(waitpid(killer, NULL, 0), killer);
}

static void test_first_signal(void **state)
{
	(void)state;
	static const struct {
		int sent;
		int seen;
	} cases[] = {{SIGINT, SIGINT}, {SIGTERM, SIGTERM}, {SIGHUP, SIGTERM}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct run run = {.screen = {-1, -1}};
		run_with_signal("trap 'echo int; exit 8' INT\n"
				"trap 'echo term; exit 8' TERM\n"
				"echo > \"$1/ready\"\n"
				"while :; do sleep 0.05; done\n",
				cases[i].sent, &run);
		CLEANUP_FREE char *out = read_back("out");
		assert_string_equal(out, cases[i].seen == SIGINT ? "int\n" : "term\n");
		assert_int_equal(run.result.exit_status, 8);
		assert_int_equal(run.result.stop_signal, cases[i].sent);
		assert_false(run.result.is_killed);
		tear_down(state);
		assert_int_equal(set_up(state), 0);
	}
}

/* A child that does not stop when asked is killed by the second signal. */
static void test_second_signal(void **state)
{
	(void)state;
	struct run run = {.screen = {-1, -1}};
	run_with_signal("exec 3> \"$1/ready\"\n"
			"trap 'echo asked; sleep 0.7; echo >&3' INT\n"
			"echo >&3\n"
			"while :; do sleep 0.05; done\n",
			SIGINT, &run);
	CLEANUP_FREE char *out = read_back("out");
	assert_string_equal(out, "asked\n");
	assert_true(run.result.is_killed);
	assert_int_equal(run.result.end_signal, SIGKILL);
	assert_int_equal(run.result.stop_signal, SIGINT);
}

/* timeout(1) signals a process and then its group: one wish, not two. */
static void test_repeated_signal(void **state)
{
	(void)state;
	struct run run = {.screen = {-1, -1}};
	run_with_signal("trap 'echo asked; sleep 0.2; exit 8' INT\n"
			"printf '\\n\\n' > \"$1/ready\"\n"
			"while :; do sleep 0.05; done\n",
			SIGINT, &run);
	CLEANUP_FREE char *out = read_back("out");
	assert_string_equal(out, "asked\n");
	assert_false(run.result.is_killed);
	assert_int_equal(run.result.exit_status, 8);
}

static bool is_never_overdue(void *arg)
{
	(void)arg;
	return false;
}

/* A launcher is asked, and terminated when --stop-timeout is over, not before. */
static void test_stop_timeout(void **state)
{
	static const struct {
		double stop_timeout_s;
		const char *said;
		int exit_status;
	} cases[] = {{0.3, "asked\nterminated\n", 9}, {60, "asked\nended\n", 8}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct launch_job_control job = {.is_overdue = is_never_overdue, .stop_timeout_s = cases[i].stop_timeout_s};
		struct run run = {.screen = {-1, -1}, .job = &job};
		run_with_signal("trap 'echo terminated; exit 9' TERM\n"
				"trap 'echo asked; asked=1' USR1\n"
				"echo > \"$1/ready\"\n"
				"while [ \"${n:=0}\" -lt 60 ]; do sleep 0.05; n=$((n + ${asked:-0})); done\n"
				"echo ended; exit 8",
				SIGINT, &run);
		CLEANUP_FREE char *out = read_back("out");
		assert_string_equal(out, cases[i].said);
		assert_int_equal(run.result.exit_status, cases[i].exit_status);
		assert_false(run.result.is_killed);
		tear_down(state);
		assert_int_equal(set_up(state), 0);
	}
}

/* What erase_write() leaves in a file of the bytes, given @step at once. */
static char *erased(const char *bytes, size_t step)
{
	CLEANUP_FREE char *path = put("erased", "", 0644);
	int fd = open(path, O_WRONLY | O_TRUNC);
	struct erase *e = calloc(1, sizeof(*e));
	size_t len = strlen(bytes);
	for (size_t i = 0; i < len; i += step)
		assert_int_equal(erase_write(e, fd, bytes + i, i + step < len ? step : len - i), 0);
	assert_int_equal(erase_end(e, fd), 0);
	free(e);
	close(fd);
	return read_back("erased");
}

/* A line that is drawn again and again is not kept; what stands above it, and other escapes, are. */
static void test_erase(void **state)
{
	(void)state;
	static const struct {
		const char *bytes, *kept;
	} cases[] = {
		{"plain\nlast", "plain\nlast"},
		{"a\n\r\033[K1 %\r\033[K2 %\r\033[Kmessage\n\r\033[K3 %\r\033[K", "a\nmessage\n"},
		{"\033[1;31mred\033[0m\n\rx\033[K\n", "\033[1;31mred\033[0m\n\rx\033[K\n"},
		{"\n\r\033[K\n", "\n\n"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t step = 1; step < 8; step++) {
			CLEANUP_FREE char *kept = erased(cases[i].bytes, step);
			assert_string_equal(kept, cases[i].kept);
		}
	}
}

/* A line that is too long to hold is kept; the one behind it is judged again. */
static void test_erase_long(void **state)
{
	(void)state;
	struct str bytes = {0}, kept = {0};
	str_add(&bytes, "first\n");
	for (int i = 0; i < 2 * ERASE_MAX; i++)
		str_add(&bytes, "x");
	str_add(&kept, str_text(&bytes));
	str_add(&bytes, "\r\033[K\nnext\r\033[K");
	str_add(&kept, "\r\033[K\n");
	for (size_t step = 1000; step < 10000; step += 3000) {
		CLEANUP_FREE char *found = erased(str_text(&bytes), step);
		assert_string_equal(found, str_text(&kept));
	}
	str_release(&bytes);
	str_release(&kept);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	/* Started by nohup or in the background of a shell, a process finds them ignored. */
	signal(SIGHUP, SIG_DFL);
	signal(SIGINT, SIG_DFL);

	const struct CMUnitTest tests[] = {
		TEST(test_find_order),      TEST(test_find_nothing),
		TEST(test_find_given),      TEST(test_find_given_relative),
		TEST(test_command_text),    TEST(test_exit_status),
		TEST(test_no_such_program), TEST(test_surroundings),
		TEST(test_streams),         TEST(test_partial_line),
		TEST(test_screen_closed),   TEST(test_log_full),
		TEST(test_leftover),        TEST(test_first_signal),
		TEST(test_second_signal),   TEST(test_repeated_signal),
		TEST(test_stop_timeout),
		TEST(test_erase),           TEST(test_erase_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
