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

# What must hold after any run without errors on the disk.
run_on_disk() {
	local before after
	before="$(device_bytes)"
	expect 0 "$KV" "$@"
	after="$(device_bytes)"
	result '.valid and .state == "complete" and .errors.total == 0 and .errors.by_class == {}'
	result '.parameters.max_requests.value > 0 or (.measured.window_s - .parameters.duration.value | fabs < 0.05)'
	result '.measured | .storage.write_bytes > 0 and .storage.write_bytes_per_s == .storage.write_bytes / .window_s'
	check_counters "$before" "$after"
	check_memory
	# The limit holds for what is on the disk as well. A directory in which nothing was left went with the run.
	[ ! -d "$CACHE/kvcache.d" ] || [ "$(du -s --apparent-size -B1 "$CACHE/kvcache.d" | cut -f1)" -le \
		"$(($(jq .tiers.storage.limit_bytes "$R") + 65536))" ]
}

# Bytes of the window <= the kernel's over the window as the result has them <= the kernel's from before the start to after
# the end, read here. After a warm-up I/O is in flight when the window opens: the kernel counts part of it before, the run
# when it is whole. Where the page cache is in between less holds: without sync, nothing.
check_counters() {
	[ -n "$1" ] || return 0
	local outer_read outer_written
	outer_read=$((${2% *} - ${1% *}))
	outer_written=$((${2#* } - ${1#* }))
	result --argjson r "$outer_read" --argjson w "$outer_written" \
		'.measured.kernel_device | .write_bytes > 0 and .read_bytes <= $r and .write_bytes <= $w'
	[ "$(jq -r '.io.mode + " " + .io.sync' "$R")" != "buffered none" ] || return 0
	local in_flight=0
	[ "$(jq .run.warmup_s "$R")" -eq 0 ] || in_flight="$(jq '.io.io_depth * .io.io_size' "$R")"
	result --argjson more "$in_flight" '.measured | .storage.write_bytes <= .kernel_device.write_bytes + $more'
	# Two readers of one file at once share its pages; such reads are counted.
	result --argjson more "$in_flight" \
		'.measured | .storage.read_bytes - .storage.not_cold_bytes <= .kernel_device.read_bytes + $more'
}

# Resident memory is no more than was printed before the run, but for what an allocator wastes.
check_memory() {
	grep -qE 'INFO - memory: [0-9.]+ [MG]iB expected at peak' "$ERR"
	! grep -aq __asan_init "$KV" && ! grep -aq __tsan_init "$KV" || return 0
	result '.memory | .rss_peak_bytes <= .predicted_bytes * 1.05 + 2 * 1048576'
}

each_sync() {
	local sync
	for sync in fsync fdatasync none; do
		run_on_disk "${SOME[@]}" --io-engine "$1" --io-mode "$2" --sync "$sync" --verify full
		result '.measured | .requests.completed >= 20 and .storage.read_ops > 0 and .storage.write_ops >= 20'
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
	run_on_disk "${SOME[@]}" --io-size 64KiB --io-depth 4 --workers 1 --ops-in-flight 2 --request-parallel 1 --verify full
	result '.io.io_size == 65536 and .io.io_depth == 4 and .run.workers == 1'
	check_arrays cache/kvcache.d 1
	run_on_disk "${SOME[@]}" --io-size 4MiB --io-depth 64 --max-concurrent-allocs 1 --warmup 1
	check_arrays cache/kvcache.d 1
}

@test "the command of a first user, with and without a memory tier" {
	local ram
	for ram in 0 0.25; do
		run_on_disk "${SMALL[@]}" --duration 2 --num-users 50 --cpu-mem-gb "$ram" --seed 42
		result '.verdicts.page_cache_bypassed.value and .io.mode == "direct"'
		# All entries may have had to go for what was on its way.
		[ ! -d cache/kvcache.d ] || check_arrays cache/kvcache.d 0
	done
}

@test "overload: far more is due than the disk serves, and the kernel agrees on what moved" {
	local mode
	for mode in direct buffered; do
		run_on_disk "${SMALL[@]}" --duration 3 --num-users 500 --io-mode "$mode" --interval 0.5 --cleanup
		result '.measured.requests | .offered > 2 * .completed'
		intervals_add_up
	done
}

@test "what was written repeats no block and does not compress" {
	local tool="$BUILD_DIR/tests/entropy" blocks repeated bytes zstd lz4
	# Entries on both sides of 16 MiB, from where on they are written from shared noise, and all of them fit.
	sed 's/\[.*\]/[256, 1500]/' "$T/small.yaml" >"$T/mixed.yaml"
	run_on_disk "${SOME[@]}" --config "$T/mixed.yaml" --max-requests 40 --storage-capacity-gb 3
	result '.measured.evict.entries == 0 and .errors.total == 0'
	[ -n "$(find cache/kvcache.d -name '*.npy' -size -16M)" ] && [ -n "$(find cache/kvcache.d -name '*.npy' -size +16M)" ]
	read -r _ blocks _ repeated _ bytes _ zstd _ lz4 < <("$tool" cache/kvcache.d/*.npy)
	echo "$blocks blocks, $repeated repeated, $bytes bytes, $zstd after zstd -3, $lz4 after lz4"
	[ "$blocks" -gt 100000 ] && [ "$repeated" -eq 0 ] && [ "$zstd" -gt $((bytes / 100 * 99)) ] && [ "$lz4" -gt $((bytes / 100 * 99)) ]
	# The tool finds what there is: the same file twice.
	set -- cache/kvcache.d/*.npy
	read -r _ blocks _ repeated _ < <("$tool" "$1" "$1")
	[ "$blocks" -gt 0 ] && [ "$repeated" -eq $((blocks / 2)) ]
}

@test "a memory tier above the disk: what has to leave it is moved there" {
	run_on_disk "${SOME[@]}" --max-requests 100 --cpu-mem-gb 0.125 --verify full
	result '.measured.cpu | .write_bytes > 0 and .read_bytes > 0 and .read_ops > 0'
	result '.measured.evict | .demoted_bytes > 0 and .demote_latency_ms.count > 0 and .demote_latency_ms.p50 > 0'
	result '.tiers.cpu | .present and .kind == "ram" and .limit_bytes == 134217728 and .used_bytes <= .limit_bytes'
	result '.memory.rss_peak_bytes > 134217728'
	check_arrays cache/kvcache.d 1
}

@test "llama3.1-8b with few users" {
	run_on_disk "${SMALL[@]}" --duration 120 --max-requests 2 --model llama3.1-8b --num-users 3 --storage-capacity-gb 3
	result '.model.bytes_per_token == 131072'
	check_arrays cache/kvcache.d 1 "32,2,-1,8,128"
}

@test "deepseek-v3 and a tensor-parallel shard: the shapes of their arrays" {
	run_on_disk "${SOME[@]}" --model deepseek-v3
	check_arrays cache/kvcache.d 1 "61,-1,576"
	run_on_disk "${SOME[@]}" --num-gpus 2 --tensor-parallel 2
	check_arrays cache/kvcache.d 1 "-1"
}

# Six conversations of three rows: each row repeats the blocks of the one before it and adds two.
small_trace() {
	local turn talk blocks
	for turn in 0 1 2; do
		for talk in 0 1 2 3 4 5; do
			blocks=$((turn * 2 + 2))
			echo "{\"timestamp\": $((turn * 1000 + talk * 50)), \"input_length\": $((blocks * 512)), \"output_length\": 20," \
				"\"hash_ids\": [$(seq -s , $((talk * 10)) $((talk * 10 + blocks - 1)))]}"
		done
	done
}

@test "a trace: every block is written once and read by each later row, and the run ends with the trace" {
	small_trace >trace.jsonl
	# One row in service at a time, so that each finds what the ones before it wrote.
	expect 0 "$KV" "${SMALL[@]}" --duration 60 --num-users 1 --trace trace.jsonl --trace-speedup 0 --verify full
	result '.valid and .errors.total == 0 and .workload.source == "trace.jsonl" and .workload.trace_rows_unusable == 0'
	result '.measured.requests | .offered == 18 and .completed == 18 and .queued_at_end == 0 and .cancelled == 0'
	result '.measured.window_s > 0 and .measured.window_s < 60 and .measured.evict.entries == 0'
	result '.measured.storage | .write_ops == 36 and .write_bytes == 36 * 512 * 24576'
	result '.measured.storage | .read_ops == 36 and .read_bytes == 36 * 512 * 24576'
	result '.summary.cache_stats | .cache_hits == 36 and .cache_misses == 36'
	[ "$(find cache/kvcache.d -name 'kvc-b*.npy' | wc -l)" -eq 36 ]
	check_arrays cache/kvcache.d 36 "12,2,512,4,128"

	# On the trace's clock: the last row comes after 2.25 s.
	expect 0 "$KV" "${SMALL[@]}" --duration 60 --trace trace.jsonl
	result '.measured.requests.completed == 18 and .measured.window_s > 2.25'
	# The duration cuts it off.
	expect 0 "$KV" "${SMALL[@]}" --duration 1 --trace trace.jsonl
	result '(.measured.window_s - 1 | fabs) < 0.05 and .measured.requests.offered < 18'
}

# sized KIB: a configuration file with a model whose block of 512 tokens is an entry of KIB.
sized() {
	printf 'model_configs:\n  sized: {num_layers: 1, hidden_dim: %d, num_heads: 1, kv_heads: 1, kv_dim_per_head: %d, dtype: int8}\n' \
		"$1" "$1" >"$T/sized.yaml"
}

@test "entries of any size, also where chunks, pages and the header end: whole files, and read back as written" {
	local mode kib count
	for count in 1 2 3; do
		echo '{"timestamp": 0, "input_length": 1536, "output_length": 1, "hash_ids": [1, 2, 3]}'
	done >trace.jsonl
	for mode in direct buffered; do
		# Around a page, the header and a page, one chunk and three of 64 KiB; and from the smallest to a large one; tools/soak.sh has one of 8 GiB.
		for kib in 1 3 4 5 7 8 9 63 64 65 191 192 193 4096 65537 $([ "$mode" = buffered ] || echo 262144); do
			sized "$kib"
			rm -rf cache/kvcache.d
			expect 0 "$KV" --config "$T/sized.yaml" --model sized --trace trace.jsonl --trace-speedup 0 --num-users 1 --io-mode "$mode" \
				--gpu-mem-gb 0 --cpu-mem-gb 0 --storage-capacity-gb 1 --io-size 64KiB --duration 300 --generation-mode none \
				--verify full --cache-dir "$CACHE" --output "$R"
			result '.valid and .errors.total == 0'
			result --argjson b "$((kib * 1024))" '.measured.storage | .write_ops == 3 and .write_bytes == 3 * $b and .read_ops == 6
			       and .read_bytes == 6 * $b'
			result --argjson b "$((kib * 1024))" '.measured.verified_blocks == 6 * 8 * ($b / 4096 | ceil)'
			[ "$(find cache/kvcache.d -name 'kvc-*.npy' -size "$((4096 + (kib + 3) / 4 * 4096))c" | wc -l)" -eq 3 ]
			check_arrays cache/kvcache.d 3 "1,2,512,1,$kib" int8
		done
	done
}

@test "data changed on the disk is found, and the run is not valid" {
	start "$KV" "${SMALL[@]}" "${SMALL_ENTRIES[@]}" --duration 4 --verify full
	until_true compgen -G "$W/cache/kvcache.d/kvc-*.npy"
	# One bit of the first page of each file, past the stamp, once the file is written. Direct, because pages of ours in the
	# page cache would be in the way of the run's own I/O.
	"$PYTHON" - cache/kvcache.d "$P" <<-'END'
		import glob, mmap, os, sys, time
		directory, process = sys.argv[1], int(sys.argv[2])
		page = mmap.mmap(-1, 4096)
		done = set()
		while os.path.exists("/proc/%d/exe" % process) and os.readlink("/proc/%d/exe" % process):
		    for path in set(glob.glob(directory + "/kvc-*.npy")) - done:
		        try:
		            if time.time() - os.stat(path).st_mtime < 0.3:
		                continue
		            fd = os.open(path, os.O_RDWR | os.O_DIRECT)
		            os.preadv(fd, [page], 4096)
		            page[100] ^= 1
		            os.pwritev(fd, [page], 4096)
		            os.close(fd)
		            done.add(path)
		        except OSError:
		            pass
		    time.sleep(0.02)
	END
	finish 1
	result '.valid == false and .errors.total > 0'
	has "$ERR" "$W/cache/kvcache.d/kvc-"
	has "$ERR" " offset "
	has "$ERR" "the result is not valid: "
}
