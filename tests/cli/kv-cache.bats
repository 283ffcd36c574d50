#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The command line of kv-cache as a person types it: what is refused and how.

load engine

setup() {
	engine_setup
}

teardown() {
	engine_teardown
}

# ---- help ----

@test "--help: stdout, exit 0, every exit code" {
	local form
	for form in --help -h; do
		expect 0 "$KV" "$form"
		is_empty "$ERR"
		has "$OUT" "usage: kv-cache"
		has "$OUT" "Exit codes: 0 valid result, 1 ran but the result is not valid, 2 usage, 3 environment,"
		has "$OUT" "8 interrupted"
	done
	expect 0 "$KV" --num-users 0 --help
	expect 0 "$KV" trace-info --help
	has "$OUT" "usage: kv-cache trace-info"
}

@test "--version" {
	expect 0 "$KV" --version
	is_empty "$ERR"
	grep -qE '^kv-cache [0-9]+\.[0-9]+\.[0-9]+$' "$OUT"
}

# ---- refusals: options ----

# option, a value that is refused, what the message says is allowed
bad_values() {
	cat <<-'END'
		--num-users 0 1..100000
		--num-users 100001 1..100000
		--num-users many 1..100000
		--num-users 1.5 1..100000
		--duration 0 1..86400
		--duration 86401 1..86400
		--precondition-size-gb -1 0..1073741824
		--precondition-threads -1 0..4096
		--precondition-threads 5000 0..4096
		--warmup -1 0..86400
		--warmup 86401 0..86400
		--drain-timeout 0 1..3600
		--interval -1 0..86400
		--interval 0.001 0 or at least 0.01
		--max-requests -1 at least 0
		--max-requests 99999999999999999999 at least 0
		--generation-mode slow none, fast, realistic
		--performance-profile best latency, throughput
		--seed -1 at least 0
		--seed x at least 0
		--trace-format csv auto, mooncake
		--trace-speedup -1 0..1000000
		--trace-speedup 1e7 0..1000000
		--trace-speedup nan 0..1000000
		--trace-speedup 1e-9 0 or 0.000001..1000000
		--gpu-mem-gb -1 0..65536
		--gpu-mem-gb 65537 0..65536
		--gpu-mem-gb inf 0..65536
		--num-gpus 0 1..65536
		--num-gpus 65537 1..65536
		--tensor-parallel 0 1..65536
		--tensor-parallel 65537 1..65536
		--tensor-parallel 2 more than --num-gpus 1
		--cpu-mem-gb -0.5 0..131072
		--cpu-mem-gb 131073 0..131072
		--storage-capacity-gb -1 0..1073741824
		--storage-capacity-gb 1e10 0..1073741824
		--storage-backend tape file, null, model
		--model-tier tape:read_gbps=1 cpu:, storage: or gpu:
		--model-tier storage sets nothing
		--model-tier storage:speed=1 read_gbps=, write_gbps= or latency_us=
		--model-tier storage:read_gbps=0 read_gbps=1e-06..1e+06
		--model-tier storage:latency_us=-1 latency_us=0..1e+07
		--max-concurrent-allocs -1 at least 0
		--io-engine aio auto, uring, threads
		--io-mode odirect auto, direct, buffered
		--io-size 2048 4KiB..64MiB
		--io-size 128MiB 4KiB..64MiB
		--io-size 12KiB a power of two
		--io-size big 4KiB..64MiB
		--io-depth 0 1..4096
		--io-depth 4097 1..4096
		--ops-in-flight -1 0..4096
		--ops-in-flight 4097 0..4096
		--request-parallel 0 1..1024
		--request-parallel 1025 1..1024
		--sync maybe fsync, fdatasync, none
		--verify all off, stamp, full
		--workers -1 0..256
		--workers 257 0..256
		--rank-timeout 0 1..86400
		--host-series-interval -1 0..86400
		--host-series-interval 1e6 0..86400
		--progress loud auto, terminal, plain, off
		--log-level loud DEBUG, INFO, WARNING, ERROR, CRITICAL
	END
}

