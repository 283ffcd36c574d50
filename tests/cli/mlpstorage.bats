#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The command line of mlpstorage as a person types it. BUILD_DIR: where the programs were built.

load control

setup() {
	control_setup
}

teardown() {
	control_teardown
}

# --- the top

@test "no argument: help on stderr, exit 1" {
	expect 1 "$MLPSTORAGE"
	has "$ERR" "usage: mlpstorage"
	[ ! -s "$OUT" ]
}

@test "--help at every level: stdout, exit 0" {
	for flag in -h --help; do
		expect 0 "$MLPSTORAGE" $flag
		has "$OUT" "kvcache"
		expect 0 "$MLPSTORAGE" kvcache $flag
		has "$OUT" "datasize"
		expect 0 "$MLPSTORAGE" kvcache run $flag
		has "$OUT" "-nu, --num-users"
		has "$OUT" "-rd, --results-dir"
		has "$OUT" "--kvcache-bin-path"
		expect 0 "$MLPSTORAGE" kvcache datasize --model nonsense $flag
		has "$OUT" "-m, --model"
		[ ! -s "$ERR" ]
	done
}

@test "--version at every level" {
	expect 0 "$MLPSTORAGE" --version
	grep -Eqx 'mlpstorage [0-9]+\.[0-9]+\.[0-9]+' "$OUT"
	cp "$OUT" "$T/version"
	for words in kvcache "kvcache run" "kvcache datasize"; do
		expect 0 "$MLPSTORAGE" $words --version
		cmp "$OUT" "$T/version"
	done
}

into_full() {
	"$@" >/dev/full
}

@test "what cannot be printed is an error at every level" {
	local words
	for words in --help --version "kvcache --help" "kvcache run --help" "kvcache datasize --results-dir $R" \
		"kvcache run --what-if --results-dir $R"; do
		expect 3 into_full "$MLPSTORAGE" $words
		has "$ERR" "[E403] cannot write to standard output: "
	done
}

@test "a benchmark alone: its help on stderr, exit 1" {
	expect 1 "$MLPSTORAGE" kvcache
	has "$ERR" "datasize"
	[ ! -s "$OUT" ]
}

@test "unknown benchmark, command and option: exit 2" {
	expect 2 "$MLPSTORAGE" nonsense
	has "$ERR" "nonsense: no such benchmark"
	expect 2 "$MLPSTORAGE" --nonsense
	expect 2 "$MLPSTORAGE" kvcache nonsense
	has "$ERR" "nonsense: no such command"
	expect 2 "$MLPSTORAGE" kvcache --nonsense
	expect 2 "$MLPSTORAGE" kvcache run --results-dir "$R" --num-user 5
	has "$ERR" "--num-user: unknown option, did you mean --num-users?"
	[ ! -e "$R" ]
}

# --- what is not there yet

@test "benchmarks and commands of other versions are refused" {
	for name in training checkpointing vectordb reports lockfile; do
		expect 2 "$MLPSTORAGE" $name run --model unet3d
		has "$ERR" "[E902] $name: not in this version"
	done
}

@test "options of other versions are refused, with their values" {
	for words in "--enable-rag" "--rag-num-docs 5" \
		"--enable-autoscaling" "--autoscaler-mode qos"; do
		expect 2 "$MLPSTORAGE" kvcache run --results-dir "$R" $words --what-if
		[ "$(grep -c '\[E' "$ERR")" -eq 1 ]
		has "$ERR" ": not in this version"
	done
	[ ! -e "$R" ]
}

@test "datasize has no options of distribution" {
	expect 2 "$MLPSTORAGE" kvcache datasize --results-dir "$R" --hosts a
	has "$ERR" "--hosts: unknown option"
	expect 2 "$MLPSTORAGE" kvcache datasize --results-dir "$R" --duration 5
	has "$ERR" "--duration: unknown option"
}

