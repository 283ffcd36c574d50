#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Runs of kv-cache as a person sees them: what they leave behind, what ends them, what they print, what a result holds.

load engine

setup() {
	engine_setup
}

teardown() {
	engine_teardown
}

# ---- the cache directory ----

@test "foreign files survive, whatever they are called" {
	local name foreign=(mine.npy kvc-u1-c0-t1-g1.npy kvc-u00001-c000000-t0001-g1.npy.tmp kvc-u00001-c000000-t0001-g1.npyx
		kvc-p1-g1.NPY KVC-p1-g1.npy kvc-p01-g1.npy kvc-p1-g01.npy kvc-b-g1.npy xkvc-p1-g1.npy "kvc-p1-g1.npy " notes.txt .hidden)
	mkdir -p cache/kvcache.d/directory
	for name in "${foreign[@]}"; do
		echo "$name" >"cache/kvcache.d/$name"
	done
	# Beside kvcache.d nothing is ours, not even what is called so.
	echo mine | tee cache/kvc-p1-g1.npy cache/entry.npy >cache/kvc-u00001-c000000-t0001-g1.npy
	# Left by an earlier run.
	touch cache/kvcache.d/{kvc-u00001-c000000-t0001-g1.npy,kvc-u00042-r0000001-g1.npy,kvc-p1-g1.npy,kvc-b46-g3.npy}
	find cache -type f -o -type d | grep -vE 'kvcache.d/kvc-(u00001-c000000-t0001-g1|u00042-r0000001-g1|p1-g1|b46-g3).npy$' |
		sort >"$T/before"

	expect 0 "$KV" "${SMALL[@]}" --cleanup
	find cache -type f -o -type d | sort >"$T/after"
	diff "$T/before" "$T/after"
	for name in "${foreign[@]}"; do
		[ "$(cat "cache/kvcache.d/$name")" = "$name" ]
	done
	[ "$(cat cache/kvc-p1-g1.npy cache/entry.npy cache/kvc-u00001-c000000-t0001-g1.npy)" = $'mine\nmine\nmine' ]
}

@test "files stay without --cleanup, and the next run removes them" {
	expect 0 "$KV" "${SOME[@]}"
	compgen -G "cache/kvcache.d/kvc-*.npy"
	touch cache/kvcache.d/mine.npy
	expect 0 "$KV" "${SOME[@]}" --cleanup --seed 7
	[ "$(find cache -mindepth 1 | sort)" = $'cache/kvcache.d\ncache/kvcache.d/mine.npy' ]
}

@test "--cleanup removes the directories that the run made" {
	expect 0 "$KV" "${SMALL[@]}" --cache-dir "$W/new/deep" --cleanup
	[ ! -e new ]
	mkdir new
	expect 0 "$KV" "${SMALL[@]}" --cache-dir "$W/new/deep" --cleanup
	[ -d new ] && [ ! -e new/deep ]
}

@test "without --cache-dir a temporary directory comes and goes" {
	local args=("${SMALL[@]}" --duration 2) i
	for i in "${!args[@]}"; do
		[ "${args[i]}" != --cache-dir ] || unset 'args[i]' 'args[i+1]'
	done
	start "$KV" "${args[@]}"
	until_true compgen -G "$TMPDIR/kv_cache_*/kvcache.d/kvc-*.npy"
	finish 0
	[ -z "$(ls -A "$TMPDIR")" ]
	result '.parameters.cache_dir == {value: null, source: "default"}'
}

@test "a second run in the same directory is refused and the first goes on" {
	start "$KV" "${SMALL[@]}" --duration 3
	until_true compgen -G "$W/cache/kvcache.d/kvc-*.npy"
	OUT="$T/out2" ERR="$T/err2" expect 3 "$KV" "${SMALL[@]}" --output "$T/second.json"
	has "$T/err2" "--cache-dir: '$W/cache/kvcache.d' is in use by another run"
	[ ! -e "$T/second.json" ]
	finish 0
	result '.valid and .errors.total == 0'
}

# ---- who set the pace ----

