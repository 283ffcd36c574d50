#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Where a value comes from when it is not typed, and what the divisions allow.

load control

setup() {
	control_setup
	mkdir -p "$T/config/mlpstorage"
	USER_FILE="$T/config/mlpstorage/config.yaml"
	SHOW=("$MLPSTORAGE" kvcache run -rd "$R" --what-if)
}

teardown() {
	control_teardown
}

# jq over the only metadata must be true.
recorded() {
	jq -e "$@" "$(metadata)" >/dev/null || {
		echo "not true of the metadata: $*"
		jq -c '{args, args_source, division, verification, verification_issues}' "$(metadata)"
		return 1
	}
}

# --- layers

@test "typed, file, environment, user, default: the strongest wins and is named" {
	echo "results_dir: $T/user" >"$USER_FILE"
	echo "color: never" >>"$USER_FILE"
	echo "stream_log_level: DEBUG" >>"$USER_FILE"
	printf 'duration: 20\nnum_users: 20\nstream_log_level: STATUS\n' >"$T/o.yaml"
	export MLPSTORAGE_NUM_USERS=10 MLPSTORAGE_MODEL=tiny-1b MLPSTORAGE_RESULTS_DIR="$T/environment" \
		MLPSTORAGE_DURATION=10
	expect 0 "${SHOW[@]}" --config-file "$T/o.yaml" --num-users 30
	has "$OUT" "--model tiny-1b --num-users 30 --duration 20 "
	recorded '.args_source | .num_users == "typed" and .duration == "file" and .model == "environment"
	          and .color == "user" and .stream_log_level == "file" and .results_dir == "typed"
	          and .seed == "default"'
	recorded '.args.stream_log_level == "STATUS" and .args.results_dir == "'"$R"'"'
	expect 0 "$MLPSTORAGE" kvcache run --what-if
	[ -d "$T/environment" ]
	unset MLPSTORAGE_RESULTS_DIR
	expect 0 "$MLPSTORAGE" kvcache run --what-if
	[ -d "$T/user" ]
}

@test "the environment may name the option file, and lists are replaced, not mixed" {
	echo 'model_tier: ["cpu:read_gbps=1", "storage:read_gbps=2"]' >"$T/o.yaml"
	export MLPSTORAGE_CONFIG_FILE="$T/o.yaml" MLPSTORAGE_MODEL_TIER=storage:read_gbps=3
	expect 0 "${SHOW[@]}"
	has "$OUT" " --model-tier cpu:read_gbps=1 --model-tier storage:read_gbps=2"
	lacks "$OUT" "read_gbps=3"
	expect 0 "${SHOW[@]}" --model-tier cpu:read_gbps=9
	has "$OUT" " --model-tier cpu:read_gbps=9"
	lacks "$OUT" "storage:read_gbps=2"
}

@test "without XDG_CONFIG_HOME the person's file is below HOME; none is fine" {
	unset XDG_CONFIG_HOME
	mkdir -p "$T/person/.config/mlpstorage"
	echo 'stream_log_level: ERROR' >"$T/person/.config/mlpstorage/config.yaml"
	HOME="$T/person" expect 0 "${SHOW[@]}"
	recorded '.args.stream_log_level == "ERROR" and .args_source.stream_log_level == "user"'
	rm -r "$R"
	HOME="$T/nowhere" expect 0 "${SHOW[@]}"
	recorded '.args_source.stream_log_level == "default"'
}

@test "a person's file that is there and cannot be read is an error; where one may not even look it does not count" {
	rm -f "$USER_FILE"
	mkdir "$USER_FILE"
	expect 2 "${SHOW[@]}"
	has "$ERR" "[E103] cannot read $USER_FILE: Is a directory"
	has "$ERR" "Suggestion: it may say where to run, so it is not passed over: make it readable"
	[ ! -e "$R" ]
	rmdir "$USER_FILE"
	ln -s config.yaml "$USER_FILE" # as a directory that may not be searched, but for root too
	expect 0 "${SHOW[@]}"
	has "$ERR" "WARNING: $USER_FILE: Too many levels of symbolic links; if it is there, it does not count"
}