@test "options by which mlpstorage talks to the engine are not its own" {
	local name
	for name in --frames --host-series-interval=1 --require-space; do
		expect 2 "$MLPSTORAGE" kvcache run -rd "$R" "$name"
		has "$ERR" "${name%%=*}: unknown option"
		[ ! -e "$R" ]
	done
	expect 0 "$MLPSTORAGE" kvcache run --help
	lacks "$OUT" "--frames"
}

# --- options

@test "all violations are told at once, before anything is created" {
	expect 2 "$MLPSTORAGE" kvcache run --results-dir "$R" --num-users 0 --duration x \
		--generation-mode slow --tensor-parallel 4 --enable-rag --loops 0
	has "$ERR" "[E102] --num-users: 0 is out of range, expected 1..100000"
	has "$ERR" "[E102] --duration:"
	has "$ERR" "[E102] --generation-mode:"
	has "$ERR" "[E105] --tensor-parallel:"
	has "$ERR" "[E902] --enable-rag: not in this version"
	has "$ERR" "[E102] --loops:"
	[ ! -e "$R" ]
}

@test "an unknown model is refused" {
	expect 2 "$MLPSTORAGE" kvcache run --results-dir "$R" --model nonsense --what-if
	has "$ERR" "nonsense"
	[ ! -e "$R" ]
}

@test "the option file stands below what is typed, and is checked by line" {
	cat >"$T/options.yaml" <<-'END'
		num_users: 7
		duration: 33
		cpu_mem_gb: 0
		model: tiny-1b
		disable_multi_turn: true
		model_tier: ["cpu:read_gbps=1", "storage:read_gbps=2"]
		seed: null
	END
	expect 0 "$MLPSTORAGE" kvcache run -rd "$R" -c "$T/options.yaml" -nu 9 --what-if
	has "$OUT" "--model tiny-1b --num-users 9 --duration 33 "
	has "$OUT" " --disable-multi-turn"
	has "$OUT" " --model-tier cpu:read_gbps=1 --model-tier storage:read_gbps=2"
	lacks "$OUT" "--seed"
	jq -e '.args.num_users == 9 and .args.duration == 33 and .args_source.num_users == "typed"
	       and .args_source.duration == "file" and .args_source.seed == "default"' "$(metadata)"
}

@test "a bad option file: each line named, exit 2, nothing created" {
	cat >"$T/options.yaml" <<-'END'
		num_users: 0
		enable_rag: true
		nonsense: 1
		config_file: other.yaml
		duration: [1, 2]
	END
	expect 2 "$MLPSTORAGE" kvcache run -rd "$R" -c "$T/options.yaml" --what-if
	has "$ERR" "options.yaml:1: --num-users: 0 is out of range"
	has "$ERR" "options.yaml:2: enable_rag: not in this version"
	has "$ERR" "options.yaml:3: nonsense: no option of 'kvcache run' has this name"
	has "$ERR" "options.yaml:4: config_file:"
	has "$ERR" "options.yaml:5: --duration:"
	expect 2 "$MLPSTORAGE" kvcache run -rd "$R" -c "$T/missing.yaml" --what-if
	has "$ERR" "[E103]"
	printf 'hosts: [[a]]\nmpi_params: {a: b}\n' >"$T/options.yaml"
	expect 2 "$MLPSTORAGE" kvcache run -rd "$R" -c "$T/options.yaml" --what-if
	has "$ERR" "options.yaml:1: --hosts: a list of plain words is expected"
	has "$ERR" "options.yaml:2: --mpi-params: a single value is expected"
	echo '- num_users' >"$T/options.yaml"
	expect 2 "$MLPSTORAGE" kvcache run -rd "$R" -c "$T/options.yaml" --what-if
	has "$ERR" "[E104] $T/options.yaml:1: lines of the form \"option: value\" are expected"
	printf 'a: [1\nb: 2\n' >"$T/options.yaml"
	expect 2 "$MLPSTORAGE" kvcache run -rd "$R" -c "$T/options.yaml" --what-if
	has "$ERR" "[E104]"
	[ ! -e "$R" ]
}