@test "each option out of range: exit 2, option and range named, nothing created" {
	local option value allowed
	while read -r option value allowed; do
		refused 2 "kv-cache: $option: " "$allowed" "Try 'kv-cache --help'." -- "$KV" "$option" "$value"
		refused 2 "kv-cache: $option: " "$allowed" -- "$KV" "$option=$value"
		[ "$(wc -l <"$ERR")" -eq 2 ] # one message and the pointer to the help
	done < <(bad_values)
}

@test "every option that has a range is in the table of bad values" {
	local option
	expect 0 "$KV" --help
	# The options that take any text, and the flags.
	local free=" --model --config --trace --cache-dir --output --disable-multi-turn --disable-prefix-caching --simulate --cleanup
		--raw-samples --quiet --frames --prefill-only --decode-only --precondition --fault-plan --interval-file --require-space "
	for option in $(grep -oE '^  (-[a-z]+, )?--[a-z-]+' "$OUT" | grep -oE -- '--[a-z-]+'); do
		[[ $free =~ [[:space:]]$option[[:space:]] ]] || bad_values | grep -q -- "^$option " || {
			echo "$option is in neither list"
			return 1
		}
	done
}

@test "several wrong options are all reported at once" {
	refused 2 "--num-users: 0 is out of range, expected 1..100000" "--duration: 0 is out of range" \
		"--seed: -1 is out of range" "--sync: \"never\" is not known" "--model: \"nope\" is not known" \
		"--io-size: 5000 is not a power of two" "--workers: not with --simulate" -- \
		"$KV" --num-users 0 --duration 0 --seed -1 --sync never --model nope --io-size 5000 --simulate --workers 2
	[ "$(grep -c '^kv-cache: ' "$ERR")" -eq 7 ]
	# What is wrong with the machine is told together too; a wrong command line decides the exit code.
	refused 3 "--cpu-mem-gb: 100000.000 GiB are asked for" "--output: there is no directory" "--storage-capacity-gb: " -- \
		"$KV" --cpu-mem-gb 100000 --output "$W/no/r.json" --storage-capacity-gb 1e9 --cache-dir "$W/cache"
	refused 2 "--cpu-mem-gb: " "--trace: cannot read" -- "$KV" --cpu-mem-gb 100000 --trace "$W/no.jsonl"
}

@test "unknown options, stray words and missing values: exit 2" {
	refused 2 "--num-user: unknown option, did you mean --num-users?" -- "$KV" --num-user 5
	refused 2 "--iosize: unknown option, did you mean --io-size?" -- "$KV" --iosize=1MiB
	refused 2 "-x: unknown option" -- "$KV" -x
	refused 2 'unexpected word "trace"' -- "$KV" trace
	refused 2 "--num-users: value missing, expected 1..100000" -- "$KV" --num-users
	refused 2 "--num-users: value missing" -- "$KV" --num-users --duration 5
	refused 2 "--num-users: value is empty" -- "$KV" --num-users ""
	refused 2 "--cleanup: " -- "$KV" --cleanup=perhaps
}

@test "an unknown model: the known names are listed" {
	refused 2 '--model: "gpt-5" is not known' deepseek-v3 gpt-oss-120b gpt-oss-20b llama2-7b llama3.1-70b-instruct llama3.1-8b \
		mistral-7b qwen3-32b tiny-1b -- "$KV" --model gpt-5
}

@test "--simulate excludes workers and real storage" {
	refused 2 "--workers: not with --simulate" -- "$KV" --simulate --workers 2
	refused 2 "--storage-backend: --simulate takes simulated devices only" -- "$KV" --simulate --storage-backend file
}

# ---- refusals: files ----

