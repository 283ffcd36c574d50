#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What the user sees when things fail: faults from a plan, each with its class, count, path and offset, and real ones - a disk that
# does not answer, fails, or goes away under a run.

load ../cli/engine

setup() {
	engine_setup
	need_disk
	need_numpy
	# Users in a hurry with entries of 0.2 to 1.2 MiB, in a tier that holds some of them.
	printf 'user_templates:\n' >"$T/quick.yaml"
	printf '  %s: {context_range: [8, 48], think_time_range: [0.01, 0.05]}\n' chatbot coding document >>"$T/quick.yaml"
	RUN=("${SMALL[@]}" --config "$T/quick.yaml" --io-size 64KiB --storage-capacity-gb 0.03 --duration 20 --max-requests 100 --drain-timeout 1)
}

teardown() {
	engine_teardown
}

# plan FAULT...: one rule a word, in YAML's braces
plan() {
	printf 'seed: 5\nfaults:\n' >"$T/plan.yaml"
	printf '  - {%s}\n' "$@" >>"$T/plan.yaml"
	PLAN=(--fault-plan "$T/plan.yaml")
}

# What holds for a run in which something failed: it ended by itself, said what, and spoilt nothing else.
spoilt() {
	local class="$1" times="$2"
	has "$ERR" "ERROR - $class, $times times, first: "
	has "$ERR" "the result is not valid: $times I/O or data errors"
	has "$OUT" "$times x $class; the first: "
	result --arg c "$class" --argjson n "$times" '.errors.by_class == {($c): $n} and .errors.total == $n'
	result '.state == "complete" and .valid == false and .requests_completed > 0'
	result '.measured.requests | .offered == .completed + .failed + .cancelled + .queued_at_end'
	result '.requests_failed == .measured.requests.failed and .measured.requests.response_latency_ms.count == .requests_completed'
}

# The first error names the file, and where there is one, the offset.
names_file() {
	result --arg dir "$CACHE/kvcache.d/kvc-" 'all(.errors.first[]; contains($dir))'
	[ "$1" != offset ] || result 'all(.errors.first[]; test("\\.npy offset [0-9]+: "))'
}

# A fault that strikes three operations, in a run that leaves nothing half-made. Chunks of one entry fail as one: these are far apart.
three_times() {
	local op="$1" name="$2" rule="fault: error, error: $2, tier: storage, operation: $1"
	shift 2
	case "$op" in
	read | write) plan "$rule, nth: 2" "$rule, nth: 150" "$rule, nth: 300" ;;
	*) plan "$rule, nth: 2, count: 3" ;;
	esac
	expect 1 "$KV" "${RUN[@]}" "${PLAN[@]}" "$@"
	spoilt "storage $op: $name" 3
	names_file "$([ "$op" != read ] && [ "$op" != write ] || echo offset)"
	check_arrays cache/kvcache.d 0
}

@test "an error of each operation: class, count, path and offset; nothing is half-made" {
	local op
	for op in create write commit open close delete; do
		three_times "$op" EIO
	done
	three_times write ENOSPC --io-engine threads
	three_times read EBADMSG --io-mode buffered
	three_times sync EIO --io-mode buffered --io-size 1MiB --storage-capacity-gb 2 --config workload-v3.yaml --duration 3 --max-requests 0
}

@test "removed at the end: --cleanup leaves nothing, whatever failed" {
	plan "fault: error, rate: 0.02" "fault: torn, operation: write, rate: 0.02" "fault: hang, operation: commit, nth: 20"
	expect 1 "$KV" "${RUN[@]}" "${PLAN[@]}" --cleanup
	result '.errors.total > 5 and .requests_failed > 0 and .requests_completed > 0'
	[ -z "$(ls -A cache)" ]
}

@test "EAGAIN and EINTR: continued 15 times, an error the 16th; short transfers are continued" {
	local engine fault name
	for engine in uring threads; do
		for fault in again interrupt; do
			name="$([ "$fault" = again ] && echo EAGAIN || echo EINTR)"
			plan "fault: $fault, operation: [read, write, commit], nth: 3, count: 4, attempts: 15"
			expect 0 "$KV" "${RUN[@]}" "${PLAN[@]}" --io-engine "$engine"
			result '.valid and .errors.total == 0 and .retries == 60 and .requests_failed == 0'
			plan "fault: $fault, operation: read, nth: 3, count: 1, attempts: 16"
			expect 1 "$KV" "${RUN[@]}" "${PLAN[@]}" --io-engine "$engine"
			spoilt "storage read: $name" 1
			names_file offset
		done
		plan "fault: short, rate: 0.5, attempts: 2"
		expect 0 "$KV" "${RUN[@]}" "${PLAN[@]}" --io-engine "$engine" --verify full
		result '.valid and .retries > 20 and .measured.verified_blocks > 0'
		check_arrays cache/kvcache.d 1
	done
}