@test "without --results-dir the results are below TMPDIR" {
	expect 0 "$MLPSTORAGE" kvcache run --cpu-mem-gb 0 --what-if
	[ -d "$TMPDIR/mlperf_storage_results/kv_cache/llama3.1-8b/run" ]
}

@test "colour only when asked for; NO_COLOR is not stronger than --color always" {
	local esc
	esc="$(printf '\033')"
	expect 0 "$MLPSTORAGE" kvcache run -rd "$R" --cpu-mem-gb 0 --what-if
	lacks "$ERR" "$esc"
	expect 0 env NO_COLOR=1 "$MLPSTORAGE" kvcache run -rd "$R" --cpu-mem-gb 0 --what-if --color always
	has "$ERR" "$esc"
}

@test "on a terminal NO_COLOR switches colour off" {
	local esc command
	esc="$(printf '\033')"
	command="'$MLPSTORAGE' nonsense"
	TERM=xterm script -qec "$command" /dev/null >"$OUT" </dev/null || true
	has "$OUT" "$esc"
	TERM=xterm NO_COLOR=1 script -qec "$command" /dev/null >"$OUT" </dev/null || true
	has "$OUT" "no such benchmark"
	lacks "$OUT" "$esc"
}

@test "on a terminal: stages and the engine's progress in one line, which is in no file" {
	command -v script >/dev/null || skip "script is missing"
	local run
	TERM=xterm script -qec "'$MLPSTORAGE' kvcache run -rd '$R' --model tiny-1b --num-users 4 --duration 2 \
		--generation-mode none --gpu-mem-gb 0 --cpu-mem-gb 0 --storage-capacity-gb 1" /dev/null >"$OUT" </dev/null
	grep -aq $'\033\\[K\033\\[?7l\\[1/4\\] Validating environment...\033\\[?7h' "$OUT"
	grep -aqE $'\033\\[K\033\\[\\?7l\\[#+-+\\] +[0-9]+ % ' "$OUT"
	grep -aqE $'\033\\[K(\033\\[[0-9;]*m)?[0-9: -]*\\|RESULT: Result: ' "$OUT"
	lacks "$OUT" "Stage "
	run="$(dirname "$(metadata)")"
	[ -s "$run"/kvcache_*.stderr.log ]
	if grep -aq $'\033\\[K' "$run"/kvcache_*.stderr.log; then return 1; fi
	TERM=dumb script -qec "'$MLPSTORAGE' kvcache run -rd '$R' --what-if" /dev/null >"$OUT" </dev/null
	has "$OUT" "STATUS: Stage 1/4: Validating environment..."
	lacks "$OUT" $'\033'
}

@test "not on a terminal: plain lines, and the engine is not told to draw" {
	mkdir "$T/ours"
	stand_in
	cp "$T/engine" "$T/ours/kv-cache"
	expect 0 run_with --kvcache-bin-path "$T/ours/kv-cache"
	has "$ERR" "STATUS: Stage 3/4: Running benchmark..."
	lacks "$ERR" $'\033'
	if grep -q -- --progress "$T/ours/engine.args"; then return 1; fi
	expect 0 run_with --kvcache-bin-path "$T/ours/kv-cache" --progress plain
	grep -qx -- --progress "$T/ours/engine.args"
}

@test "log levels: quiet, level, verbose" {
	stand_in
	expect 0 run_with --quiet
	lacks "$ERR" "STATUS"
	lacks "$ERR" "INFO"
	has "$OUT" "cache is"
	lacks "$T/engine.args" "--quiet" # not our engine: it would not know the option
	expect 0 run_with --stream-log-level STATUS
	has "$ERR" "STATUS: Stage 3/4: Running benchmark..."
	lacks "$ERR" "INFO"
	expect 0 run_with --verbose --what-if
	sed 1d "$OUT" | jq -e '.status == "what-if"'
	mkdir "$T/ours"
	cp "$T/engine" "$T/ours/kv-cache"
	expect 0 run_with --quiet --kvcache-bin-path "$T/ours/kv-cache"
	has "$T/ours/engine.args" "--quiet"
}

