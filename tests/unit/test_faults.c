// SPDX-License-Identifier: Apache-2.0
/* Plans of faults: what is read from them, and what is said about a wrong one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "config/config.h"

static struct config_fault_plan plan;
static char path[] = "/tmp/test_faults_XXXXXX";

static void read_text(const char *text, struct problems *problems)
{
	strcpy(path, "/tmp/test_faults_XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	assert_int_equal(config_fault_plan_read(path, &plan, problems), 0);
	unlink(path);
}

static void test_everything_is_read(void **state)
{
	(void)state;
	struct problems problems = {0};
	read_text("seed: 7\n"
		  "faults:\n"
		  "  - fault: error\n"
		  "    tier: storage\n"
		  "    operation: [read, commit]\n"
		  "    error: ENOSPC\n"
		  "    rate: 0.25\n"
		  "    count: 3\n"
		  "  - {fault: again, operation: write, nth: 100, attempts: 16}\n"
		  "  - {fault: delay, rate: 1, delay_ms: 2.5}\n"
		  "  - {fault: bit_flip, tier: cpu, nth: 1, part: payload}\n"
		  "  - {fault: hang, nth: 2, count: 5, is_final: true}\n",
		  &problems);
	assert_int_equal(problems.count, 0);
	assert_int_equal(plan.seed, 7);
	assert_int_equal(plan.count, 5);
	const struct config_fault *f = plan.v;
	assert_true(f[0].kind == FAULT_ERROR && f[0].tier == TIER_STORAGE && f[0].operations == (1 << 6 | 1 << 3));
	assert_true(f[0].error == ENOSPC && f[0].rate > 0.249 && f[0].rate < 0.251 && f[0].count == 3 && f[0].line == 3);
	assert_true(f[1].kind == FAULT_AGAIN && f[1].tier == -1 && f[1].operations == 1 << 1 && f[1].nth == 100 &&
		    f[1].count == 1 && f[1].attempts == 16);
	assert_true(f[2].kind == FAULT_DELAY && f[2].operations == (1 << 9) - 1 && f[2].delay_ms > 2.4 && !f[2].count);
	assert_true(f[3].kind == FAULT_BIT_FLIP && f[3].tier == TIER_CPU && f[3].part == FAULT_PART_PAYLOAD &&
		    f[3].operations == (1 << 1 | 1 << 6));
	assert_true(f[4].kind == FAULT_HANG && f[4].count == 5 && f[4].is_final);
}

static void test_what_is_wrong_is_named(void **state)
{
	(void)state;
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"", ":1: faults: expected a list of 1 to 32 faults"},
		{"faults: []\n", ":1: faults: expected a list"},
		{"faults:\n  - hang\n", ":2: faults[0]: expected a mapping with the key 'fault'"},
		{"faults:\n  - {nth: 1}\n", ":2: faults[0]: expected a mapping with the key 'fault'"},
		{"fault:\n  - {fault: hang, nth: 1}\n", ":1: unknown key 'fault' (did you mean 'faults'?)"},
		{"faults:\n  - {fault: hag, nth: 1}\n", ":2: faults[0].fault: \"hag\" does not fit, expected one of error,"},
		{"faults:\n  - {fault: hang, nt: 1}\n", ":2: unknown key 'faults[0].nt'"},
		{"faults:\n  - {fault: hang}\n", ":2: faults[0]: expected either rate or nth"},
		{"faults:\n  - {fault: hang, nth: 1, rate: 0.5}\n", ":2: faults[0]: expected either rate or nth"},
		{"faults:\n  - {fault: hang, nth: 0}\n", ":2: faults[0].nth: 0 is out of range"},
		{"faults:\n  - {fault: hang, rate: 1.5}\n", ":2: faults[0].rate: 1.5 is out of range"},
		{"faults:\n  - {fault: hang, nth: 1, tier: gpu}\n", "faults[0].tier: \"gpu\" does not fit"},
		{"faults:\n  - {fault: error, nth: 1}\n  - {fault: error, nth: 1, error: EBAD0}\n",
		 ":3: faults[1]: error: expected the name of an errno"},
		{"faults:\n  - {fault: torn, nth: 1, operation: read}\n",
		 ":2: faults[0]: operation: torn expects one or a list of write"},
		{"faults:\n  - {fault: again, nth: 1, operation: close}\n", "faults[0]: operation: again expects"},
		{"faults:\n  - {fault: error, nth: 1, operation: []}\n", "faults[0]: operation: error expects"},
		{"faults:\n  - {fault: delay, nth: 1}\n", "faults[0]: delay_ms is missing for the fault delay"},
		{"faults:\n  - {fault: hang, nth: 1, part: stamp}\n", "faults[0]: part does not belong to the fault hang"},
		{"seed: -1\nfaults:\n  - {fault: hang, nth: 1}\n", ":1: seed: -1 is out of range"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct problems problems = {0};
		read_text(cases[i].text, &problems);
		if (problems.count != 1 || !strstr(problems.list[0].message, cases[i].message) ||
		    strncmp(problems.list[0].message, path, strlen(path)) != 0)
			fail_msg("%zu: %zu problems: %s", i, problems.count,
				 problems.count ? problems.list[0].message : "");
		problems_release(&problems);
	}
	struct problems problems = {0};
	assert_int_equal(config_fault_plan_read("/tmp/there/is/no/such.yaml", &plan, &problems), 0);
	assert_int_equal(problems.count, 1);
	assert_non_null(strstr(problems.list[0].message, "--fault-plan"));
	problems_release(&problems);
}

static void test_rules_meet_a_tier(void **state)
{
	(void)state;
	static const struct {
		const char *rule;
		int backend;
		double cpu_mem_gib;
		bool simulate, reaches;
	} cases[] = {
		{"fault: bit_flip", BACKEND_FILE, 0, false, true},
		{"fault: bit_flip", BACKEND_NULL, 0, false, false},
		{"fault: bit_flip", BACKEND_NULL, 1, false, true},
		{"fault: bit_flip", BACKEND_MODEL, 1, true, false},
		{"fault: bit_flip, tier: storage", BACKEND_NULL, 1, false, false},
		{"fault: again", BACKEND_FILE, 0, false, true},
		{"fault: again", BACKEND_NULL, 1, false, false},
		{"fault: again, tier: cpu", BACKEND_FILE, 1, false, false},
		{"fault: error, operation: commit", BACKEND_MODEL, 1, true, false},
		{"fault: error", BACKEND_MODEL, 1, true, true},
		{"fault: error, tier: cpu", BACKEND_FILE, 0, false, false},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct problems problems = {0};
		char text[128];
		const struct config_options opt = {.storage_backend = cases[i].backend,
						   .cpu_mem_gib = cases[i].cpu_mem_gib,
						   .simulate = cases[i].simulate};
		snprintf(text, sizeof(text), "faults:\n  - {%s, nth: 1}\n", cases[i].rule);
		read_text(text, &problems);
		assert_int_equal(problems.count, 0);
		assert_int_equal(config_fault_plan_check("plan.yaml", &plan, &opt, &problems), 0);
		if (problems.count != !cases[i].reaches)
			fail_msg("%zu", i);
		if (problems.count)
			assert_non_null(strstr(problems.list[0].message, "plan.yaml:2: faults[0]: this run has no tier"));
		problems_release(&problems);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_is_read),
		cmocka_unit_test(test_what_is_wrong_is_named),
		cmocka_unit_test(test_rules_meet_a_tier),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
