#!/bin/sh
# The demo: replay a request trace, then simulated users, on the disk that holds this checkout. About 45 s and 4 GiB.
set -eu
build=$1
here=$(cd "$(dirname "$0")/.." && pwd)
mlpstorage=$here/$build/src/cmd/mlpstorage
dir=$here/build/demo
# The program refuses cache directories in system places, /root among them: then the disk of /var/tmp is measured.
case $dir in
/root/*) dir=/var/tmp/mlpstorage-demo ;;
esac
results=$here/build/demo/results
mkdir -p "$dir" "$results"

trace=${TRACE_DIR:-}/mooncake_conversation_trace.jsonl
what="the Mooncake conversation trace"
if [ ! -r "$trace" ]; then
	trace=$here/build/demo/small-trace.jsonl
	what="a small trace made by tools/make-trace (set TRACE_DIR to replay a real one)"
	"$here/tools/make-trace" >"$trace"
fi

run() {
	"$mlpstorage" kvcache run --results-dir "$results" --cache-dir "$dir/cache" --cleanup --seed 42 \
		--model tiny-1b --gpu-mem-gb 0 --cpu-mem-gb 0 --generation-mode none --storage-capacity-gb 4 "$@"
}

printf '\n=== 1 of 2: %s, 15 s ===\n\n' "$what"
run --trace "$trace" --trace-speedup 10 --num-gpus 8 --tensor-parallel 8 --num-users 32 --duration 15
printf '\n=== 2 of 2: 50 simulated users, 15 s ===\n\n'
run --num-users 50 --duration 15

rm -rf "$dir/cache"
[ "$dir" = "$here/build/demo" ] || rmdir "$dir" 2>/dev/null || :
printf '\nResult directories (JSON, logs, metadata):\n'
find "$results" -name 'kvcache_results_*.json' | sort | tail -n 2 | sed "s|^$here/||; s|/[^/]*$||; s|^|  |"
