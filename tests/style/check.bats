#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# `make check` and .ci/run over a project of small tests that end in every way: what they count, and when they fail.

load ../cli/common

setup() {
	T="$(mktemp -d)"
	OUT="$T/stdout"
	ERR="$T/stderr"
	local top="$BATS_TEST_DIRNAME/../.." tool
	mkdir "$T/top"
	cd "$T/top"
	mkdir .ci bench tools
	cp "$top/Makefile" .
	cp "$top/.ci/run" .ci
	cp "$top"/tools/{check.sh,count-tests,install-packages} tools
	touch tools/packages.txt
	# What no test runner counts, and takes minutes.
	for tool in tools/fuzz.sh tools/soak.sh bench/bench.py; do
		printf '#!/bin/sh\n' >$tool
		chmod +x $tool
	done
	echo "option('mpi', type: 'string')" >meson_options.txt
	unset MAKEFLAGS MAKELEVEL MFLAGS
}

teardown() {
	rm -rf "$T"
}

# One test in each of the suites of check.sh, and those of the words: their definitions.
project() {
	printf '%s\n' "project('stand_in', 'c')" "sh = find_program('sh')" \
		"test('good', sh, args: ['-c', 'exit 0'], suite: ['unit', 'mpi'])" "$@" >meson.build
}

ci() {
	.ci/run
}

# counts CODE LINE: .ci/run ends with this exit code and this line.
counts() {
	expect "$1" ci
	[ "$(tail -n 1 "$OUT")" = "$2" ] || {
		echo "not '$2':"
		cat "$OUT" "$ERR"
		return 1
	}
}

@test "all is well, then something does not build, then there is nothing" {
	project
	# check, mpich, asan, tsan; fuzz, bench, soak
	counts 0 "7 passed, 0 failed"
	# The report of before does not count again.
	project "x = custom_target('x', output: 'x', command: [find_program('false')], build_by_default: true)" \
		"test('built', sh, depends: x, suite: ['unit', 'mpi'])"
	counts 2 "3 passed, 4 failed"
	has "$OUT" "FAILED: check: build"
	project
	counts 0 "7 passed, 0 failed"
	echo "project('stand_in', 'c')" >meson.build
	counts 2 "3 passed, 4 failed"
	has "$OUT" "FAILED: tsan: no test report"
	echo "syntax error" >meson.build
	rm -r build
	counts 2 "3 passed, 4 failed"
	has "$OUT" "FAILED: asan: configuration"
}

@test "every way to end is counted as what it is" {
	# name, passed, failed, skipped: what it does
	local name passed failed skipped does tests=() sums=(7 0 0) protocol timeout
	while IFS='|' read -r name passed failed skipped does; do
		protocol="${name%%_*}"
		# Only what is to run out of time has little of it: a busy machine may stop for a second at any test.
		timeout=60
		[[ "$does" != *sleep* ]] || timeout=4
		tests+=("test('$name', sh, args: ['-c', '''$does'''], protocol: '$protocol', timeout: $timeout, suite: 'style')")
		sums=($((sums[0] + passed)) $((sums[1] + failed)) $((sums[2] + skipped)))
	done <<-'END'
		exitcode_good|1|0|0|exit 0
		exitcode_bad|0|1|0|exit 1
		exitcode_error|0|1|0|exit 99
		exitcode_skipped|0|0|1|exit 77
		exitcode_killed|0|1|0|kill -KILL $$
		exitcode_late|0|1|0|exec sleep 30
		tap_good|3|0|0|echo 1..3; echo ok 1; echo ok 2 - two; echo ok 3
		tap_mixed|2|2|1|printf "1..5\nok 1\nnot ok 2\nok 3 # SKIP why\nnot ok 4\n# \033[31m<failure/>\nok 5\n"; exit 1
		tap_long|1|1|0|echo 1..2; echo not ok 1; seq -f "# said %g" 99; echo ok 2; exit 1
		tap_skipped|0|0|1|echo "1..0 # SKIP why"
		tap_late|2|1|0|echo 1..3; echo ok 1; echo ok 2; exec sleep 30
		tap_silent|0|1|0|exec sleep 30
		tap_short|2|1|0|echo 1..3; echo ok 1; echo ok 2
		tap_crashed|2|1|0|echo 1..2; echo ok 1; echo ok 2; exit 3
		tap_gave_up|1|1|0|echo 1..2; echo ok 1; echo "Bail out! why"
	END
	project "${tests[@]}"
	counts 2 "${sums[0]} passed, ${sums[1]} failed"
	has "$OUT" "${sums[2]} skipped "
	has "$OUT" "check: see build/check-tests.log"
	# At the end stands what each of them said.
	tail -n 80 "$OUT" >"$T/end"
	has "$T/end" "tap_mixed: ERROR"
	has "$T/end" "not ok 2"
	has "$T/end" "not ok 4"
	has "$T/end" "# said 1"
	has "$T/end" "# said 99"
	lacks "$T/end" "# said 50"
	has "$T/end" "exitcode_late: TIMEOUT"
}

@test "fuzzing, bench and soak count too" {
	project
	echo "exit 1" >>tools/soak.sh
	counts 2 "6 passed, 1 failed"
	has "$OUT" "FAILED: soak: one tenth"
}
