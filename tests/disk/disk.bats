#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kv-cache on the real disk below TMPDIR: each path through the kernel, what it leaves in the files, and whether what it
# says it moved is what the kernel saw. Nothing here asserts how fast a machine is.

load ../cli/engine

setup() {
	engine_setup
	need_disk
	need_numpy
}

teardown() {
	engine_teardown
}

# Bytes read and written so far by the device below $W, as the kernel counts them; nothing where there is no such device.
device_bytes() {
	local number fields
	number="$(findmnt -nro MAJ:MIN -T "$W" | tail -n 1)"
	[ -r "/sys/dev/block/$number/stat" ] || return 0
	read -ra fields <"/sys/dev/block/$number/stat"
	echo "$((fields[2] * 512)) $((fields[6] * 512))"
}

# What must hold after any run without errors on the disk: run_on_disk SECONDS OPTIONS...
run_on_disk() {
	local seconds="$1" before after
	shift
	before="$(device_bytes)"
	expect 0 "$KV" "${SMALL[@]}" --duration "$seconds" "$@"
	after="$(device_bytes)"
	result '.valid and .state == "complete" and .errors.total == 0 and .errors.by_class == {}'
	result --argjson s "$seconds" '(.measured.window_s - $s) | fabs < 0.05'
	result '.measured.storage | .read_bytes > 0 and .write_bytes > 0 and .read_ops > 0 and .write_ops > 0'
	result '.measured | .requests.completed > 0 and .storage.read_bytes_per_s == .storage.read_bytes / .window_s'
	check_counters "$before" "$after"
	check_memory
	# The limit holds for what is on the disk as well.
	[ "$(du -s --apparent-size -B1 "$CACHE/kvcache.d" | cut -f1)" -le \
		"$(($(jq .tiers.storage.limit_bytes "$R") + 65536))" ]
}

