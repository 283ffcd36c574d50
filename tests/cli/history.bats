#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# mlpstorage history, and the list of runs under fire. BUILD_DIR: where the programs were built.
# The names that begin with 10.5 are cases of the reference's own tests of its history, on our list of runs; times that are given,
# and the texts of bad lines: test_ledger.

load control

setup() {
	control_setup
	LEDGER="$R/.mlps/runs.jsonl"
	STARTED=()
	engine
}

teardown() {
	local p
	for p in "${STARTED[@]}"; do
		kill -KILL "$p" 2>/dev/null || :
	done
	control_teardown
}

# An engine that writes what it was asked with, and a small result. $1: commands to run then.
engine() {
	cat >"$T/engine" <<-'END'
		#!/bin/sh
		printf '%s\n' "$@" > "$(dirname "$0")/engine.args"
		pwd > "$(dirname "$0")/engine.pwd"
		while [ $# -gt 0 ]; do
		  [ "$1" != --output ] || output="$2"
		  shift
		done
		echo '{"summary": {"total_requests": 4, "elapsed_time": 2.0, "cache_stats":
		 {"tier_storage_kv_bytes_read_gb": 3.0, "tier_storage_kv_bytes_written_gb": 1.0}}}' > "$output"
	END
	echo "${1:-exit 0}" >>"$T/engine"
	chmod +x "$T/engine"
}

hist() {
	local command="$1"
	shift
	"$MLPSTORAGE" history "$command" --results-dir "$R" "$@"
}

# jq over the list as JSON must be true.
list_is() {
	hist list --json >"$T/list.json" 2>"$ERR"
	jq -e "$@" "$T/list.json" >/dev/null || {
		echo "not true of the list: $*"
		cat "$T/list.json" "$ERR"
		return 1
	}
}

metadata_of() {
	find "$R/kv_cache" -name '*_metadata.json' | sort | sed -n "${1:-1}p"
}

# --- file and numbers

@test "10.5 history: the file is made with the first run, below the results directory" {
	expect 0 run_with --what-if
	[ -f "$LEDGER" ]
	jq -se 'length == 2 and .[0].status == "running" and .[1].status == "what-if" and .[1].id == 1' "$LEDGER"
}

@test "10.5 history: the default place is the default results directory" {
	expect 0 "$MLPSTORAGE" kvcache run --cpu-mem-gb 0 --what-if
	[ -f "$TMPDIR/mlperf_storage_results/.mlps/runs.jsonl" ]
	expect 0 "$MLPSTORAGE" history show
	grep -Eqx '1 : [0-9]{8}_[0-9]{6} : .*mlpstorage kvcache run --cpu-mem-gb 0 --what-if' "$OUT"
}

@test "10.5 history: a command with commas and blanks is one entry" {
	expect 0 run_with --what-if --cache-dir "$T/a, b,c"
	expect 0 hist show --id 1
	has "$OUT" "--cache-dir '$T/a, b,c'"
	list_is '.[0].argv[-1] == "'"$T"'/a, b,c"'
}

@test "10.5 history: lines that are no entries are passed over, and said" {
	expect 0 run_with --what-if
	printf 'nonsense\n\n[1]\n{"id": 7}\n' >>"$LEDGER"
	expect 0 hist show
	has "$ERR" "WARNING: the list of runs in $R had 3 damaged lines"
	[ "$(wc -l <"$OUT")" -eq 1 ]
	expect 0 hist show # mended
	lacks "$ERR" "WARNING"
}

@test "10.5 history: the next number is one for no file and an empty file, else the last plus one" {
	expect 0 run_with --what-if
	rm -r "$R"
	mkdir -p "$R/.mlps"
	: >"$LEDGER"
	expect 0 run_with --what-if
	list_is 'map(.id) == [1]'
	expect 0 run_with --what-if
	expect 0 run_with --what-if
	list_is 'map(.id) == [3, 2, 1]'
}