@test "client-bound: on the null tier and in memory, not on a slow device" {
	local bound='.verdicts.client_bound.value'
	expect 0 "$KV" "${SMALL[@]}" --storage-backend null
	result "$bound and (.verdicts.client_bound.why | startswith(\"the storage tier takes no time\"))"
	expect 0 "$KV" "${SMALL[@]}" "${SMALL_ENTRIES[@]}" --cpu-mem-gb 0.5 --duration 1
	result ".measured.cpu.write_bytes > 0 and .measured.storage.write_bytes == 0 and $bound"
	# Some wakes a second, so that even a busy machine keeps no worker waiting for a tenth of the time.
	expect 0 "$KV" "${SMALL[@]}" --storage-backend model --num-users 2 --duration 3 --workers 1 \
		--model-tier storage:read_gbps=0.05,write_gbps=0.05,latency_us=1000
	result ".measured.storage.write_bytes > 0 and ($bound | not)"
}

# ---- the run over time ----

@test "--interval: beside the result or where asked, adds up, last line included" {
	expect 0 "$KV" "${SMALL[@]}" --duration 2 --warmup 1 --workers 3 --interval 0.15
	intervals_add_up
	result '.run.interval_file | endswith("_interval.ndjson")'
	[ "$(jq -s 'map(select(.phase == "warmup")) | length' "${R%.json}_interval.ndjson")" -eq 7 ]
	expect 0 "$KV" "${SMALL[@]}" --duration 1 --interval 0.5 --interval-file "$T/own.ndjson"
	[ "$(wc -l <"$T/own.ndjson")" -eq 2 ]
}

@test "--interval: what is refused" {
	refused 2 "--interval-file: only with --interval" -- "$KV" --interval-file x.ndjson
	refused 3 "--interval: there is no directory" -- "$KV" --interval 1 --interval-file missing/x.ndjson
	[ ! -e missing ]
}

# ---- signals and full disks ----

# Is its resident memory above 100 MiB? Then its memory tier is being touched.
is_setting_up() {
	[ "$(awk '/^VmRSS/ {print $2}' "/proc/$P/status")" -gt 102400 ]
}

@test "a signal during set-up: exit 8, nothing is left" {
	local signal
	for signal in INT TERM; do
		rm -rf cache
		# In the background: the shell lets it ignore SIGINT.
		start "$KV" "${SMALL[@]}" --cpu-mem-gb 2 --duration 60
		until_true is_setting_up
		kill "-$signal" "$P"
		finish 8
		is_empty "$OUT"
		[ ! -e "$R" ]
		[ ! -e cache/kvcache.d ]
	done
}

@test "a first SIGINT or SIGTERM: a partial result and exit 8" {
	local signal
	need_numpy
	for signal in INT TERM; do
		rm -f "$R" "${R%.json}_interval.ndjson"
		start "$KV" "${SMALL[@]}" --duration 60 --warmup 1 --interval 0.2
		until_true compgen -G "$W/cache/kvcache.d/kvc-*.npy"
		until_true grep -qs '"window"' "${R%.json}_interval.ndjson"
		sleep 0.5
		kill "-$signal" "$P"
		finish 8
		has "$ERR" "interrupted: closing the window"
		has "$OUT" "CAN IT BE TRUSTED?"
		result '.state == "interrupted" and .errors.total == 0'
		result '.measured.window_s > 0 and .measured.window_s < 60 and .parameters.duration.value == 60'
		intervals_add_up
		check_arrays cache/kvcache.d 0
	done
}

@test "a second signal leaves at once, without a result" {
	command -v fsfreeze >/dev/null || skip "fsfreeze is missing"
	mount_ext4 "$W/disk" 700
	# Requests that only write: on a frozen file system none of them can end, so the first signal has to wait.
	printf 'workload:\n  prefill_only_tokens: 1\n' > "$W/writes.yaml"
	start "$KV" "${SMALL[@]}" --duration 60 --cache-dir "$W/disk" --storage-capacity-gb 0.4 \
		--config "$W/writes.yaml" --disable-multi-turn --disable-prefix-caching
	until_true compgen -G "$W/disk/kvcache.d/kvc-*.npy"
	sleep 0.3
	fsfreeze -f "$W/disk"
	sleep 0.3
	kill -INT "$P"
	until_true grep -q "interrupted: closing the window" "$ERR"
	sleep 0.8 # sooner it would count as the first one, told twice
	kill -INT "$P"
	sleep 0.3
	fsfreeze -u "$W/disk"
	finish 8
	is_empty "$OUT"
	[ ! -e "$R" ]
}

