#!/bin/sh
# Costs of the engine itself, as figures on this machine: "bench.sh BUILD_DIR TENTHS". TENTHS scales the simulated time.
# Fails only when something does not run: figures are for people to compare in one run, machines are shared and noisy.
set -eu
build=$1
tenths=$2
kv_cache=$build/src/engine/kv-cache
out=$(mktemp)
trap 'rm -f "$out"' EXIT

echo "cache index, one thread:"
"$build/bench/cache_bench"

echo "watching the machine:"
"$build/bench/sample_bench"

# simulate NAME OPTIONS...: seconds of one core and memory for a run on the virtual clock
simulate() {
	name=$1
	shift
	begin=$(date +%s.%N)
	"$kv_cache" --simulate --quiet --seed 42 --model tiny-1b --gpu-mem-gb 0 --generation-mode none \
		--duration $((360 * tenths)) --output "$out" "$@"
	end=$(date +%s.%N)
	done=$(awk '/"requests_completed"/ { gsub(/[^0-9]/, "", $2); print $2; exit }' "$out")
	awk -v name="$name" -v begin="$begin" -v end="$end" -v done="$done" 'BEGIN {
		printf "%-52s %6.2f s  %9.0f completed requests/s\n", name, end - begin, done / (end - begin) }'
}

echo "virtual clock, one core, $((360 * tenths)) simulated seconds:"
simulate "1,000 users, model tier that keeps up" --num-users 1000 --cpu-mem-gb 0 \
	--model-tier storage:read_gbps=20000,write_gbps=20000,latency_us=10
simulate "1,000 users, ram and storage model tiers" --num-users 1000 --cpu-mem-gb 64 \
	--model-tier storage:read_gbps=20000,write_gbps=20000,latency_us=10 \
	--model-tier cpu:read_gbps=40000,write_gbps=40000,latency_us=1
simulate "10,000 users, saturated model tier" --num-users 10000 --cpu-mem-gb 0