@test "workload files: missing, malformed and wrong ones are refused by file and line" {
	refused 2 "--config: cannot read $W/none.yaml: No such file" -- "$KV" --config "$W/none.yaml"
	refused 2 "--config: cannot read $W/tmp" -- "$KV" --config "$W/tmp"

	printf 'qos_profiles:\n  batch: }\n' >bad.yaml
	refused 2 "--config: bad.yaml:2:10: " -- "$KV" --config bad.yaml

	printf '# comment\nuser_templates:\n  chatbot:\n    context_rage: [1, 2]\n' >bad.yaml
	refused 2 "bad.yaml:4: unknown key 'user_templates.chatbot.context_rage'" -- "$KV" --config bad.yaml

	printf 'user_templates:\n  chatbot:\n    context_range: [9, 1]\n' >bad.yaml
	refused 2 "bad.yaml:3: user_templates.chatbot.context_range: the first number is above the second" -- "$KV" --config bad.yaml

	printf 'no_such_section: 1\nqos_distribution:\n  interactive_probability: 2\n' >bad.yaml
	refused 2 "bad.yaml:1: unknown key 'no_such_section'" "bad.yaml:3: qos_distribution.interactive_probability" -- \
		"$KV" --config bad.yaml
}

@test "a workload file of the user, and a shipped one by name" {
	printf 'model_configs:\n  mine:\n    num_layers: 2\n    hidden_dim: 256\n    num_heads: 4\n    kv_heads: 2\n' >good.yaml
	expect 0 "$KV" "${VIRTUAL[@]}" --config good.yaml --model mine
	result '.model.key == "mine" and .model.bytes_per_token == 2 * 2 * 2 * 64 * 2'
	expect 0 "$KV" "${VIRTUAL[@]}" --config workload-v1.yaml
	result '.workload.name == "v1" and .parameters.config == {value: "workload-v1.yaml", source: "given"}'
}

@test "traces: missing, broken and empty ones are refused by file and line" {
	refused 2 "--trace: cannot read $W/none.jsonl: No such file" -- "$KV" "${SMALL[@]}" --trace "$W/none.jsonl"
	refused 2 "--trace: " "$W/tmp" -- "$KV" "${SMALL[@]}" --trace "$W/tmp"

	local good='{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}'
	printf '%s\n' "$good" "$good" '{"timestamp": 1, "input_le' >bad.jsonl
	refused 2 "--trace: bad.jsonl:3: " -- "$KV" "${SMALL[@]}" --trace bad.jsonl
	printf '%s\n' "$good" '{"timestamp": -5, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}' >bad.jsonl
	refused 2 "--trace: bad.jsonl:2: " "timestamp" -- "$KV" "${SMALL[@]}" --trace bad.jsonl
	printf '%s\n' "$good" '{"timestamp": 1, "input_length": 600, "output_length": 1}' >bad.jsonl
	refused 2 "--trace: bad.jsonl:2: " "hash_ids" -- "$KV" "${SMALL[@]}" --trace bad.jsonl
	: >empty.jsonl
	refused 2 "--trace: " "empty.jsonl" -- "$KV" "${SMALL[@]}" --trace empty.jsonl
	echo text | gzip >bad.jsonl.gz
	refused 2 "--trace: bad.jsonl.gz:1: " -- "$KV" "${SMALL[@]}" --trace bad.jsonl.gz
}

@test "--output: no directory, a directory, not a file" {
	refused 3 "--output: there is no directory '$W/none'" -- "$KV" "${SMALL[@]}" --output "$W/none/r.json"
	refused 3 "--output: '$W/tmp' is a directory" -- "$KV" "${SMALL[@]}" --output "$W/tmp"
	refused 3 "--output: '/dev/null' is not a regular file" -- "$KV" "${SMALL[@]}" --output /dev/null
	[ -c /dev/null ]
	touch file
	refused 3 "--output: '$W/file' is not a directory" -- "$KV" "${SMALL[@]}" --output "$W/file/r.json"
}