@test "10.5 history: numbers go on behind a last line that cannot be read" {
	expect 0 run_with --what-if
	printf '{"id":2,"dir":"kv_' >>"$LEDGER"
	expect 0 run_with --what-if
	expect 0 run_with --what-if
	list_is 'map(.id) == [3, 2, 1] and all(.problems == [])'
}

@test "10.5 history: entries survive from program to program, and a tree that is moved" {
	expect 0 run_with --what-if
	mv "$R" "$T/moved"
	R="$T/moved" list_is '.[0].problems == [] and (.[0].result_dir | startswith("'"$T"'/moved/kv_cache/tiny-1b/run/"))'
}

@test "10.5 history: runs that fail, and what-if, are recorded; history and bad usage are not" {
	engine 'exit 1'
	expect 6 run_with
	expect 0 run_with --what-if
	expect 0 hist list
	expect 2 run_with --num-users 0
	expect 3 run_with --kvcache-bin-path "$T/missing"
	list_is 'map(.status) == ["what-if", "failed"] and map(.exit_status) == [0, 6]'
}

# --- show

@test "10.5 history show: all, the last N, zero and less" {
	for users in 1 2 3; do expect 0 run_with --what-if --num-users $users; done
	expect 0 hist show
	[ "$(cut -d' ' -f1 "$OUT" | tr '\n' ' ')" = "1 2 3 " ]
	expect 0 hist show --limit 2
	[ "$(cut -d' ' -f1 "$OUT" | tr '\n' ' ')" = "2 3 " ]
	expect 0 hist show -n 5
	[ "$(wc -l <"$OUT")" -eq 3 ]
	for n in 0 -1; do
		expect 0 hist show -n $n
		[ "$(wc -l <"$OUT")" -eq 3 ]
	done
}

@test "10.5 history show: one by --id, by -i before a limit, and with everything by its number" {
	expect 0 run_with --what-if --num-users 1
	expect 0 run_with --what-if --num-users 2
	expect 0 hist show --id 1
	[ "$(wc -l <"$OUT")" -eq 1 ]
	grep -q '^1: .*kvcache run .* --num-users 1$' "$OUT"
	expect 0 hist show -i 2 --limit 1
	grep -q '^2: ' "$OUT"
	expect 0 hist show 2
	grep -q '^2: ' "$OUT"
	grep -Eq '^    status +what-if$' "$OUT"
	grep -Eq "^    result_dir +$R/kv_cache/tiny-1b/run/[0-9_]+$" "$OUT"
}

@test "10.5 history show: an unknown number and an empty history are errors, exit 2" {
	expect 2 hist show
	has "$ERR" "No history entries found"
	[ ! -e "$R" ]
	expect 2 hist show --id 1
	has "$ERR" "No command found with ID 1"
	expect 0 run_with --what-if
	for words in "--id 9" "-i 9" 9; do
		expect 2 hist show $words
		has "$ERR" "No command found with ID 9"
	done
	expect 2 hist show --id 0
	expect 2 hist show x
	has "$ERR" 'ID: "x" is no number of a run'
	expect 2 hist show 1 2
	has "$ERR" 'unexpected word "2"'
}

# --- rerun

@test "history rerun: the same words, a directory of its own, from where it was typed" {
	mkdir "$T/there" "$T/here"
	cd "$T/there"
	echo 'user_templates: {}' >own.yaml
	expect 0 "$MLPSTORAGE" kvcache run --model tiny-1b --cpu-mem-gb 0 --duration 10 --storage-capacity-gb 1 -rd ../results \
		--kvcache-bin-path ../engine --config own.yaml --cache-dir "../a  'dir'"
	cp "$T/engine.args" "$T/first.args"
	cd "$T/here"
	expect 0 hist rerun 1
	[ "$(cat "$T/engine.pwd")" = "$T/there" ]
	diff <(grep -v kvcache_results_ "$T/first.args") <(grep -v kvcache_results_ "$T/engine.args")
	list_is 'length == 2 and .[0].argv == .[1].argv and .[0].result_dir != .[1].result_dir
		and all(.status == "complete")'
}

