# SPDX-License-Identifier: Apache-2.0
# What the command-line tests of mlpstorage share. BUILD_DIR: where the programs were built.
# $T is a directory of the test's own, $R the results directory (not made).

. "${BASH_SOURCE[0]%/*}/common.bash"

control_setup() {
	MLPSTORAGE="$BUILD_DIR/src/cmd/mlpstorage"
	T="$(mktemp -d)"
	export TMPDIR="$T/tmp"
	mkdir "$TMPDIR"
	R="$T/results"
	OUT="$T/stdout"
	ERR="$T/stderr"
	# Nothing of the person who runs the tests.
	export XDG_CONFIG_HOME="$T/config"
	unset NO_COLOR MLPS_DEBUG MPI_RUN_BIN MPI_EXEC_BIN "${!MLPSTORAGE_@}"
}

control_teardown() {
	rm -rf "$T"
}

# The only metadata file below the results directory.
metadata() {
	local found
	found="$(find "$R" -name '*_metadata.json')"
	[ "$(echo "$found" | wc -l)" -eq 1 ] && [ -f "$found" ] && echo "$found"
}

# A launcher that says whose it is, whatever is installed here, first on PATH. $1: mpirun or mpiexec; $2: what it says.
fake_launcher() {
	mkdir -p "$T/bin"
	printf '#!/bin/sh\necho "%s"\n' "$2" >"$T/bin/$1"
	chmod +x "$T/bin/$1"
	PATH="$T/bin:$PATH"
}

# A program that takes the engine's options and writes a result as the reference does.
# $1: commands to run when everything is written.
stand_in() {
	cat >"$T/engine" <<-'END'
		#!/bin/sh
		printf '%s\n' "$@" > "$(dirname "$0")/engine.args"
		while [ $# -gt 0 ]; do
		  case "$1" in
		    --output) output="$2" ;;
		    --cache-dir) cache="$2" ;;
		  esac
		  shift
		done
		mkdir -p "$cache/kvcache.d"
		echo data > "$cache/kvcache.d/entry.npy"
		echo "cache is $cache"
		echo "to the error stream" >&2
		cat > "$output" <<-'JSON'
		{"requests_completed": 40, "seed": 42, "summary": {"total_requests": 40,
		 "elapsed_time": 10.0, "requests_per_second": 4.0,
		 "end_to_end_latency_ms": {"mean": 12.5, "p50": 9.0, "p95": 50.0, "p99": 99.5},
		 "cache_stats": {"cache_hit_rate": 0.75, "total_read_bytes": 30000000,
		  "total_write_bytes": 10000000, "storage_health": {"overall_status": "PASS"}}}}
		JSON
	END
	echo "${1:-exit 0}" >>"$T/engine"
	chmod +x "$T/engine"
}

run_with() {
	"$MLPSTORAGE" kvcache run --model tiny-1b --num-users 5 --duration 10 --cpu-mem-gb 0 \
		--results-dir "$R" --kvcache-bin-path "$T/engine" "$@"
}
