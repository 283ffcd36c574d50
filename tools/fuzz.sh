#!/bin/sh
# Run every fuzzer, SECONDS in all: "fuzz.sh 60". Fails on the first crash, leak or hang, with the input that caused it.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
dir=build/fuzz
mkdir -p build
{ [ -f "$dir/build.ninja" ] || CC=clang meson setup "$dir" -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debugoptimized; } >build/fuzz.log 2>&1 &&
	ninja -C "$dir" >>build/fuzz.log 2>&1 || {
	tail -n 40 build/fuzz.log
	exit 1
}
set -- tests/fuzz/fuzz_*.c
each=$((seconds / $#))
for source in "$@"; do
	name=$(basename "$source" .c)
	corpus=$dir/corpus-$name
	mkdir -p "$corpus"
	seeds=tests/fuzz/seeds/$name
	[ -d "$seeds" ] || seeds=
	printf '%s: ' "$name"
	# shellcheck disable=SC2086 # an optional word
	"$dir/tests/fuzz/$name" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$dir/" "$corpus" $seeds >"build/$name.log" 2>&1 || {
		echo failed
		tail -n 40 "build/$name.log"
		exit 1
	}
	sed -n 's/^stat::number_of_executed_units: */inputs tried: /p' "build/$name.log"
done