@test "every level of the reference has a name; only debugging shows places in the source" {
	local level
	for level in PLAID LUDICROUS RIDICULOUS DEBUG; do
		expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" --stream-log-level $level
		grep -Eq '^[0-9-]{10} [0-9:]{8}\|DEBUG:layers:[0-9]+: model = ' "$ERR"
	done
	for level in VERBOSEST VERBOSER VERBOSE; do
		expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" -nu 3 --stream-log-level $level
		grep -Eq '^[0-9-]{10} [0-9:]{8}\|VERBOSE: num_users = 3' "$ERR"
		lacks "$ERR" DEBUG
	done
	for level in INFO STATUS WARNING RESULT ERROR CRITICAL; do
		expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" --skip-validation --stream-log-level $level
		is_empty "$ERR"
	done
}

# --- what-if

@test "what-if: the quoted command on stdout, nothing started, metadata says so" {
	stand_in 'touch "$(dirname "$0")/started"'
	expect 0 run_with --what-if --cache-dir "$T/a dir" --seed 42 --io-size 64KiB
	[ "$(wc -l <"$OUT")" -eq 1 ]
	[ ! -e "$T/engine.args" ]
	local m run
	m="$(metadata)"
	run="$(dirname "$m")"
	[ "$(ls "$run")" = "$(basename "$m")" ]
	jq -e --rawfile line "$OUT" '.status == "what-if" and .exit_status == 0
	       and .executed_command + "\n" == $line and .command_output_files == []
	       and .cache_dir == "'"$T"'/a dir" and .kvcache_engine.path == "'"$T"'/engine"
	       and .kvcache_engine.found == "--kvcache-bin-path"' "$m"
	# read back by a shell, the line is the argument vector, in the order that other tools know
	sh "$OUT"
	local stamp
	stamp="$(basename "$run")"
	printf '%s\n' --model tiny-1b --num-users 5 --duration 10 --gpu-mem-gb 16.0 --cpu-mem-gb 0.0 \
		--generation-mode realistic --performance-profile latency --cache-dir "$T/a dir" \
		--output "$run/kvcache_results_$stamp.json" --seed 42 --io-size 64KiB >"$T/expected"
	diff "$T/expected" "$T/engine.args"
}

@test "what-if without an engine: a warning, exit 0" {
	mkdir "$T/alone"
	cp "$MLPSTORAGE" "$T/alone/mlpstorage"
	expect 0 env PATH="$T/empty" "$T/alone/mlpstorage" kvcache run -rd "$R" --cpu-mem-gb 0 --what-if
	has "$ERR" "WARNING: [E401] the engine kv-cache was not found"
	grep -q '^kv-cache --model' "$OUT"
	expect 3 env PATH="$T/empty" "$T/alone/mlpstorage" kvcache run -rd "$R/2" --cpu-mem-gb 0
	has "$ERR" "[E401]"
	[ ! -e "$R/2" ]
}

@test "the engine beside mlpstorage, then on PATH" {
	stand_in
	mkdir "$T/alone" "$T/bin"
	cp "$MLPSTORAGE" "$T/alone/mlpstorage"
	cp "$T/engine" "$T/bin/kv-cache"
	expect 0 env PATH="$T/bin:$PATH" "$T/alone/mlpstorage" kvcache run -rd "$R" --cpu-mem-gb 0 --what-if
	grep -q "^$T/bin/kv-cache --model" "$OUT"
	jq -e '.kvcache_engine.found == "PATH"' "$(metadata)"
	cp "$T/engine" "$T/alone/kv-cache"
	expect 0 env PATH="$T/bin:$PATH" "$T/alone/mlpstorage" kvcache run -rd "$R" --cpu-mem-gb 0 --what-if
	grep -q "^$T/alone/kv-cache --model" "$OUT"
}

# --- runs