# Bytes of the window <= the kernel's over the window as the result has them <= the kernel's from before the start to after
# the end, read here. Where the page cache is in between that holds for less: without sync it need not hold for anything.
check_counters() {
	[ -n "$1" ] || return 0
	local outer_read outer_written
	outer_read=$((${2% *} - ${1% *}))
	outer_written=$((${2#* } - ${1#* }))
	result --argjson r "$outer_read" --argjson w "$outer_written" \
		'.measured.kernel_device | .read_bytes > 0 and .read_bytes <= $r and .write_bytes <= $w'
	[ "$(jq -r '.io.mode + " " + .io.sync' "$R")" != "buffered none" ] || return 0
	result '.measured | .storage.write_bytes <= .kernel_device.write_bytes'
	# Two readers of one file at once share its pages; such reads are counted.
	result '.measured | .storage.not_cold_reads > 0 or .storage.read_bytes <= .kernel_device.read_bytes'
}

# Resident memory is what was printed before the run, and what the figure leaves out: the program, its libraries, its stacks.
check_memory() {
	grep -qE 'INFO - memory: [0-9.]+ [MG]iB expected at peak' "$ERR"
	! grep -aq __asan_init "$KV" && ! grep -aq __tsan_init "$KV" || return 0
	result '.memory | .rss_peak_bytes <= .predicted_bytes * 1.1 + 16 * 1048576'
}

each_sync() {
	local sync
	CACHE="$W/cache"
	for sync in fsync fdatasync none; do
		run_on_disk 1 --io-engine "$1" --io-mode "$2" --sync "$sync" --verify full
		result --arg e "$1" --arg m "$2" --arg s "$sync" '.io.engine == $e and .io.mode == $m and .io.sync == $s'
		result --argjson direct "$([ "$2" = direct ] && echo true || echo false)" \
			'.verdicts.page_cache_bypassed.value == $direct and .measured.verified_blocks > 0'
		result '(.measured.storage.fsync_latency_ms.count > 0) == (.io.sync != "none")'
		check_arrays cache/kvcache.d 1
	done
}

@test "uring, direct: every sync" {
	each_sync uring direct
}

@test "uring, buffered: every sync" {
	each_sync uring buffered
}

@test "threads, direct: every sync" {
	each_sync threads direct
}

@test "threads, buffered: every sync" {
	each_sync threads buffered
}

@test "small I/O, shallow queues and one worker" {
	CACHE="$W/cache"
	run_on_disk 1 --io-size 64KiB --io-depth 4 --workers 1 --ops-in-flight 2 --request-parallel 1 --verify full
	result '.io.io_size == 65536 and .io.io_depth == 4 and .run.workers == 1'
	check_arrays cache/kvcache.d 1
	run_on_disk 1 --io-size 4MiB --io-depth 64 --max-concurrent-allocs 1 --warmup 1
	check_arrays cache/kvcache.d 1
}

@test "the command of a first user, with and without a memory tier" {
	local ram
	CACHE="$W/cache"
	for ram in 0 0.25; do
		run_on_disk 2 --num-users 50 --cpu-mem-gb "$ram" --seed 42
		result '.verdicts.page_cache_bypassed.value and .io.mode == "direct"'
		check_arrays cache/kvcache.d 1
	done
	# The memory tier took part: it was written and read, and what had to leave it went to the disk.
	result '.measured.cpu | .write_bytes > 0 and .read_bytes > 0 and .read_ops > 0'
	result '.measured.evict | .demoted_bytes > 0 and .demote_latency_ms.count > 0 and .demote_latency_ms.p50 > 0'
	result '.tiers.cpu | .present and .kind == "ram" and .limit_bytes == 268435456 and .used_bytes <= .limit_bytes'
	result '.memory.rss_peak_bytes > 268435456'
}

@test "llama3.1-8b with few users" {
	CACHE="$W/cache"
	run_on_disk 3 --model llama3.1-8b --num-users 3 --storage-capacity-gb 3
	result '.model.bytes_per_token == 131072 and .refused_too_large >= 0'
	check_arrays cache/kvcache.d 1 "32,2,-1,8,128"
}

@test "deepseek-v3 and a tensor-parallel shard: the shapes of their arrays" {
	CACHE="$W/cache"
	run_on_disk 1 --model deepseek-v3
	check_arrays cache/kvcache.d 1 "61,-1,576"
	run_on_disk 1 --num-gpus 2 --tensor-parallel 2
	check_arrays cache/kvcache.d 1 "-1"
}

small_trace() {
	local i
	# Conversations of three rows each: every row repeats the blocks of the one before and adds two.
	for ((i = 0; i < 60; i++)); do
		local base=$((i / 3 * 10)) blocks=$((i % 3 * 2 + 2)) ids
		ids="$(seq -s , "$base" $((base + blocks - 1)))"
		echo "{\"timestamp\": $((i * 10)), \"input_length\": $((blocks * 512 - 12)), \"output_length\": 20, \"hash_ids\": [$ids]}"
	done
}

@test "a trace: its blocks are read and written once each, and the run ends with it" {
	CACHE="$W/cache"
	small_trace >trace.jsonl
	expect 0 "$KV" "${SMALL[@]}" --duration 60 --trace trace.jsonl --trace-speedup 2
	result '.valid and .errors.total == 0 and .workload.source == "trace.jsonl" and .workload.trace_rows_unusable == 0'
	result '.measured.requests | .completed == 60 and .queued_at_end == 0 and .cancelled == 0'
	result '.measured.window_s > 0.29 and .measured.window_s < 30'
	# 20 conversations x 6 blocks of 512 tokens; a row that comes before its predecessor's blocks are durable misses them.
	result '.measured.storage.write_ops == 120 and .measured.storage.write_bytes == 120 * 512 * 24576'
	result '.measured.storage.read_ops <= 20 * (2 + 4) and .measured.storage.read_ops > 0'
	[ "$(find cache/kvcache.d -name 'kvc-b*.npy' | wc -l)" -eq "$(jq .tiers.storage.entries "$R")" ]
	check_arrays cache/kvcache.d 80 "12,2,512,4,128"
}

@test "data changed on the disk is found, and the run is not valid" {
	start "$KV" "${SMALL[@]}" --duration 2 --verify full
	until_true compgen -G "$W/cache/kvcache.d/kvc-*.npy"
	# One bit of each block, past its stamp; files come and go meanwhile.
	"$PYTHON" - cache/kvcache.d "$P" <<-'END'
		import glob, os, sys
		directory, process = sys.argv[1], int(sys.argv[2])
		def alive():
		    try:
		        with open("/proc/%d/stat" % process) as f:
		            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
		    except OSError:
		        return False
		while alive():
		    for path in glob.glob(directory + "/kvc-*.npy"):
		        try:
		            with open(path, "r+b") as f:
		                size = os.fstat(f.fileno()).st_size
		                for offset in range(4096 + 100, size, 512 * 64):
		                    f.seek(offset)
		                    byte = f.read(1)
		                    f.seek(offset)
		                    f.write(bytes([byte[0] ^ 1]))
		        except (OSError, IndexError):
		            pass
	END
	finish 1
	result '.valid == false and .errors.total > 0'
	has "$ERR" "$W/cache/kvcache.d/kvc-"
	has "$ERR" " offset "
	has "$ERR" "the result is not valid: "
}
