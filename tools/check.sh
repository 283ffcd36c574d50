#!/bin/sh
# Every test: style, units, golden runs, command line, faults and disk, several ranks with each MPI; units, golden runs, faults and command line
# again under ASan+UBSan, what has threads under TSan; some of the fuzzing, a tenth of the soak, and a glance at the benchmarks. Ends with
# one line "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0
failures=

# count NAME STATUS: one result that no test runner counts
count() {
	if [ "$2" -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok: $1"
	else
		failed=$((failed + 1))
		failures="$failures
  $1"
		echo "FAILED: $1"
	fi
}

# suite NAME BUILD-OPTIONS -- MESON-TEST-OPTIONS: configure, build, run; add up what meson counted
suite() {
	name=$1
	shift
	options=
	while [ "$1" != -- ]; do
		options="$options $1"
		shift
	done
	shift
	dir=build/$name
	echo "== $name"
	# shellcheck disable=SC2086 # a list of words
	if ! { [ -f "$dir/build.ninja" ] || meson setup "$dir" --werror $options; } >"build/$name.log" 2>&1; then
		tail -n 40 "build/$name.log"
		count "$name: configuration" 1
		return
	fi
	rm -f "$dir"/meson-logs/testlog.*
	# An installation, which is a test too, takes everything.
	if [ "$name" = check ] && ! ninja -C "$dir" >>"build/$name.log" 2>&1; then
		tail -n 40 "build/$name.log"
		count "$name: build" 1
		return
	fi
	# Builds what these tests need. Most of them wait more than they compute, so more run at once than there are cores.
	meson test -C "$dir" --print-errorlogs --num-processes 4 "$@" >"build/$name-tests.log" 2>&1
	sed -n 's/^ *\([0-9]*\/[0-9]* .*\)/\1/p; /^Summary of Failures/,$p' "build/$name-tests.log" | grep -v '^$' | tail -n 80
	if ! report=$(tools/count-tests "$dir/meson-logs"); then
		tail -n 40 "build/$name-tests.log"
		count "$name: no test report" 1
		return
	fi
	# shellcheck disable=SC2046 # three numbers; what went wrong follows on lines of its own
	set -- $(echo "$report" | head -n 1)
	passed=$((passed + $1))
	failed=$((failed + $2))
	skipped=$((skipped + $3))
	if [ "$2" -ne 0 ]; then
		failures="$failures
  $name: see build/$name-tests.log
$(echo "$report" | tail -n +2)"
	fi
}

mkdir -p build
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1

suite check -Dbuildtype=debugoptimized -Dmpi=openmpi -- --suite style --suite unit --suite golden --suite cli --suite install --suite schema --suite fault --suite disk --suite mpi
suite mpich -Dbuildtype=debugoptimized -Dmpi=mpich -- --suite mpi
suite asan -Dmpi=disabled -Dbuildtype=debugoptimized -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false -- --suite unit --suite golden --suite cli --suite fault -t 5
suite tsan -Dmpi=disabled -Dbuildtype=debugoptimized -Doptimization=1 -Db_sanitize=thread -Db_lundef=false -- --suite unit --suite threads -t 5

echo "== fuzz"
tools/fuzz.sh 30
count "fuzz: half a minute over all parsers" $?

echo "== bench"
bench/bench.py build/check --tiny
count "bench: everything runs" $?

echo "== soak"
tools/soak.sh build/check 60 5
count "soak: one tenth" $?

if [ -n "$failures" ]; then
	printf '\nFailed:%s\n' "$failures"
fi
echo "$skipped skipped (each says why in its log below build/)"
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