@test "after SIGKILL the next run is clean" {
	need_numpy
	start "$KV" "${SMALL[@]}" --duration 60
	until_true compgen -G "$W/cache/kvcache.d/kvc-*.npy"
	sleep 0.3
	kill -KILL "$P"
	finish 137
	[ ! -e "$R" ]
	find cache/kvcache.d -name 'kvc-*' -exec touch -d '1 hour ago' {} + # not by a pattern: there may be none
	touch "$T/now"
	expect 0 "$KV" "${SOME[@]}" --seed 7
	[ -z "$(find cache/kvcache.d -type f ! -newer "$T/now")" ]
	check_arrays cache/kvcache.d 1
	result '.valid and .errors.total == 0'
}

fill_during_run() {
	need_numpy
	# Small entries, so that most of the capacity is still to be written when the space is taken away.
	start "$KV" "${SMALL[@]}" "${SMALL_ENTRIES[@]}" --duration 3 --cache-dir "$1" --storage-capacity-gb "$2"
	until_true compgen -G "$1/kvcache.d/kvc-*.npy"
	fallocate -l "$(df --output=avail -B1 "$1" | tail -n 1)" "$1/first" || true
	# And again and again what is left.
	while kill -0 "$P" 2>/dev/null; do
		! dd if=/dev/zero bs=1M >>"$1/filler" 2>/dev/null
	done
	finish 1
	has "$ERR" "ERROR - storage "
	has "$ERR" "No space left on device"
	has "$ERR" "the result is not valid: "
	has "$OUT" "CAN IT BE TRUSTED?"
	result '.state == "complete" and .valid == false and (.invalid_why | test("errors"))'
	result '.errors.total > 0 and ([.errors.by_class[]] | add) == .errors.total'
	result '.errors.by_class | keys | all(test("ENOSPC"))'
	result --arg dir "$1" '.errors.first | length > 0 and all(.[]; contains($dir + "/kvcache.d/kvc-"))'
	check_arrays "$1/kvcache.d" 0
}

@test "a disk that fills up: errors by class, exit 1, no half-made files" {
	mount_ext4 "$W/disk" 1200
	fill_during_run "$W/disk" 1
}

@test "a memory file system that fills up: errors by class, exit 1, no half-made files" {
	mount_tmpfs "$W/memory" 700
	fill_during_run "$W/memory" 0.5
}

@test "a result that cannot be written: exit 3, and it is said" {
	mkdir gone
	start "$KV" "${SMALL[@]}" --output "$W/gone/r.json"
	until_true compgen -G "$W/cache/kvcache.d/kvc-*.npy"
	rmdir gone
	finish 3
	has "$ERR" "cannot write the result file '$W/gone/r.json': No such file or directory"
}

into_full() {
	"$@" >/dev/full
}

@test "a summary that cannot be printed is an error, but does not cost the result" {
	expect 3 into_full "$KV" "${VIRTUAL[@]}"
	has "$ERR" "cannot print the summary: "
	result .valid
}

@test "what cannot be printed is an error: --help, --version, trace-info" {
	local words
	for words in --help --version "trace-info --help"; do
		expect 3 into_full "$KV" $words
		has "$ERR" "kv-cache: cannot write to standard output: No space left on device"
	done
}

# ---- what is printed ----

@test "--quiet prints nothing when all is well" {
	expect 0 "$KV" "${SMALL[@]}" --quiet
	is_empty "$OUT"
	is_empty "$ERR"
	result .valid
}

@test "the summary goes to stdout, messages to stderr" {
	expect 0 "$KV" "${SMALL[@]}"
	has "$OUT" "STORAGE TIER"
	has "$OUT" "STORAGE LATENCY PER ENTRY, ms"
	has "$OUT" "CAN IT BE TRUSTED?"
	has "$OUT" "USERS AND ENTRIES"
	# 12 users of seed 42, as the reference draws them
	grep -Eq '^  context, tokens +[0-9]+ +[0-9]+ +[0-9]+$' "$OUT"
	[ "$(grep -oE '[0-9]+ (interactive|responsive|batch)' "$OUT" | awk '/[a-z]/ {n += $1} END {print n}')" -ge 12 ]
	! grep -qvE '^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} - kv-cache - (INFO|WARNING) - ' "$ERR"
	has "$ERR" "INFO - result file: $R"
	expect 0 "$KV" "${VIRTUAL[@]}" --log-level ERROR
	is_empty "$ERR"
}