@test "a slow disk is not the client's fault: not client-bound" {
	# Every read and write of real files takes 50 ms longer; a few users, so that a busy machine keeps no worker waiting.
	plan "fault: delay, delay_ms: 50, rate: 1, tier: storage, operation: [read, write]"
	expect 0 "$KV" "${RUN[@]}" "${PLAN[@]}" --num-users 2 --duration 3 --max-requests 0 --workers 1 --io-depth 4
	result '.measured.storage | .write_bytes > 0 and .read_bytes > 0'
	result '.verdicts.client_bound.value == false and (.verdicts.client_bound.why | contains("of a CPU"))'
}

@test "a delay only costs time" {
	plan "fault: delay, delay_ms: 30, rate: 0.1"
	expect 0 "$KV" "${RUN[@]}" "${PLAN[@]}"
	result '.valid and .errors.total == 0 and .measured.storage.read_device_latency_ms.max > 30'
	has "$ERR" "fault delay (line 3): struck "
}

@test "damaged data: found by the stamps, a flipped bit of payload by --verify full alone" {
	local fault op
	for fault in stale swap "bit_flip, part: stamp"; do
		for op in read write; do
			plan "fault: $fault, operation: $op, rate: 0.02, tier: storage"
			expect 1 "$KV" "${RUN[@]}" "${PLAN[@]}"
			result '.errors.by_class | keys == ["storage read: data mismatch"]'
			result '.requests_failed > 0 and .requests_completed > 0'
			names_file offset
		done
	done
	plan "fault: stale, operation: read, nth: 5"
	expect 1 "$KV" "${RUN[@]}" "${PLAN[@]}"
	spoilt "storage read: data mismatch" 1
	result 'all(.errors.first[]; test("expected key (?<k>[0-9a-f]+) generation (?<g>[0-9]+) .*, found key \\k<k> generation [0-9]+ "))'
	plan "fault: torn, operation: write, rate: 0.05"
	expect 1 "$KV" "${RUN[@]}" "${PLAN[@]}"
	result 'all(.errors.first[]; contains("found a block this program did not write"))'
	check_arrays cache/kvcache.d 0

	plan "fault: bit_flip, part: payload, operation: read, nth: 5"
	expect 0 "$KV" "${RUN[@]}" "${PLAN[@]}"
	expect 1 "$KV" "${RUN[@]}" "${PLAN[@]}" --verify full
	spoilt "storage read: data mismatch" 1
	result 'all(.errors.first[]; contains("found its stamp but content that does not match its hash"))'
}

@test "damage in memory is found there" {
	plan "fault: bit_flip, part: stamp, tier: cpu, operation: write, rate: 0.05"
	expect 1 "$KV" "${RUN[@]}" --cpu-mem-gb 0.25 "${PLAN[@]}"
	# It may have moved to the disk before anybody looked; moving is looking.
	result '.errors.by_class | keys == ["cpu read: data mismatch"]'
	result 'all(.errors.first[]; test("^tier .ram. entry [0-9a-f]+ generation [0-9]+ offset [0-9]+: "))'
}

@test "an operation that never completes: the run ends, says where it waited, and the rest is whole" {
	local op
	for op in read commit delete; do
		plan "fault: hang, operation: $op, nth: 2" # a slow disk comes to few
		expect 1 "$KV" "${RUN[@]}" --duration 2 "${PLAN[@]}"
		spoilt "storage $op: no completion" 1
		names_file "$([ "$op" != read ] || echo offset)"
		result 'all(.errors.first[]; endswith(": no completion within 1 s"))'
		lacks "$ERR" "leaving without"
		check_arrays cache/kvcache.d 0
	done
}