@test "directories that this user may not write to" {
	need_nobody
	mkdir -m 755 closed
	mkdir -m 777 open
	cp "$T/kv-cache" "$W/open/" # only to have the listing show that it stays
	refused 3 "--output: '$W/closed' is not writable for this user" -- \
		"${AS_NOBODY[@]}" "$KV" "${SMALL[@]}" --cache-dir "$W/open" --output "$W/closed/r.json"
	refused 3 "--cache-dir: '$W/closed' is not writable for this user" -- \
		"${AS_NOBODY[@]}" "$KV" "${SMALL[@]}" --cache-dir "$W/closed" --output "$W/open/r.json"
	refused 3 "--cache-dir: '$W/closed' is not writable for this user" -- \
		"${AS_NOBODY[@]}" "$KV" "${SMALL[@]}" --cache-dir "$W/closed/a/b" --output "$W/open/r.json"
	mkdir -p -m 777 open/cache
	mkdir -m 755 open/cache/kvcache.d
	refused 3 "--cache-dir: '$W/open/cache/kvcache.d' is not writable for this user" -- \
		"${AS_NOBODY[@]}" "$KV" "${SMALL[@]}" --cache-dir "$W/open/cache" --output "$W/open/r.json"
	refused 2 "--cache-dir: /root lies in the system directory" -- \
		"${AS_NOBODY[@]}" "$KV" "${SMALL[@]}" --cache-dir /root --output "$W/open/r.json"
}

@test "--cache-dir: a file, or below one" {
	touch file
	mkdir taken
	touch taken/kvcache.d
	refused 3 "--cache-dir: '$W/file' is not a directory" -- "$KV" "${SMALL[@]}" --cache-dir file
	refused 3 "--cache-dir: '$W/file' is not a directory" -- "$KV" "${SMALL[@]}" --cache-dir file/below
	refused 3 "--cache-dir: '$W/taken/kvcache.d' is not a directory" -- "$KV" "${SMALL[@]}" --cache-dir taken
}

@test "--cache-dir: a link in place of kvcache.d is not followed" {
	local target
	mkdir -p elsewhere linked
	touch elsewhere/kvc-p1-g1.npy
	for target in "$W/elsewhere" "$W/nowhere"; do
		ln -sfn "$target" linked/kvcache.d
		refused 3 "--cache-dir: '$W/linked/kvcache.d' is a symbolic link" -- "$KV" "${SMALL[@]}" --cache-dir linked
		[ -L linked/kvcache.d ] && [ -e elsewhere/kvc-p1-g1.npy ]
	done
}

@test "--cache-dir: system directories, compared by component" {
	local dir
	for dir in /etc /bin /sbin /usr/bin /usr/sbin /boot /sys /proc /dev /root; do
		refused 2 "--cache-dir: $dir/kv lies in the system directory" -- "$KV" "${SMALL[@]}" --cache-dir "$dir/kv"
	done
	refused 2 "lies in the system directory /etc" -- "$KV" "${SMALL[@]}" --cache-dir /usr/../etc/./kv
	ln -s /etc link
	refused 2 "lies in the system directory /etc" -- "$KV" "${SMALL[@]}" --cache-dir "$W/link/kv"
	# Names that only begin alike are judged like any other; a memory tier that fits nowhere keeps the run from starting.
	for dir in /etcetera /devices /rootfs /boot2 "$W/etc" "$W/dev"; do
		refused 3 "--cpu-mem-gb: " -- "$KV" "${SMALL[@]}" --cache-dir "$dir/kv" --cpu-mem-gb 100000
		lacks "$ERR" "system directory"
		[ ! -e "$dir" ]
	done
}

# ---- refusals: the machine ----

@test "a memory tier that does not fit: exit 3 and a value that fits" {
	local fits available
	refused 3 "--cpu-mem-gb: 100000.000 GiB are asked for" "1 GiB must stay free" -- "$KV" "${SMALL[@]}" --cpu-mem-gb 100000
	fits="$(grep -oE 'at most [0-9.]+ fits' "$ERR" | grep -oE '[0-9.]+')"
	available="$(awk '/^MemAvailable/ {print $2 / 1048576}' /proc/meminfo)"
	# Memory comes and goes while tests run, so the bounds are wide.
	awk -v fits="$fits" -v available="$available" 'BEGIN { exit !(fits >= 0 && fits < available) }'
	rm -r cache
	refused 3 "--cpu-mem-gb: " -- "$KV" "${SMALL[@]}" --cpu-mem-gb 100000 --cache-dir "$W/cache/deeper"
}