@test "a terminal gets one live line, and it is erased before anything else is printed" {
	command -v script >/dev/null || skip "script is missing"
	script -qec "'$KV' $(printf "'%s' " "${SMALL[@]}" --duration 2)" /dev/null >"$OUT" </dev/null
	grep -aqE $'\r\033\\[K\033\\[\\?7l\\[#+-+\\] +[0-9]+ % +[0-9]+ s \\| storage in [0-9.]+ out [0-9.]+ GB/s \\| [0-9.]+ req/s \\| .* [0-9]+ s left\033\\[\\?7h' "$OUT"
	grep -aqE $'left\033\\[\\?7h\r\033\\[K====' "$OUT"
}

@test "--progress: a live line in a pipe, plain lines, none" {
	expect 0 "$KV" "${SMALL[@]}" --duration 2 --progress terminal
	grep -aq $'\r\033\\[K\033\\[?7l\\[' "$ERR"
	expect 0 "$KV" "${SMALL[@]}" --duration 2
	! grep -aq $'\033' "$ERR"
	expect 0 "$KV" "${SMALL[@]}" --duration 2 --progress terminal --quiet
	is_empty "$ERR"
	command -v script >/dev/null || skip "script is missing"
	script -qec "'$KV' $(printf "'%s' " "${SMALL[@]}" --duration 2 --progress off)" /dev/null >"$OUT" </dev/null
	! grep -aqE $'\033\\[K|s left' "$OUT"
}

# ---- the run ----

@test "--max-requests ends the window" {
	expect 0 "$KV" "${SOME[@]}" --max-requests 5
	result '.requests_completed >= 5 and .measured.window_s < 60 and .state == "complete"'
	expect 0 "$KV" "${VIRTUAL[@]}" --duration 3600 --max-requests 5
	result '.requests_completed == 5'
}

@test "a seed that is not given is drawn, recorded and repeats the run" {
	local args=(--simulate --model tiny-1b --num-users 10 --duration 5 --quiet)
	expect 0 "$KV" "${args[@]}" --output "$R"
	result '.seed_was_drawn and (.seed | type) == "number" and .parameters.seed == {value: null, source: "default"}'
	expect 0 "$KV" "${args[@]}" --output "$T/other.json"
	[ "$(jq .seed "$R")" != "$(jq .seed "$T/other.json")" ]
	expect 0 "$KV" "${args[@]}" --seed "$(jq .seed "$R")" --output "$T/again.json"
	[ "$(jq '[.workload_fingerprint, .measured]' "$R")" = "$(jq '[.workload_fingerprint, .measured]' "$T/again.json")" ]
}

@test "--simulate twice: the same file apart from its times" {
	expect 0 "$KV" "${VIRTUAL[@]}" --duration 60
	mv "$R" "$T/first.json"
	expect 0 "$KV" "${VIRTUAL[@]}" --duration 60
	cmp <(jq 'del(.time)' "$T/first.json") <(jq 'del(.time)' "$R")
	result '.requests_completed > 0 and ([.host[], .time[], .cpu[]] | all(. == null))'
}

@test "the virtual clock with a tier that takes no time" {
	expect 0 "$KV" --simulate --storage-backend null --cpu-mem-gb 0 --model tiny-1b --num-users 5 --duration 60 --generation-mode none \
		--seed 1 --output "$R"
	result '.requests_completed > 0 and .measured.storage.read_latency_ms.max == 0 and .measured.window_s == 60'
}

@test "the same seed has the same fingerprint with 1 and 8 workers" {
	local workers one
	for workers in 1 8; do
		expect 0 "$KV" "${SMALL[@]}" --storage-backend null --workers "$workers"
		result --argjson n "$workers" '.run.workers == $n'
		one="${one:-$(jq -r .workload_fingerprint "$R")}"
		[ "$(jq -r .workload_fingerprint "$R")" = "$one" ]
	done
	[[ $one =~ ^0x[0-9a-f]{16}$ ]]
	expect 0 "$KV" "${SMALL[@]}" --storage-backend null --seed 43
	[ "$(jq -r .workload_fingerprint "$R")" != "$one" ]
}

@test "without --output the file is named after the time" {
	expect 0 "$KV" --simulate --model tiny-1b --num-users 10 --duration 5 --seed 42
	[[ "$(ls)" =~ benchmark_results_[0-9]{8}_[0-9]{6}\.json ]]
	jq -e '.state == "complete"' benchmark_results_*.json
}