@test "a stand-in engine from start to end" {
	stand_in
	expect 0 run_with --seed 42
	local m run stamp
	m="$(metadata)"
	run="$(dirname "$m")"
	stamp="$(basename "$run")"
	[ "$run" = "$R/kv_cache/tiny-1b/run/$stamp" ]
	[ "$(basename "$m")" = "kv_cache_${stamp}_metadata.json" ]
	[ -f "$run/kvcache_results_$stamp.json" ]
	grep -qx "cache is $run/kvcache_data" "$run/kvcache_$stamp.stdout.log"
	grep -qx "to the error stream" "$run/kvcache_$stamp.stderr.log"
	has "$OUT" "cache is $run/kvcache_data"
	has "$ERR" "to the error stream"
	[ ! -e "$run/kvcache_data" ] # ours: removed
	jq -e '.benchmark_type == "kv_cache" and .model == "tiny-1b" and .command == "run"
	       and .run_datetime == "'"$stamp"'" and .status == "complete" and .exit_status == 0
	       and .result_dir == "'"$run"'" and .num_processes == null and .accelerator == null
	       and .override_parameters == {} and .verification == null and .runtime > 0
	       and (.system_info.hosts | length) == 1 and (.ended_at | length) == 20' "$m"
	jq -e '.kvcache_model == "tiny-1b" and .num_users == 5 and .duration == 10
	       and .gpu_mem_gb == 16 and .cpu_mem_gb == 0 and .generation_mode == "realistic"
	       and .performance_profile == "latency" and .cache_dir == "'"$run"'/kvcache_data"
	       and .parameters.num_users == 5 and .parameters.seed == 42
	       and (has("hosts") or has("exec_type") | not)' "$m"
	jq -e '.kvcache_metrics == {overall_passed: true, total_requests: 40, avg_latency_ms: 12.5,
	       p99_latency_ms: 99.5, throughput_req_per_sec: 4.0, storage_throughput_mbps: 4.0,
	       storage_read_gb_per_s: null, cache_hit_rate: 0.75}' "$m"
	jq -e '.command_output_files == [{command: .executed_command,
	       stdout: "'"$run/kvcache_$stamp"'.stdout.log",
	       stderr: "'"$run/kvcache_$stamp"'.stderr.log"}]
	       and .kvcache_engine == {path: "'"$T"'/engine", found: "--kvcache-bin-path",
	       exit_status: 0, signal: null}' "$m"
}

@test "while it runs the metadata says so" {
	stand_in 'jq -r .status "$(dirname "$output")"/*_metadata.json > "$(dirname "$0")/status"'
	expect 0 run_with
	[ "$(cat "$T/status")" = running ]
}

@test "a user's cache directory keeps its files" {
	stand_in
	mkdir "$T/mine"
	echo keep >"$T/mine/own.npy"
	expect 0 run_with --cache-dir "$T/mine"
	[ -f "$T/mine/own.npy" ]
	[ -f "$T/mine/kvcache.d/entry.npy" ]
}

@test "--output: a copy, and the run directory stays complete" {
	stand_in
	expect 0 run_with --output "$T/copy.json"
	local run
	run="$(dirname "$(metadata)")"
	cmp "$T/copy.json" "$run"/kvcache_results_*.json
	rm -r "$R"
	expect 3 run_with --output "$T/no/such/dir/copy.json"
	has "$ERR" "--output: there is no directory '$T/no/such/dir'"
	[ ! -e "$R" ] # found out before anything was created
	mkdir "$T/out"
	stand_in 'rm -r "$(dirname "$0")/out"'
	expect 3 run_with --output "$T/out/copy.json"
	has "$ERR" "[E401] --output: cannot copy the result to $T/out/copy.json: No such file or directory"
	has "$ERR" "Suggestion: it is in $(dirname "$(metadata)")/kvcache_results_"
	jq -e '.status == "failed" and .exit_status == 3 and .kvcache_metrics.total_requests == 40' "$(metadata)"
}