@test "10.5 history rerun: words are taken as they were, not split again" {
	expect 0 run_with --cache-dir "$T/two  blanks; \$(touch $T/never) \"quoted\" 'it''s'"
	cp "$T/engine.args" "$T/first.args"
	expect 0 hist rerun 1
	diff <(grep -v kvcache_results_ "$T/first.args") <(grep -v kvcache_results_ "$T/engine.args")
	[ ! -e "$T/never" ]
}

@test "10.5 history rerun: the program's own name is no word of the command" {
	mkdir "$T/elsewhere"
	ln -s "$MLPSTORAGE" "$T/elsewhere/other-name"
	PATH="$T/elsewhere:$PATH" MLPSTORAGE=other-name expect 0 run_with --what-if
	rm -r "$T/elsewhere"
	expect 0 hist rerun 1
	list_is 'length == 2 and all(.argv[0] == "other-name" and .status == "what-if")'
}

@test "history rerun: what-if starts nothing, and is what-if when it is run again" {
	expect 0 run_with
	rm "$T/engine.args"
	expect 0 hist rerun 1 --what-if
	grep -q "^$T/engine --model tiny-1b" "$OUT"
	expect 0 hist rerun 2
	[ ! -e "$T/engine.args" ]
	list_is 'map(.status) == ["what-if", "what-if", "complete"]'
}

@test "10.5 history rerun: an unknown number, no number: exit 2, nothing is made" {
	expect 2 hist rerun 1
	has "$ERR" "[E102] No command found with ID 1"
	[ ! -e "$R" ]
	expect 2 hist rerun
	has "$ERR" "[E101] ID: which run?"
	expect 2 hist rerun 1 2
}

@test "history rerun: the exit code is that of the run" {
	engine 'exit 8'
	expect 8 run_with
	expect 8 hist rerun 1
	list_is 'map(.status) == ["interrupted", "interrupted"]'
}

@test "history rerun: the new run is listed where the old one is, also in a tree that was moved" {
	expect 0 run_with
	mv "$R" "$T/moved"
	R="$T/moved" expect 0 hist rerun 1
	[ ! -e "$R" ]
	R="$T/moved" list_is 'length == 2'
	# without --results-dir it would be the default of the moment
	expect 0 env TMPDIR="$T/moved" "$MLPSTORAGE" kvcache run --cpu-mem-gb 0 --what-if
	R="$T/moved/mlperf_storage_results" expect 0 hist rerun 1
	R="$T/moved/mlperf_storage_results" list_is 'length == 2'
}

@test "history rerun: a directory that is gone, words that were not recorded" {
	mkdir "$T/there"
	cd "$T/there"
	expect 0 run_with --what-if
	cd "$T"
	rmdir "$T/there"
	expect 3 hist rerun 1
	has "$ERR" "it was started in $T/there"
	expect 0 run_with --what-if --cache-dir "$T/$(printf 'caf\351')"
	expect 2 hist rerun 2
	has "$ERR" "the words of run 2 were not recorded"
}

# --- list

@test "history list: newest first, with columns that nothing tears" {
	expect 0 run_with
	expect 0 run_with --model llama3.1-70b-instruct --num-users 100000 --what-if
	expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" -m tiny-1b
	expect 0 hist list
	head -n 1 "$OUT" | grep -Eq '^ *ID  TIME +BENCHMARK +MODEL +COMMAND +USERS +HOSTS +DURATION +STATUS +READ GB/S +RESULT DIRECTORY$'
	local time='[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}'
	sed -n 2p "$OUT" | grep -Eqx " 3  $time  kv_cache   tiny-1b                datasize     100      1         -  complete          -  $R/kv_cache/tiny-1b/datasize/[0-9_]{15}"
	sed -n 3p "$OUT" | grep -Eqx " 2  $time  kv_cache   llama3.1-70b-instruct  run       100000      1      10 s  what-if           -  $R/kv_cache/llama3.1-70b-instruct/run/[0-9_]{15}"
	sed -n 4p "$OUT" | grep -Eqx " 1  $time  kv_cache   tiny-1b                run            5      1      10 s  complete       1.61  $R/kv_cache/tiny-1b/run/[0-9_]{15}"
	[ "$(wc -l <"$OUT")" -eq 4 ]
	expect 0 hist list --color always
	lacks "$OUT" "$(printf '\033')"
}