@test "no GPU tier: said once, asked and effective size recorded" {
	expect 0 "$KV" "${VIRTUAL[@]}" --gpu-mem-gb 16
	[ "$(grep -c 'GPU' "$ERR")" -eq 1 ]
	result '.tiers.gpu.asked_gib == 16 and .tiers.gpu.effective_bytes == 0 and (.notices | any(test("GPU")))'
	expect 0 "$KV" "${VIRTUAL[@]}" --gpu-mem-gb 0
	lacks "$ERR" GPU
}

@test "registered buffers are told only where every worker has them" {
	need_nobody
	mkdir -m 777 open
	R="$W/open/r.json"
	# A user's processes and workers lock memory together: the 6 MiB of one fit, those of the other do not.
	ulimit -l 8192
	expect 0 "${AS_NOBODY[@]}" "$KV" "${SOME[@]}" --cache-dir "$W/open" --output "$R" --workers 2 --verify off --io-size 256k --io-depth 16
	[ "$(jq -r .io.engine "$R")" = uring ] || skip "no io_uring here"
	result '.io.registered_buffers == false and (.io.features | contains("registered_buffers") | not)'
	result '[.notices[] | select(test("6.00 MiB per worker.* not registered"))] | length == 1'
}

# ---- the result file ----

wanted_paths() {
	local p=(p50 p95 p99) q=(p50 p95 p99 p999 p9999)
	printf '%s\n' schema_version version state valid invalid_why time.started time.ended host.hostname host.kernel host.os \
		host.cpu_model host.logical_cpus host.memory_bytes workload_fingerprint workload.name workload.source \
		requests_completed total_tokens_generated total_storage_io_latency total_generation_latency throughput_timeline \
		multi_turn_cache_hits multi_turn_cache_misses seed seed_was_drawn \
		summary.{total_requests,total_tokens,elapsed_time,avg_throughput_tokens_per_sec,total_storage_io_time} \
		summary.{storage_throughput_tokens_per_sec,requests_per_second,autoscaling_stats,autoscaling_summary} \
		summary.{end_to_end,storage_io,generation}_latency_ms.{mean,p50,p95,p99,p999,p9999} \
		summary.qos_metrics.{interactive,responsive,batch} \
		summary.prefix_cache_stats.{prefix_hits,prefix_misses,system_prompt_reuse,common_phrase_reuse,bytes_saved} \
		summary.multi_turn_stats.{cache_hits,cache_misses,hit_rate} \
		summary.cache_stats.{cache_hit_rate,cache_hits,cache_misses,{gpu,cpu,storage,nvme}_entries,{gpu,cpu}_memory_used_gb} \
		summary.cache_stats.{offloads_{cpu,storage,nvme},prefill_writes,decode_reads,{system_prompt,common_phrase,multi_turn}_hits} \
		summary.cache_stats.{user_cache_hits,total_{read,write}_{bytes,gb},read_write_ratio,{read,write}_iops} \
		summary.cache_stats.{storage,nvme}_tokens_processed \
		summary.cache_stats.storage_health.{overall_status,criteria,passed_count,total_count} \
		summary.cache_stats.tier_{gpu,cpu,storage}_{kv_bytes_{read,written}_gb,{read,write}_bandwidth_gbps} \
		summary.cache_stats.storage_{read,write}{,_device,_host}_{p50,p95,p99,p999,p9999}_ms \
		summary.cache_stats.nvme_{read,write}{,_device,_host}_{p50,p95,p99}_ms \
		measured.window_s measured.{gpu,cpu,storage}.{read,write}_{bytes,bytes_per_s,ops} \
		measured.{gpu,cpu,storage}.{read,write}{,_device,_host}_latency_ms.{mean,p50,p95,p99,p999,max} \
		measured.storage.fsync_latency_ms.{mean,p50,p95,p99,p999,max} \
		measured.requests.{offered,admitted,completed,cancelled,queued_at_end,oldest_age_s,per_s} \
		measured.requests.by_qos.{interactive,responsive,batch}.{offered,admitted,completed,cancelled,queued_at_end} \
		measured.requests.by_qos.{interactive,responsive,batch}.{oldest_age_s,per_s} \
		measured.evict.{demoted_bytes,deleted_bytes} measured.evict.{demote,delete}_latency_ms.{mean,p50,p95,p99,p999,max} \
		misses_in_flight refused_too_large retries errors.{total,by_class,first} \
		io.{engine,mode,io_size,io_depth,sync,filesystem,device} memory.{predicted_bytes,rss_peak_bytes} \
		verdicts.{client_bound,page_cache_bypassed,enough_samples}.{value,why} field_notes histograms.geometry histograms.series
}