@test "a results directory that is full at the end: said as that, and the run is not taken for a complete one" {
	[ "$(id -u)" -eq 0 ] || skip "not root"
	mkdir "$R"
	mount -t tmpfs -o size=4m tmpfs "$R" || skip "cannot mount a tmpfs here"
	stand_in 'head -c 8M /dev/zero >"$(dirname "$0")/results/fill" || :'
	local rc=0
	expect 3 run_with --skip-validation --skip-timeseries || rc=1
	cp -r "$R" "$T/kept" || rc=1
	umount "$R"
	[ "$rc" -eq 0 ]
	has "$ERR" "[E403] cannot write $R/kv_cache/"
	rm "$T/kept/fill"
	expect 0 "$MLPSTORAGE" history list -rd "$T/kept" --json
	jq -e 'length == 1 and (.[0].status == "failed" or .[0].status == "interrupted")' "$OUT"
}

@test "--loops: a run directory each, stopping at the first failure" {
	stand_in
	expect 0 run_with --loops 3
	[ "$(find "$R" -name '*_metadata.json' | wc -l)" -eq 3 ]
	stand_in 'exit 1'
	expect 6 run_with --loops 3
	[ "$(find "$R" -name '*_metadata.json' | wc -l)" -eq 4 ]
}

@test "the engine's exit status and ours" {
	local pair
	for pair in 0:0:complete 1:6:failed 2:2:failed 3:3:failed 5:6:failed 8:8:interrupted; do
		IFS=: read -r theirs ours state <<<"$pair"
		stand_in "exit $theirs"
		expect "$ours" run_with
		jq -e '.status == "'"$state"'" and .exit_status == '"$ours"'
		       and .kvcache_engine.exit_status == '"$theirs"'
		       and .kvcache_metrics.total_requests == 40' "$(metadata)"
		rm -r "$R"
	done
	has "$ERR" "[E203]"
}

@test "an engine that is killed: exit 6, and the signal is told" {
	stand_in 'kill -9 $$'
	expect 6 run_with
	has "$ERR" "signal 9"
	jq -e '.status == "failed" and .kvcache_engine == {path: "'"$T"'/engine",
	       found: "--kvcache-bin-path", exit_status: null, signal: 9}' "$(metadata)"
}

@test "an engine that leaves no result, or none that can be read: exit 6" {
	stand_in 'rm "$output"'
	expect 6 run_with
	has "$ERR" "[E201] cannot read the result file"
	jq -e '.status == "failed" and (has("kvcache_metrics") | not)' "$(metadata)"
	stand_in 'echo "{" > "$output"'
	expect 6 run_with
	has "$ERR" "is not JSON"
}

@test "an engine that completed no request: exit 6 though it said 0" {
	stand_in 'echo "{\"requests_completed\": 0}" > "$output"'
	expect 6 run_with
	has "$ERR" "no request"
	jq -e '.status == "failed" and .kvcache_metrics.total_requests == null' "$(metadata)"
}

@test "an engine in Python runs through python3" {
	command -v python3 || skip "no python3 here"
	cat >"$T/engine.py" <<-'END'
		import json, sys
		out = sys.argv[sys.argv.index("--output") + 1]
		with open(out, "w") as f:
		    json.dump({"summary": {"total_requests": 3}}, f)
		print("from", sys.version_info.major)
	END
	expect 0 run_with --kvcache-bin-path "$T/engine.py"
	has "$OUT" "from 3"
	jq -e '.executed_command | startswith("python3 '"$T"'/engine.py --model tiny-1b")' "$(metadata)"
}

@test "a wrong engine path is an error, never replaced" {
	expect 3 run_with --kvcache-bin-path "$T/missing"
	has "$ERR" "[E401] --kvcache-bin-path: no such program: $T/missing"
	has "$ERR" "    Suggestion: "
	touch "$T/plain"
	expect 3 run_with --kvcache-bin-path "$T/plain"
	has "$ERR" "[E402]"
	[ ! -e "$R" ]
}