@test "history list: the true start, not the name that was free" {
	expect 0 run_with --what-if
	for _ in 1 2 3 4 5; do expect 0 run_with --what-if; done
	list_is '[.[].id] == [6, 5, 4, 3, 2, 1] and (map(.result_dir) | unique | length) == 6'
}

@test "history list: filters, limit and JSON" {
	expect 0 run_with
	expect 0 run_with --what-if --model llama3.1-8b
	expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" -m tiny-1b
	expect 0 hist list --json --model tiny-1b
	jq -e 'map(.id) == [3, 1]' "$OUT"
	expect 0 hist list --json --status what-if
	jq -e 'map(.id) == [2]' "$OUT"
	expect 0 hist list --json --command run -n 1
	jq -e 'map(.id) == [2]' "$OUT"
	expect 0 hist list --json --benchmark kv_cache --since 1h
	jq -e 'length == 3' "$OUT"
	expect 0 hist list --json --since "$(date +%Y-%m-%dT%H:%M:%S -d '1 hour')"
	jq -e 'length == 0' "$OUT"
	expect 0 hist list --json --benchmark other
	jq -e '. == []' "$OUT"
	expect 0 hist list --model none
	has "$ERR" "no such runs in $R"
	[ ! -s "$OUT" ]
}

@test "history list: bad filters are told, exit 2" {
	for words in "--since yesterday" "--since 12" "--since 2026-13-40" "--since -1h" "--status done" "--limit x" "word"; do
		expect 2 hist list $words
		grep -q '\[E102\]' "$ERR"
	done
}

@test "history list: values of other layers are not filters" {
	expect 0 run_with --what-if
	expect 0 env MLPSTORAGE_MODEL=llama3.1-8b MLPSTORAGE_LIMIT=0 MLPSTORAGE_RESULTS_DIR="$R" "$MLPSTORAGE" history list --json
	jq -e 'length == 1' "$OUT"
}

@test "history list: metadata that does not parse or lacks a field is listed with the reason" {
	for _ in 1 2 3 4; do expect 0 run_with; done
	echo '{' >"$(metadata_of 1)"
	jq 'del(.num_users) | .status = 5' "$(metadata_of 2)" >"$T/x" && cp "$T/x" "$(metadata_of 2)"
	rm "$(metadata_of 3)"
	rm -r "$(dirname "$(metadata_of 3)")"
	expect 0 hist list
	grep -A1 '^ *1  ' "$OUT" | tail -1 | grep -Eqx "    kv_cache_[0-9_]+_metadata.json is not JSON: line 2: .*"
	grep -A2 '^ *2  ' "$OUT" | grep -Eqx "    kv_cache_[0-9_]+_metadata.json has no 'num_users'"
	grep -A2 '^ *2  ' "$OUT" | grep -Eqx "    kv_cache_[0-9_]+_metadata.json: 'status' is not a text"
	grep -A1 '^ *3  ' "$OUT" | grep -Eqx "    there is no metadata file"
	grep -A1 '^ *4  ' "$OUT" | grep -Eqx "    the run directory is gone"
	list_is 'length == 4 and all(.status == "complete") and all(.problems != [])'
}

@test "history list: a directory without runs stays as it is" {
	mkdir "$R"
	echo text >"$R/file"
	expect 0 hist list
	has "$ERR" "no runs in $R"
	[ "$(ls -A "$R")" = file ]
	expect 0 "$MLPSTORAGE" history list --results-dir "$T/none" --json
	[ "$(cat "$OUT")" = "[]" ]
	[ ! -e "$T/none" ]
}

