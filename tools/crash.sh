#!/bin/bash
# Kills mlpstorage, or the engine, at a random moment of a run: "crash.sh BUILD_DIR RUNS [SEED]". Whatever the moment, all JSON
# files below the results directory parse, the list of runs has every run once and whole, what was killed is listed as
# interrupted, and no engine lives on without its controller.
set -eu
mlpstorage=$1/src/cmd/mlpstorage
runs=$2
RANDOM=${3:-42}
dir=$(mktemp -d "${TMPDIR:-/tmp}/mlpstorage-crash-XXXXXX")
results=$dir/results
list=$results/.mlps/runs.jsonl
pid=
trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT

fail() {
	echo "crash: $*"
	exit 1
}

# Engines of this test that still run: only their command lines name files in a run directory. (Nor does this pattern, which
# would find itself.)
engines() {
	grep -l -- "$dir/[r]esults/kv_cache/" /proc/[0-9]*/cmdline 2>/dev/null | grep -o '[0-9]*' || :
}

no_engine() {
	local i
	for ((i = 0; i < 200; i++)); do
		[ -n "$(engines)" ] || return 0
		sleep 0.05
	done
	fail "an engine lives on: $(engines)"
}

killed=0 engine_killed=0 ended=0
for ((n = 1; n <= runs; n++)); do
	# Half of them in the first tenths of a second, where files and lines are made; a run takes a little over a second.
	if ((n % 2)); then ms=$((RANDOM % 120)); else ms=$((RANDOM % 1600)); fi
	"$mlpstorage" kvcache run --model tiny-1b --num-users 4 --duration 1 --gpu-mem-gb 0 --cpu-mem-gb 0 \
		--storage-backend null --storage-capacity-gb 1 --generation-mode none --workers 1 --seed "$n" \
		--results-dir "$results" >"$dir/out" 2>"$dir/err" </dev/null &
	pid=$!
	sleep "$(printf '0.%03d' $((ms % 1000)))"
	[ "$ms" -lt 1000 ] || sleep 1
	victim=$pid
	if ((n % 5 == 0)); then
		victim=$(engines | head -n 1)
		[ -n "$victim" ] || victim=$pid
	fi
	kill -KILL "$victim" 2>/dev/null || :
	code=0
	wait "$pid" 2>/dev/null || code=$?
	pid=
	case $code in
	137) killed=$((killed + 1)) ;;
	6) engine_killed=$((engine_killed + 1)) ;;
	0) ended=$((ended + 1)) ;;
	*)
		cat "$dir/err"
		fail "run $n ended with $code"
		;;
	esac
	no_engine
	if [ -d "$results" ]; then
		find "$results" -name '*.json' -exec jq -e . {} + >/dev/null || fail "a JSON file does not parse after run $n"
		"$mlpstorage" history list --results-dir "$results" --json >"$dir/list" 2>"$dir/err" || fail "no list after run $n"
		jq -e . "$list" >/dev/null || fail "the list does not parse after run $n"
	fi
done

# A killed controller leaves state "interrupted"; one that saw its engine die wrote "failed". A run that was killed before it made
# its directory is no run.
jq -r --argjson killed "$killed" --argjson failed "$engine_killed" --argjson ended "$ended" '
	def n(s): map(select(.status == s)) | length;
	if n("complete") + n("failed") + n("interrupted") != length then "a state that must not be: \(map(.status) | unique)"
	elif n("complete") < $ended or n("failed") < $failed or length > $killed + $failed + $ended then "the list has \(length) runs"
	elif n("interrupted") == 0 then "no run was interrupted"
	elif (map(.id) | unique | length) != length then "a number was given twice"
	elif any(.[]; .status == "interrupted" and .problems == []) then "an interrupted run without a reason"
	else "\(length) runs listed: \(n("complete")) complete, \(n("failed")) failed, \(n("interrupted")) interrupted" end' "$dir/list" >"$dir/verdict"
grep -q 'runs listed' "$dir/verdict" || fail "$(cat "$dir/verdict")"
echo "$killed times the controller and $engine_killed times the engine killed, $ended runs ended before: $(cat "$dir/verdict")"