@test "a person's file and home without permission" {
	echo 'stream_log_level: DEBUG' >"$USER_FILE"
	cp "$MLPSTORAGE" "$T/mlpstorage"
	chmod 755 "$T" "$T/config" "$T/config/mlpstorage"
	chmod 600 "$USER_FILE"
	local other=(setpriv --reuid=65534 --regid=65534 --clear-groups "$T/mlpstorage" history list -rd "$R")
	[ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null || skip "not root, or setpriv is missing"
	expect 2 "${other[@]}"
	has "$ERR" "[E103] cannot read $USER_FILE: Permission denied"
	chmod 700 "$T/config"
	expect 0 "${other[@]}"
	has "$ERR" "WARNING: $USER_FILE: Permission denied; if it is there, it does not count"
}

@test "a wrong value is an error in every layer, also where a stronger one hides it; all are told at once" {
	printf 'num_users: 0\nduration: x\n\ngeneration_mode: slow\nduratoin: 5\n' >"$T/o.yaml"
	echo 'color: green' >"$USER_FILE"
	export MLPSTORAGE_NUM_USERS=many MLPSTORAGE_CPU_MEM_GB=-1
	expect 2 "${SHOW[@]}" -c "$T/o.yaml" --num-users 30 --seed x
	has "$ERR" "[E102] $T/o.yaml:1: --num-users: 0 is out of range, expected 1..100000"
	has "$ERR" "[E102] $T/o.yaml:2: --duration: \"x\" is not a whole number"
	has "$ERR" "[E102] $T/o.yaml:4: --generation-mode: \"slow\" is not known, expected one of none, fast, realistic"
	has "$ERR" "[E102] $T/o.yaml:5: duratoin: no option of 'kvcache run' has this name (did you mean 'duration'?)"
	has "$ERR" "[E102] $USER_FILE:1: --color: \"green\" is not known, expected one of auto, always, never"
	has "$ERR" "[E102] MLPSTORAGE_NUM_USERS: --num-users: \"many\" is not a whole number"
	has "$ERR" "[E102] MLPSTORAGE_CPU_MEM_GB: --cpu-mem-gb: -1 is out of range, expected 0..131072"
	has "$ERR" "[E102] --seed: \"x\""
	[ "$(grep -c '\[E' "$ERR")" -eq 8 ]
	[ ! -e "$R" ]
}

@test "a person's own file may not say what is run, and may hold keys of other benchmarks" {
	printf 'systemname: here\ndata_dir: /data\n' >"$USER_FILE"
	expect 0 "${SHOW[@]}"
	lacks "$ERR" "config.yaml"
	echo 'num_users: 5' >>"$USER_FILE"
	expect 2 "${SHOW[@]}"
	has "$ERR" "$USER_FILE:3: num_users: says what is run"
	printf 'enable_rag: true\n' >"$USER_FILE"
	expect 2 "${SHOW[@]}"
	has "$ERR" "$USER_FILE:1: enable_rag: not in this version"
	printf 'colour: never\n' >"$USER_FILE"
	expect 0 "${SHOW[@]}"
	has "$ERR" "WARNING: $USER_FILE:1: colour: no option has this name (did you mean 'color'?)"
}

@test "a person's own file may say where: hosts, launcher, its parameters" {
	cat >"$USER_FILE" <<-'END'
		hosts: [here1, here2]
		exec_type: mpi
		mpi_bin: mpiexec
		oversubscribe: true
		allow_run_as_root: true
		mpi_params: --tag-output
		mpi_btl: tcp
	END
	MPI_EXEC_BIN=/nowhere/mpiexec expect 0 "${SHOW[@]}" --skip-validation
	has "$OUT" "/nowhere/mpiexec -n 2 "
	has "$OUT" " --tag-output "
	recorded '.args_source | .hosts == "user" and .mpi_bin == "user" and .mpi_params == "user" and .exec_type == "user"'
	rm -r "$R"
	expect 0 "${SHOW[@]}" --exec-type local --skip-validation
	lacks "$OUT" "mpiexec"
	recorded '.args_source.exec_type == "typed"'
}

@test "variables: refused ones are errors, unknown ones warnings, those of other commands and empty ones nothing" {
	MLPSTORAGE_ENABLE_RAG=1 expect 2 "${SHOW[@]}"
	has "$ERR" "[E902] MLPSTORAGE_ENABLE_RAG: not in this version"
	MLPSTORAGE_NUM_USER=5 MLPSTORAGE_SYSTEMNAME=x MLPSTORAGE_SEED= expect 0 "${SHOW[@]}" --skip-validation
	has "$ERR" "WARNING: MLPSTORAGE_NUM_USER: no option has this name (did you mean 'num_users'?)"
	[ "$(grep -c WARNING "$ERR")" -eq 1 ]
	MLPSTORAGE_DURATION=5 expect 0 "$MLPSTORAGE" kvcache datasize -rd "$T/other"
	lacks "$ERR" "MLPSTORAGE_DURATION"
	MLPS_DEBUG=true expect 0 "$MLPSTORAGE" kvcache datasize -rd "$T/other"
	grep -Eq "\|VERBOSE:layers:[0-9]+: debug = true \(environment\)" "$ERR"
}

@test "--verbose tells what is not a default and why, --debug every value" {
	MLPSTORAGE_NUM_USERS=7 expect 0 "${SHOW[@]}" --verbose --model tiny-1b
	has "$ERR" "VERBOSE: num_users = 7 (environment)"
	has "$ERR" "VERBOSE: model = tiny-1b (typed)"
	lacks "$ERR" "(default)"
	expect 0 "${SHOW[@]}" --debug
	has "$ERR" "num_users = 100 (default)"
	has "$ERR" "seed = (unset) (default)"
}

# --- divisions

CLOSED=(--closed --model llama3.1-8b --num-users 100 --duration 300 --gpu-mem-gb 0 --cpu-mem-gb 4
	--max-concurrent-allocs 16 --generation-mode none --seed 42)

@test "without --open or --closed nothing is judged" {
	expect 0 "${SHOW[@]}" --duration 5
	recorded '.division == null and .verification == null and .verification_issues == []'
	rm -r "$R"
	expect 0 "${SHOW[@]}" --duration 5 -aip
	has "$ERR" "nothing is judged"
	recorded '.verification == null and .args.allow_invalid_params == true'
}

@test "--closed takes the three runs of the closed division" {
	local users model cpu allocs
	while read -r model users cpu allocs; do
		rm -rf "$R"
		expect 0 "${SHOW[@]}" "${CLOSED[@]}" --model "$model" --num-users "$users" --cpu-mem-gb "$cpu" \
			--max-concurrent-allocs "$allocs" --cache-dir "$T/cache" --progress off --rank-timeout 90
		recorded '.division == "closed" and .verification == "CLOSED" and .verification_issues == []'
	done <<-'END'
		llama3.1-8b 200 0 16
		llama3.1-8b 100 4 16
		llama3.1-70b-instruct 70 0 4
	END
}

@test "--closed refuses anything else, naming each difference: exit 1, nothing created" {
	expect 1 "${SHOW[@]}" "${CLOSED[@]}" --num-users 90 --seed 1 --io-depth 64
	has "$ERR" '[E302] --closed, nearest run "Storage Throughput": --num-users 90, expected 100'
	has "$ERR" "--seed: expected 42"
	has "$ERR" "--io-depth may not be changed"
	[ "$(grep -c '\[E302\]' "$ERR")" -eq 3 ]
	has "$ERR" "Suggestion: --open takes any parameters"
	expect 1 "${SHOW[@]}" "${CLOSED[@]}" --num-users 90 -aip
	[ ! -e "$R" ]
}

@test "--open takes any parameters of a valid run" {
	expect 0 "${SHOW[@]}" --open --num-users 3 --duration 30
	recorded '.division == "open" and .verification == "OPEN"'
}

@test "what no division allows is refused, or recorded as INVALID with --allow-invalid-params" {
	expect 1 "${SHOW[@]}" --open --duration 29
	has "$ERR" "[E301] not a valid run: --duration 29, expected at least 30"
	expect 1 "${SHOW[@]}" --closed --storage-backend null
	has "$ERR" "nothing is stored"
	[ ! -e "$R" ]
	expect 0 "${SHOW[@]}" --open --duration 29 --allow-invalid-params
	has "$ERR" "WARNING: [E301] not a valid run: --duration 29"
	recorded '.verification == "INVALID" and (.verification_issues | length) == 1'
}

@test "--open and --closed exclude each other" {
	expect 2 "${SHOW[@]}" --open --closed
	has "$ERR" "[E105] --open, --closed:"
}