@test "the result holds every promised field, and every parameter with value and source" {
	local missing
	expect 0 "$KV" "${SOME[@]}"
	wanted_paths >"$T/wanted"
	[ "$(wc -l <"$T/wanted")" -gt 250 ]
	missing="$(jq -r --rawfile wanted "$T/wanted" \
		'[paths | map(tostring) | join(".")] as $have | ($wanted | split("\n") | map(select(. != ""))) - $have | .[]' "$R")"
	[ -z "$missing" ] || {
		echo "missing: $missing"
		return 1
	}
	result '.parameters | all(.[]; has("value") and (.source == "given" or .source == "default"))'
	result '.parameters | .seed == {value: 42, source: "given"} and .sync == {value: "fsync", source: "default"}'
	# Every option is there under its own name.
	local option
	for option in $("$KV" --help | grep -oE '^  (-[a-z]+, )?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
		option="${option#--}"
		result --arg name "${option//-/_}" '.parameters | has($name)'
	done
	result '.field_notes | has("summary.cache_stats.storage_write_device_*")'
	# The older names say the same.
	result '.summary.cache_stats | .nvme_read_device_p95_ms == .storage_read_device_p95_ms and .nvme_entries == .storage_entries'
	# Rates are bytes of the window over its length; the histograms hold the same samples.
	result '.measured | (.storage.read_bytes / .window_s - .storage.read_bytes_per_s) | fabs < 1'
	result '([.histograms.series.storage_read.buckets[][1]] | add) == .measured.storage.read_ops'
	result '[.measured.requests.by_qos[].offered] | add as $sum | $sum > 0'
	result '.measured.requests | .offered == ([.by_qos[].offered] | add) and .completed == ([.by_qos[].completed] | add)'
	result '.measured.requests | .offered == .admitted + .queued_at_end and .admitted == .completed + .cancelled'
}

@test "percentiles without samples are null, and no number is NaN or infinite" {
	need_numpy
	expect 0 "$KV" "${VIRTUAL[@]}" --cpu-mem-gb 0
	result '.measured.cpu.read_latency_ms | .mean == null and .p50 == null and .max == null'
	local strict='import json, sys
def no(name): raise ValueError(name)
json.load(open(sys.argv[1]), parse_constant=no)'
	"$PYTHON" -c "$strict" "$R"
	# A run in which nothing happens: everybody thinks for longer than it lasts.
	printf 'user_templates:\n' >slow.yaml
	printf '  %s:\n    think_time_range: [1000, 2000]\n' chatbot coding document >>slow.yaml
	expect 1 "$KV" "${VIRTUAL[@]}" --config slow.yaml
	has "$ERR" "the result is not valid: no bytes moved inside the window"
	"$PYTHON" -c "$strict" "$R"
	result '.valid == false and .summary.total_requests == 0 and .summary.end_to_end_latency_ms.p95 == null'
	result '.summary.cache_stats.cache_hit_rate == null and .summary.cache_stats.storage_read_p95_ms == null'
}

@test "latency lists only with --raw-samples" {
	local lists='["end_to_end_latencies", "storage_latencies", "generation_latencies", "prefill_latencies", "decode_latencies"]'
	expect 0 "$KV" "${SOME[@]}"
	result --argjson lists "$lists" '. as $r | $lists | all(. as $name | $r | has($name) | not)'
	expect 0 "$KV" "${SOME[@]}" --raw-samples
	result --argjson lists "$lists" '. as $r | $lists | all(. as $name | $r[$name] | type == "array")'
	result '.requests_completed > 0 and (.end_to_end_latencies | length) == .requests_completed'
	# Seconds there, milliseconds in the summary; the same requests.
	result '((.end_to_end_latencies | add / length * 1000) / .summary.end_to_end_latency_ms.mean - 1) | fabs < 0.01'
}

# ---- trace-info ----

@test "trace-info reproduces the figures of the Mooncake conversation trace" {
	local trace="${TRACE_DIR:-/nowhere}/mooncake_conversation_trace.jsonl"
	[ -f "$trace" ] || skip "TRACE_DIR does not hold mooncake_conversation_trace.jsonl"
	expect 0 "$KV" trace-info "$trace"
	is_empty "$ERR"
	grep -qE '^requests +12031$' "$OUT"
	grep -qE '^unusable rows +0$' "$OUT"
	grep -qE '^span +3536999 ms$' "$OUT"
	grep -qE '^input tokens +mean 12035\.06 ' "$OUT"
	grep -qE '^output tokens +mean 342\.62 ' "$OUT"
	grep -qE '^block references +288500$' "$OUT"
	grep -qE '^unique blocks +182790$' "$OUT"
	grep -qE '^reuse +36\.6 % with an infinite cache$' "$OUT"
}

@test "trace-info counts a small trace exactly, plain and compressed" {
	cat >small.jsonl <<-'END'
		{"timestamp": 0, "input_length": 1000, "output_length": 10, "hash_ids": [1, 2]}
		{"timestamp": 500, "input_length": 1500, "output_length": 20, "hash_ids": [1, 2, 3]}
		{"timestamp": 2000, "input_length": 512, "output_length": 60, "hash_ids": [4]}
	END
	gzip -k small.jsonl
	local file
	for file in small.jsonl small.jsonl.gz; do
		expect 0 "$KV" trace-info --model tiny-1b "$file"
		grep -qE '^requests +3$' "$OUT"
		grep -qE '^span +2000 ms$' "$OUT"
		grep -qE '^input tokens +mean 1004\.00 .* max 1500$' "$OUT"
		grep -qE '^output tokens +mean 30\.00 .* max 60$' "$OUT"
		grep -qE '^block references +6$' "$OUT"
		grep -qE '^unique blocks +4$' "$OUT"
		grep -qE '^reuse +33\.3 %' "$OUT"
		has "$OUT" "with tiny-1b, 24576 bytes per token"
	done
}

@test "trace-info: mistakes" {
	refused 2 "trace-info: the trace file is missing" -- "$KV" trace-info
	refused 2 "trace-info: unexpected --verbose" -- "$KV" trace-info --verbose
	refused 2 "trace-info: value missing after --model" -- "$KV" trace-info --model
	refused 2 '--model: "gpt-5" is not known' tiny-1b -- "$KV" trace-info --model gpt-5 x.jsonl
	refused 2 "cannot read none.jsonl: No such file" -- "$KV" trace-info none.jsonl
	# A row that cannot be used is counted and shown, the others are still told.
	printf '%s\n' '{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1]}' 'not json' >bad.jsonl
	expect 1 "$KV" trace-info bad.jsonl
	grep -qE '^unusable rows +1$' "$OUT"
	has "$ERR" "1 row cannot be used, first: bad.jsonl:2: "
}

# --- what a controller hears of the machine

@test "--frames: the host tells what it is at both ends of the run, and its counters at an interval" {
	expect 0 "$KV" --model tiny-1b --num-users 5 --generation-mode none --cpu-mem-gb 0 --storage-backend null --duration 1 \
		--frames --host-series-interval 0.1
	[ "$(grep -ac 'MLPS1 host 0 ' "$OUT")" -eq 2 ]
	[ "$(grep -ac 'MLPS1 series 0 ' "$OUT")" -ge 3 ]
	grep -a '"collection_timestamp"' "$OUT" | grep -a '"mounts"' >"$T/hosts"
	jq -es --arg h "$(uname -n)" 'length == 2 and all(.hostname == $h and .memory.total > 0 and .cpu.num_cores >= 1)' "$T/hosts"
	grep -a '^{"timestamp"' "$OUT" >"$T/samples"
	jq -es 'length >= 3 and all(.loadavg.load_1min >= 0 and (.vmstat | length) > 10)' "$T/samples"
}

@test "--frames without an interval: no samples" {
	expect 0 "$KV" --model tiny-1b --num-users 5 --generation-mode none --cpu-mem-gb 0 --storage-backend null --duration 1 --frames
	[ "$(grep -ac 'MLPS1 host 0 ' "$OUT")" -eq 2 ]
	[ "$(grep -ac 'MLPS1 series' "$OUT")" -eq 0 ]
}
