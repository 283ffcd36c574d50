#!/bin/sh
# Whole runs on the virtual clock, compared with results that were checked by hand once.
#
# Usage: run.sh KV-CACHE            run each case (NAME.args: one line of options) twice; print TAP
#        run.sh --update KV-CACHE   write the results of today as the ones to compare with (NAME.json)
#
# The two runs of a case must agree byte for byte (the virtual clock knows no date). Of the result, summary, measured, tiers and
# verdicts are compared: one "path": value a line, without nulls and old names. As numbers, so that it does not matter how jq
# prints them.
set -u
update=
if [ "${1:-}" = --update ]; then
	update=yes
	shift
fi
[ $# -eq 1 ] || {
	echo "usage: run.sh [--update] KV-CACHE" >&2
	exit 2
}
kv=$(realpath "$1")
cd "$(dirname "$0")" || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
if ! command -v jq >/dev/null; then
	echo "1..0 # SKIP jq is not installed"
	exit 0
fi

# What is compared: [["measured", "storage", "read_bytes"], 12] becomes "measured.storage.read_bytes": 12
reduce='{workload_fingerprint, valid, summary, measured, verdicts, tiers}
	| del(.measured.gpu, .summary.cache_stats[.summary.cache_stats | keys[] | select(startswith("nvme"))])
	| [paths(type != "object" and type != "array" and type != "null") as $p
	   | {key: ($p | map(tostring) | join(".")), value: getpath($p)}] | from_entries'
count=0
failed=0

result() { # OK NAME [FILE with what was wrong]
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $count - $2"
	sed 's/^/# /' "$3" | head -n 40
}

# One run; the result file has the same name each time, since the result names it.
run() { # ARGS... ; leaves $work/result.json
	# shellcheck disable=SC2086 # a line of options is words
	"$kv" $1 --output "$work/result.json" --quiet >"$work/log" 2>&1 </dev/null
	rc=$?
	# 1: a run that is not valid is a result too; the golden file says whether it is expected
	[ "$rc" -le 1 ] && [ -s "$work/result.json" ]
}

check_case() { # NAME
	args=$(cat "$1.args")
	run "$args" || return 1
	mv "$work/result.json" "$work/first.json"
	run "$args" || return 1
	cmp "$work/result.json" "$work/first.json" >"$work/log" 2>&1 || return 1
	jq "$reduce" "$work/result.json" >"$work/reduced.json" 2>"$work/log" || return 1
	if [ -n "$update" ]; then
		cp "$work/reduced.json" "$1.json"
		return 0
	fi
	[ "$(jq -n --slurpfile a "$1.json" --slurpfile b "$work/reduced.json" '$a == $b')" = true ] || {
		diff "$1.json" "$work/reduced.json" >"$work/log"
		return 1
	}
}

# The same seed asks for the same, however many workers there are.
check_fingerprint() {
	for workers in 1 8; do
		run "--storage-backend null --cpu-mem-gb 0 --gpu-mem-gb 0 --num-users 64 --duration 1 --seed 7 \
			--generation-mode none --workers $workers" || return 1
		jq -r .workload_fingerprint "$work/result.json" >"$work/fingerprint.$workers"
	done
	cmp "$work/fingerprint.1" "$work/fingerprint.8" >"$work/log" 2>&1
}

# Intervals change no number, add up to the result, and are repeatable. Lengths: one that does not divide the window, one that is
# longer than it, one shorter than a transfer.
check_intervals() {
	args="--simulate --seed 42 --model tiny-1b --gpu-mem-gb 0 --num-users 50 --duration 20 --cpu-mem-gb 1"
	for more in "--warmup 5" "--max-requests 90"; do
		run "$args $more" && mv "$work/result.json" "$work/without.json" || return 1
		for length in 0.7 100 0.05; do
			run "$args $more --interval $length" || return 1
			mv "$work/result_interval.ndjson" "$work/first.ndjson"
			run "$args $more --interval $length" || return 1
			cmp "$work/result_interval.ndjson" "$work/first.ndjson" >"$work/log" 2>&1 || return 1
			for file in without result; do
				jq "[($reduce), .histograms]" "$work/$file.json" >"$work/$file.reduced" || return 1
			done
			cmp "$work/without.reduced" "$work/result.reduced" >"$work/log" 2>&1 || return 1
			jq -cs --slurpfile r "$work/result.json" -f ../intervals.jq "$work/result_interval.ndjson" \
				>"$work/log" 2>&1
			[ "$(cat "$work/log")" = "[]" ] || return 1
		done
	done
}

for file in *.args; do
	name=${file%.args}
	check_case "$name"
	result $? "$name" "$work/log"
done
check_fingerprint
result $? "the same fingerprint with 1 and 8 workers" "$work/log"
check_intervals
result $? "intervals add up to the result and change nothing" "$work/log"
echo "1..$count"
[ "$failed" -eq 0 ]