@test "buffers that do not fit: exit 3, the options are named, nothing created" {
	refused 3 "--io-depth, --io-size: buffers of 256.000 GiB are asked for" "1 GiB must stay free" -- \
		"$KV" "${SMALL[@]}" --io-depth 4096 --io-size 64MiB
	# Without any transfer of data there are no buffers.
	expect 0 "$KV" "${VIRTUAL[@]}" --io-depth 4096 --io-size 64MiB
}

@test "entries that are all larger than the storage tier: not valid, and the reason says so" {
	expect 1 "$KV" "${SMALL[@]}" --model llama3.1-70b-instruct --storage-capacity-gb 0.001 --duration 2
	has "$ERR" "the result is not valid: no bytes moved: all "
	has "$ERR" " entries were larger than the storage tier"
	result '.valid == false and .refused_too_large > 0 and .errors.total == 0
	        and (.invalid_why | test("^no bytes moved: all [0-9]+ entries were larger"))'
	has "$OUT" "NO: no bytes moved: all"
}

@test "a capacity larger than the disk: exit 3 and a value that fits" {
	refused 3 "--storage-capacity-gb: 1000000000.000 GiB are asked for" "'$W/cache' has room for" -- \
		"$KV" "${SMALL[@]}" --storage-capacity-gb 1e9
	expect 0 "$KV" "${SMALL[@]}" --storage-capacity-gb "$(grep -oE '[0-9.]+ fits' "$ERR" | grep -oE '[0-9.]+')"
}

@test "--require-space: a working set that does not fit is refused, unless evictions are asked for" {
	refused 3 "--cache-dir: '$W/cache' has room for" "and the working set takes" "--storage-capacity-gb" -- \
		"$KV" --model llama2-7b --num-users 100000 --gpu-mem-gb 0 --cpu-mem-gb 0 --duration 1 --cache-dir "$W/cache" --require-space
	expect 0 "$KV" "${SMALL[@]}" --num-users 100000 --require-space
}

@test "--io-mode direct in memory: exit 3, nothing is left" {
	mount_tmpfs "$W/memory" 64
	local NAMES_ONLY=1 # whether a directory can do direct I/O is found out by trying, in a file that goes again
	refused 3 "--io-mode direct: no direct I/O in '$W/memory/kvcache.d' (tmpfs)" "--io-mode auto" -- \
		"$KV" "${SMALL[@]}" --storage-capacity-gb 0.05 --cache-dir "$W/memory" --io-mode direct
	refused 3 "--io-mode direct" -- \
		"$KV" "${SMALL[@]}" --storage-capacity-gb 0.05 --cache-dir "$W/memory/new/deep" --io-mode direct
	# With a directory that was there before, with something in it.
	mkdir "$W/memory/kvcache.d"
	touch "$W/memory/kvcache.d/mine.npy"
	refused 3 "--io-mode direct" -- \
		"$KV" "${SMALL[@]}" --storage-capacity-gb 0.05 --cache-dir "$W/memory" --io-mode direct
}

@test "--io-mode auto in memory: announced, and the result says what was measured" {
	mount_tmpfs "$W/memory" 500
	expect 0 "$KV" "${SMALL[@]}" --storage-capacity-gb 0.4 --cache-dir "$W/memory"
	has "$ERR" "WARNING - buffered I/O in '$W/memory/kvcache.d' (tmpfs): tmpfs lives in memory"
	result '.io.mode == "buffered" and .io.filesystem == "tmpfs" and .parameters.io_mode.value == "auto"'
	result '.verdicts.page_cache_bypassed.value == false and ([.measured.kernel_device[]] | all(. == null))'
	result '.valid and .errors.total == 0 and .measured.storage.write_bytes > 0'
	# Automatic capacity: at most half of the memory that is there, and what the file system holds.
	expect 0 "$KV" "${SMALL[@]}" --storage-capacity-gb 0 --cache-dir "$W/memory"
	result '.tiers.storage.limit_bytes <= 500 * 1048576 and .tiers.storage.asked_gib == null'
}