@test "history list: a list that was lost or damaged comes back from the directories, numbers and all" {
	for users in 1 2 3; do expect 0 run_with --num-users $users; done
	hist list --json >"$T/before"
	rm -r "$R/.mlps"
	hist list --json >"$T/after" 2>"$ERR"
	has "$ERR" "3 runs were missing"
	diff "$T/before" "$T/after"
	hist list --json >"$T/after" 2>"$ERR"
	lacks "$ERR" "missing"
	head -c 300 /dev/urandom | tr '\n' x >"$LEDGER"
	expect 0 run_with --num-users 4
	list_is 'length == 4 and all(.problems == [])'
	diff <(jq -S 'map(select(.num_users < 4) | del(.id))' "$T/list.json") <(jq -S 'map(del(.id))' "$T/before")
}

@test "history list: a tree that may not be written is read all the same" {
	expect 0 run_with --what-if
	rm -r "$R/.mlps"
	if [ "$(id -u)" -eq 0 ]; then
		command -v setpriv >/dev/null || skip "setpriv is missing"
		cp "$MLPSTORAGE" "$T/mlpstorage"
		chmod 755 "$T"
		chmod 777 "$T/tmp"
		expect 0 setpriv --reuid=65534 --regid=65534 --clear-groups "$T/mlpstorage" history list -rd "$R" --json
	else
		chmod 555 "$R"
		expect 0 hist list --json
		chmod 755 "$R"
	fi
	jq -e 'length == 1 and .[0].status == "what-if"' "$OUT"
	has "$ERR" "cannot be written"
	[ ! -e "$R/.mlps" ]
}

@test "history list: a run that goes on is running, one that was killed is interrupted" {
	engine 'touch "$(dirname "$0")/up"; sleep 20'
	"$MLPSTORAGE" kvcache run --model tiny-1b --num-users 5 --cpu-mem-gb 0 --results-dir "$R" \
		--kvcache-bin-path "$T/engine" >/dev/null 2>&1 </dev/null 3>&- &
	local p=$! i
	STARTED+=("$p")
	for ((i = 0; i < 200; i++)); do
		[ ! -e "$T/up" ] || break
		sleep 0.05
	done
	[ -e "$T/up" ]
	list_is '.[0].status == "running" and .[0].num_users == 5 and .[0].problems == []'
	kill -KILL "$p"
	wait "$p" || :
	list_is '.[0].status == "interrupted" and .[0].problems == ["its process is gone and wrote no end"]'
	jq -e '.status == "running"' "$(metadata_of)"
}

# --- many at once, and killed

@test "history: fifty runs at once in one results directory: fifty records, none lost or torn" {
	local pids=() p i
	for ((i = 1; i <= 50; i++)); do
		"$MLPSTORAGE" kvcache run --model tiny-1b --num-users $i --duration 1 --gpu-mem-gb 0 --cpu-mem-gb 0 \
			--storage-backend null --storage-capacity-gb 1 --generation-mode none --workers 1 --seed $i \
			--results-dir "$R" --quiet >/dev/null 2>"$T/err.$i" </dev/null 3>&- &
		pids+=($!)
	done
	for p in "${pids[@]}"; do wait "$p" || :; done
	jq -se 'length == 100 and (map(.id) | unique) == [range(1; 51)] and (map(.dir) | unique | length) == 50' "$LEDGER"
	list_is 'length == 50 and (map(.num_users) | sort) == [range(1; 51)] and all(.problems == [])
		and all(.status == "complete" or .status == "failed")'
	# each found its own directory
	find "$R/kv_cache" -name '*_metadata.json' -exec jq -e '.status != "running"' {} + >/dev/null
	[ "$(find "$R/kv_cache" -name '*_metadata.json' | wc -l)" -eq 50 ]
	[ "$(find "$R/kv_cache" -name 'kvcache_results_*.json' | wc -l)" -eq 50 ]
}