@test "what cannot be cancelled is left in flight: result first, then the end of the process" {
	plan "fault: hang, operation: [read, write], nth: 40, count: 2, is_final: true"
	expect 1 "$KV" "${RUN[@]}" --duration 2 "${PLAN[@]}" --cleanup
	has "$ERR" "I/O is still in flight: leaving without waiting for it, and without cleaning up in $CACHE/kvcache.d"
	result '.state == "complete" and .errors.total == 2'
	# The lock went with the process; the next run finds a directory it can use.
	expect 0 "$KV" "${RUN[@]}" --duration 2
	check_arrays cache/kvcache.d 1
}

# More than that many chunks were read, as the intervals tell.
reads_are_past() {
	jq -se --argjson n "$1" '[.[].counters.storage_read_bytes] | add > $n * 65536' "${R%.json}_interval.ndjson"
}

@test "a signal while operations hang: partial result; a second one leaves at once" {
	plan "fault: hang, operation: read, nth: 20, count: 5"
	start "$KV" "${RUN[@]}" --duration 60 --max-requests 0 --interval 0.1 "${PLAN[@]}"
	until_true reads_are_past 40
	kill -INT "$P"
	finish 8
	result '.state == "interrupted" and .errors.by_class == {"storage read: no completion": 5}'
	# What is given up after the window is in none of its intervals.
	[ "$(jq -s '[.[].errors] | add' "${R%.json}_interval.ndjson")" -eq 0 ]

	rm "$R" "${R%.json}_interval.ndjson"
	start "$KV" "${RUN[@]}" --duration 60 --max-requests 0 --drain-timeout 600 --interval 0.1 "${PLAN[@]}"
	until_true reads_are_past 40
	kill -INT "$P"
	until_true grep -q "waiting for I/O in flight, up to 600 s in all" "$ERR"
	kill -INT "$P"
	finish 8
	[ ! -e "$R" ]
}

@test "storage that stops answering before the run: exit 1, and no run" {
	plan "fault: hang, operation: commit, nth: 6"
	expect 1 "$KV" "${SMALL[@]}" --decode-only --num-users 2 --drain-timeout 1 "${PLAN[@]}"
	has "$ERR" "decode-only: nothing was written for 1 s: there is no run"
	result '.valid == false and .errors.by_class == {"storage commit: no completion": 1} and .requests_completed == 0'
}

@test "the same plan on the virtual clock comes to the same" {
	VIRTUAL+=(--duration 120 --cpu-mem-gb 1)
	plan "fault: error, rate: 0.01" "fault: hang, operation: read, tier: storage, nth: 10" "fault: delay, delay_ms: 300, rate: 0.1"
	expect 1 "$KV" "${VIRTUAL[@]}" "${PLAN[@]}"
	cp "$R" "$T/first.json"
	expect 1 "$KV" "${VIRTUAL[@]}" "${PLAN[@]}"
	cmp "$R" "$T/first.json"
	result '.errors.by_class["storage read: no completion"] == 1 and .requests_failed > 0'
	result 'any(.notices[]; contains("this run measures no device"))'
}

@test "a plan that is wrong, or speaks of what the run does not have: exit 2, file and line" {
	plan "fault: error, rate: 2" "fault: torn, operation: read, nth: 1" "fault: swap"
	refused 2 "$T/plan.yaml:3: faults[0].rate: 2 is out of range" "$T/plan.yaml:4: faults[1]: operation: " \
		"$T/plan.yaml:5: faults[2]: expected either rate or nth" -- "$KV" "${RUN[@]}" "${PLAN[@]}"
	plan "fault: swap, nth: 1"
	refused 2 "$T/plan.yaml:3: faults[0]: this run has no tier with such operations for the fault swap" -- \
		"$KV" "${VIRTUAL[@]}" "${PLAN[@]}"
	refused 2 "--fault-plan: " "$W/none.yaml" -- "$KV" "${VIRTUAL[@]}" --fault-plan "$W/none.yaml"
}

# ---- real ones ----

# The run of the tests below, on a file system of its own, with its result elsewhere.
start_on() {
	CACHE="$1"
	start "$KV" "${RUN[@]}" --duration 3 --max-requests 0 --cache-dir "$CACHE" --storage-capacity-gb 0.25
	until_true compgen -G "$CACHE/kvcache.d/kvc-*.npy"
	sleep 0.3
}

# finish_spoilt REGEX: exit 1, every class of errors matches, and each first one names a file.
finish_spoilt() {
	finish 1
	has "$ERR" "the result is not valid: "
	result '.state == "complete" and .valid == false and .errors.total > 0'
	result --arg re "$1" '.errors.by_class | keys | all(test($re))'
	names_file
}