@test "results cannot be made: exit 3, the path is named" {
	stand_in
	echo >"$T/file"
	expect 3 run_with --results-dir "$T/file/results"
	has "$ERR" "[E404] cannot create the directory $T/file/results"
	[ ! -e "$T/engine.args" ]
	[ "$(id -u)" -ne 0 ] || return 0
	mkdir -m 555 "$T/closed"
	expect 3 run_with --results-dir "$T/closed"
	has "$ERR" "[E402]"
}

@test "a memory tier that does not fit is refused before anything is created" {
	stand_in
	expect 3 run_with --cpu-mem-gb 131072
	has "$ERR" "[E403] --cpu-mem-gb 131072"
	grep -q -- 'Suggestion: --cpu-mem-gb [0-9]* fits' "$ERR"
	[ ! -e "$R" ]
	expect 0 run_with --cpu-mem-gb 131072 --skip-validation
	expect 0 run_with --cpu-mem-gb 131072 --what-if
	has "$ERR" "WARNING: [E403]"
}

@test "runs that start together have directories of their own" {
	stand_in
	local pids="" p
	for i in 1 2 3 4 5 6; do
		run_with >/dev/null 2>&1 &
		pids="$pids $!"
	done
	for p in $pids; do wait "$p"; done
	[ "$(find "$R" -name '*_metadata.json' | wc -l)" -eq 6 ]
	find "$R" -name '*_metadata.json' -exec jq -e '.status == "complete"' {} +
}

# --- signals

# Start a run whose engine waits; sets PID when the engine is up. Signals are not ignored in it.
start_waiting() {
	stand_in "$1"
	rm -f "$T/up"
	env --default-signal=INT,TERM "$MLPSTORAGE" kvcache run --model tiny-1b --cpu-mem-gb 0 \
		--storage-capacity-gb 1 --results-dir "$R" --kvcache-bin-path "$T/engine" >"$OUT" 2>"$ERR" </dev/null 3>&- &
	PID=$!
	for _ in $(seq 200); do
		[ -e "$T/up" ] && return 0
		sleep 0.05
	done
	cat "$OUT" "$ERR"
	return 1
}

@test "a first signal stops the engine softly: exit 8, metadata interrupted" {
	local sig rc
	for sig in INT TERM; do
		start_waiting 'trap "exit 8" INT TERM
touch "$(dirname "$0")/up"
while :; do sleep 0.05; done'
		kill -$sig $PID
		rc=0
		wait $PID || rc=$?
		[ "$rc" -eq 8 ]
		has "$ERR" "[E203]"
		jq -e '.status == "interrupted" and .exit_status == 8
		       and .kvcache_metrics.total_requests == 40' "$(metadata)"
		[ ! -e "$(dirname "$(metadata)")/kvcache_data" ]
		rm -r "$R"
	done
}

@test "a second signal kills it at once: exit 8, metadata interrupted" {
	local rc=0
	start_waiting 'trap "touch \"$(dirname "$0")/asked\"" INT
touch "$(dirname "$0")/up"
while :; do sleep 0.05; done'
	kill -INT $PID
	for _ in $(seq 200); do
		[ -e "$T/asked" ] && break
		sleep 0.05
	done
	[ -e "$T/asked" ]
	sleep 0.7 # sooner it would count as the same signal
	kill -INT $PID
	wait $PID || rc=$?
	[ "$rc" -eq 8 ]
	jq -e '.status == "interrupted" and .kvcache_engine.signal == 9' "$(metadata)"
}

@test "when mlpstorage is killed, the engine does not stay" {
	start_waiting 'echo $$ > "$(dirname "$0")/pid"
touch "$(dirname "$0")/up"
while :; do sleep 0.05; done'
	kill -9 $PID
	wait $PID || true
	for _ in $(seq 200); do
		kill -0 "$(cat "$T/pid")" 2>/dev/null || break
		sleep 0.05
	done
	if kill -0 "$(cat "$T/pid")" 2>/dev/null; then return 1; fi
	jq -e '.status == "running"' "$(metadata)" # whole, and tells a run that never ended
}

