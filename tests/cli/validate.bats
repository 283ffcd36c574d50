#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is found out before a run, all of it at once.

load control

setup() {
	control_setup
}

teardown() {
	control_teardown
}

@test "everything that is wrong is told at once, numbered, each with a way out; nothing is created" {
	expect 3 run_with --kvcache-bin-path "$T/missing" --cpu-mem-gb 100000 --output "$T/no/r.json" \
		--model llama3.1-70b-instruct --num-users 100000 --cache-dir "$T/cache"
	has "$ERR" "ERROR: 1. [E401] --kvcache-bin-path: no such program: $T/missing"
	has "$ERR" "ERROR: 2. [E401] --output: there is no directory"
	has "$ERR" "ERROR: 3. [E403] --cpu-mem-gb 100000: this machine has"
	has "$ERR" "ERROR: 4. [E403] too little space in $T/cache:"
	has "$ERR" "ERROR: 4 problems; nothing was started"
	[ "$(grep -c "    Suggestion: " "$ERR")" -ge 4 ]
	lacks "$ERR" "Stage 2"
	[ ! -e "$R" ]
	[ ! -e "$T/cache" ]
}

@test "in what-if the same are warnings, and the command is shown" {
	expect 0 run_with --kvcache-bin-path "$T/missing" --cpu-mem-gb 100000 --num-users 100000 \
		--model llama3.1-70b-instruct --cache-dir "$T/cache" --what-if
	has "$ERR" "WARNING: [E401] --kvcache-bin-path: no such program: $T/missing"
	has "$ERR" "WARNING: [E403] --cpu-mem-gb 100000"
	has "$ERR" "WARNING: [E403] too little space"
	lacks "$ERR" "ERROR"
	has "$OUT" "$T/missing --model llama3.1-70b-instruct --num-users 100000 "
	[ ! -e "$T/cache" ]
}

@test "too little space: --storage-capacity-gb says that evictions are meant, --skip-validation that nobody asks" {
	local large=(--model llama3.1-70b-instruct --num-users 100000)
	stand_in
	expect 3 run_with "${large[@]}"
	has "$ERR" "[E403] too little space in $R:"
	grep -Eq 'Suggestion: .*--storage-capacity-gb [0-9]+ ' "$ERR"
	expect 0 run_with "${large[@]}" --storage-capacity-gb 0.1
	expect 0 run_with "${large[@]}" --skip-validation
	expect 0 run_with "${large[@]}" --storage-backend null
	expect 0 run_with "${large[@]}" --simulate
}

@test "results and cache on one file system: a warning, unless nothing is stored or nobody wants to know" {
	stand_in
	expect 0 run_with --cache-dir "$T/cache"
	has "$ERR" "WARNING: [E404] results and cache are on the same file system"
	expect 0 run_with --cache-dir "$T/cache" --simulate
	lacks "$ERR" "same file system"
	expect 0 run_with --cache-dir "$T/cache" --skip-validation
	lacks "$ERR" "same file system"
	[ "$(stat -c %d /dev/shm)" != "$(stat -c %d "$T")" ] || return 0
	R="$(mktemp -d /dev/shm/mlpstorage-test.XXXXXX)"
	expect 0 run_with --cache-dir "$T/cache"
	rm -r "$R"
	lacks "$ERR" "same file system"
}