@test "a file system that does not answer: the result is there before it does" {
	mount_ext4 "$W/disk" 600
	start_on "$W/disk"
	fsfreeze -f "$W/disk"
	until_true grep -q "result file: " "$ERR" || {
		fsfreeze -u "$W/disk"
		return 1
	}
	result '.state == "complete" and .valid == false'
	result '.errors.by_class | length > 0 and (keys | all(test("^storage (create|write|commit|delete|sync|abort): no completion$")))'
	names_file
	fsfreeze -u "$W/disk"
	finish 1
}

@test "the cache directory goes away during the run" {
	start_on "$CACHE"
	until_true rm -rf cache/kvcache.d
	finish_spoilt '^storage (create|open|delete|commit|write|read|abort): ENOENT$'
}

@test "files cut off under the run's feet" {
	start_on "$CACHE"
	find cache/kvcache.d -name 'kvc-*.npy' -exec truncate -s 4096 {} + || true
	finish_spoilt '^storage (read: (ENODATA|data mismatch)|write: .*)$'
	result '.errors.by_class["storage read: ENODATA"] > 0 and .requests_completed > 0'
}

@test "a file system that turns read-only" {
	mount_ext4 "$W/disk" 600
	start_on "$W/disk"
	mount -o remount,abort "$W/disk" || skip "this kernel cannot abort an ext4"
	finish_spoilt '^storage (create|write|commit|delete|abort|sync|open|read): (EROFS|EIO|ESHUTDOWN|ENODATA)$'
	has "$OUT" "CAN IT BE TRUSTED?"
}

@test "a device whose writes fail" {
	# A loop device on a file that its memory file system has no room for.
	mount_tmpfs "$W/small" 96
	mkdir -p "$W/disk"
	truncate -s 600M "$W/small/image"
	mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 "$W/small/image"
	mount -o loop,errors=continue "$W/small/image" "$W/disk" || skip "cannot mount a loop device here"
	MOUNTED=("$W/disk" "${MOUNTED[@]}")
	CACHE="$W/disk"
	start "$KV" "${RUN[@]}" --duration 4 --max-requests 0 --cache-dir "$CACHE" --storage-capacity-gb 0.25
	finish_spoilt '^storage (create|write|commit|delete|abort|sync|open|read): (EIO|ENOSPC|EROFS|ENODATA|ESHUTDOWN|data mismatch)$'
	result '.errors.by_class | keys | any(test("(write|commit): "))'
}

@test "a device that fails by device mapper" {
	need_root "makes a device"
	dmsetup targets 2>/dev/null | grep -q '^flakey' || skip "this kernel has no dm-flakey"
	local loop
	truncate -s 600M "$T/image"
	loop="$(losetup -f --show "$T/image")"
	mkdir -p "$W/disk"
	dmsetup create kv-cache-test --table "0 $((600 * 2048)) linear $loop 0"
	mkfs.ext4 -q /dev/mapper/kv-cache-test
	mount /dev/mapper/kv-cache-test "$W/disk"
	MOUNTED=("$W/disk" "${MOUNTED[@]}")
	start_on "$W/disk"
	dmsetup suspend --noflush kv-cache-test
	dmsetup load kv-cache-test --table "0 $((600 * 2048)) flakey $loop 0 0 1"
	dmsetup resume kv-cache-test
	finish_spoilt '^storage .*: (EIO|EROFS|ENODATA|data mismatch)$'
	umount -l "$W/disk"
	dmsetup remove --retry kv-cache-test
	losetup -d "$loop"
}

@test "killed in the middle, again and again: each next run cleans up and is valid" {
	local i
	for i in 1 2 3 4 5; do
		start "$KV" "${RUN[@]}" --duration 60 --max-requests 0 --seed "$i"
		until_true compgen -G "$CACHE/kvcache.d/kvc-*.npy"
		sleep "0.$((i * 17 % 10))"
		kill -KILL "$P"
		finish 137
	done
	touch "$T/now"
	expect 0 "$KV" "${RUN[@]}"
	result '.valid and .errors.total == 0'
	[ -z "$(find cache/kvcache.d -type f ! -newer "$T/now")" ]
	check_arrays cache/kvcache.d 1
}