# --- datasize

@test "datasize: true figures, and the reference's beside them" {
	expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" --cache-dir "$T"
	grep -Eq '^Bytes per token +131072 +4096$' "$OUT"
	grep -Eq '^Entry, largest +3125.00 MiB +-$' "$OUT"
	grep -Eq '^Working set, one user +[0-9.]+ MiB +32.00 MiB$' "$OUT"
	grep -Eq '^Recommended GPU memory +[0-9.]+ GiB +16.0 GiB$' "$OUT"
	grep -Eq '^Recommended CPU memory +[0-9.]+ GiB +32.0 GiB$' "$OUT"
	grep -Eq '^Recommended storage +[0-9.]+ GiB +6.2 GiB$' "$OUT"
	grep -Eq "^Free space for $T: [0-9.]+ GiB of" "$OUT"
	jq -e '.command == "datasize" and .status == "complete" and .system_info == null
	       and .datasize.true.bytes_per_token == 131072
	       and .datasize.reference.user_bytes == 33554432
	       and .datasize.true.all_bytes == .datasize.true.user_bytes * 100' "$(metadata)"
}

@test "datasize: the mean follows the workload's templates" {
	cat >"$T/workload.yaml" <<-'END'
		user_templates:
		  chatbot: {context_range: [100, 100]}
		  coding: {context_range: [100, 100]}
		  document: {context_range: [100, 100]}
	END
	expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" -m tiny-1b -nu 2 --config "$T/workload.yaml"
	# a draw is 25..100, so 62.5 tokens of 24576 bytes; conversations of five turns in the mean
	jq -e '.datasize.true | .tokens == 62.5 and .entry_bytes == 1536000
	       and .entry_max_bytes == 2457600 and .entries_per_user > 4.99 and .entries_per_user < 5
	       and (.all_bytes - 2 * 1536000 * .entries_per_user | fabs) < 1' "$(metadata)"
}

@test "datasize: too little space is a warning, not a failure" {
	expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" -m llama3.1-70b-instruct -nu 100000
	has "$ERR" "does not fit there"
	expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" -nu 100000 --skip-validation
	lacks "$ERR" "does not fit there"
}

@test "--interval: the series lies in the run directory, adds up, and is named" {
	local run series
	expect 0 "$MLPSTORAGE" kvcache run --results-dir "$R" --model tiny-1b --num-users 5 --duration 2 --generation-mode none \
		--gpu-mem-gb 0 --cpu-mem-gb 0 --storage-capacity-gb 1 --storage-backend null --interval 0.5
	run="$(dirname "$(metadata)")"
	series="$(echo "$run"/kvcache_results_*_interval.ndjson)"
	jq -e --arg s "$series" '.interval_files == [$s]' "$(metadata)"
	jq -e --arg s "$series" '.run.interval_file == $s' "$run"/kvcache_results_*.json
	[ "$(jq -cs --slurpfile r "$(echo "$run"/kvcache_results_*.json)" -f "$BATS_TEST_DIRNAME/../intervals.jq" "$series")" = "[]" ]
	[ "$(jq -s length "$series")" -eq 4 ]

	rm -r "$R"
	expect 0 "$MLPSTORAGE" kvcache run --results-dir "$R" --model tiny-1b --num-users 5 --duration 1 --generation-mode none \
		--gpu-mem-gb 0 --cpu-mem-gb 0 --storage-backend null --interval 0.5 --interval-file "$T/own.ndjson"
	jq -e --arg s "$T/own.ndjson" '.interval_files == [$s]' "$(metadata)"
	[ "$(jq -s length "$T/own.ndjson")" -eq 2 ]
	expect 0 "$MLPSTORAGE" kvcache run --results-dir "$T/none" --model tiny-1b --num-users 5 --duration 1 --generation-mode none \
		--gpu-mem-gb 0 --cpu-mem-gb 0 --storage-backend null
	jq -e 'has("interval_files") | not' "$(find "$T/none" -name '*_metadata.json')"
}
