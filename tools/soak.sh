#!/bin/sh
# A long run with evictions at every tier, watched from outside: memory and open files stay flat. Then SIGINTs at random moments:
# each leaves exit code 8 and a whole, partial result. Then a cache of 3 GiB that neither repeats nor compresses, and one entry of
# 8 GiB; in less than 600 seconds, less of them. "soak.sh BUILD_DIR SECONDS SIGNALS"
set -eu
kv_cache=$1/src/engine/kv-cache
seconds=$2
signals=$3
source=$(dirname "$0")/..
dir=$(mktemp -d "${TMPDIR:-/tmp}/mlpstorage-soak-XXXXXX")
trap 'kill "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT
pid=

fail() {
	cat "$dir/err"
	echo "soak: $1"
	exit 1
}

start() {
	# So few users that the storage tier is larger than what all requests in service write: else nothing moves down to it.
	"$kv_cache" --model tiny-1b --num-users 8 --gpu-mem-gb 0 --cpu-mem-gb 0.5 --storage-capacity-gb 2 --generation-mode none \
		--seed "$1" --duration "$2" --interval "$(($2 / 10))" --cache-dir "$dir/cache" --output "$dir/result.json" --quiet 2>"$dir/err" &
	pid=$!
}

# rss_kb files: of the running engine
sample() {
	awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"
	find "/proc/$pid/fd" -mindepth 1 2>/dev/null | wc -l
}

evictions() {
	start 42 "$seconds"
	sleep 5
	sample >"$dir/first"
	while kill -0 "$pid" 2>/dev/null; do
		sample >"$dir/now" 2>/dev/null || break
		[ "$(wc -l <"$dir/now")" -eq 2 ] && cp "$dir/now" "$dir/last"
		sleep 1
	done
	wait "$pid" || fail "the run failed"
	# shellcheck disable=SC2046 # two numbers each
	set -- $(cat "$dir/first") $(cat "$dir/last")
	echo "memory: $1 KiB after 5 s, $3 KiB at the end; open files: $2, then $4"
	# The pools are touched as they are first used, so a little growth is theirs; files in use come and go with the operations.
	if [ "$3" -gt $(($1 + 65536)) ] || [ "$4" -gt $(($2 + 200)) ]; then
		fail "memory or open files grew"
	fi
	jq -r '"evicted: \(.measured.evict.demoted_bytes) bytes demoted, \(.measured.evict.deleted_bytes) bytes deleted; errors: \(.errors.total)"' "$dir/result.json"
	jq -e .valid "$dir/result.json" >/dev/null || fail "the result is not valid"
	# Still in the second half: a slow disk may take a while to fill the storage tier.
	jq -s -e 'length == 10 and (.[5:] | map(.counters) | all(map(.demoted_bytes), map(.deleted_bytes); add > 0))' \
		"$dir/result_interval.ndjson" >/dev/null || fail "a tier stopped evicting"
}

interrupts() {
	n=0
	while [ "$n" -lt "$signals" ]; do
		n=$((n + 1))
		rm -f "$dir/result.json" "$dir/result_interval.ndjson"
		start "$n" 60
		# Before that, a signal leaves at once: there is nothing to write down.
		i=0
		until [ -e "$dir/result_interval.ndjson" ] || [ "$i" -eq 400 ]; do
			i=$((i + 1))
			sleep 0.05
		done
		sleep "$(awk -v n="$n" 'BEGIN { srand(n); printf "%.3f", 2 * rand() }')"
		kill -INT "$pid"
		code=0
		wait "$pid" || code=$?
		if [ "$code" -ne 8 ] || ! jq -e '.state == "interrupted" and .errors.total == 0' "$dir/result.json" >/dev/null; then
			fail "SIGINT number $n: exit code $code, or no whole result"
		fi
	done
	echo "$signals SIGINTs at random moments: exit code 8 and a whole result each time"
}

# share WHOLE LEAST: as much of WHOLE as SECONDS are of 600
share() {
	awk -v w="$1" -v l="$2" -v s="$seconds" 'BEGIN { n = int(w * s / 600); if (n < l) n = l; if (n > w) n = w; print n }'
}

# As long as fills the tier and makes entries leave it: what is there in the end is looked at.
entropy() {
	"${CC:-cc}" -O2 -o "$dir/entropy" "$source/tests/entropy.c" -lxxhash -lzstd -llz4
	mib=$(share 3072 256)
	rm -rf "$dir/cache"
	# Entries on both sides of 16 MiB, where they begin to share noise: 1.5 to 12 MiB, and 17 to 24.
	printf 'workload: {context_min_divisor: 1}\nuser_templates:\n' >"$dir/mixed.yaml"
	printf '  %s: {context_range: [%s], think_time_range: [0.01, 0.05]}\n' chatbot "64, 512" coding "725, 1024" \
		document "725, 1024" >>"$dir/mixed.yaml"
	"$kv_cache" --config "$dir/mixed.yaml" --model tiny-1b --num-users 6 --gpu-mem-gb 0 --cpu-mem-gb 0 --generation-mode none \
		--seed 42 --prefill-only \
		--storage-capacity-gb "$(awk -v m="$mib" 'BEGIN { print m / 1024 }')" --duration "$(share 30 5)" \
		--cache-dir "$dir/cache" --output "$dir/result.json" --quiet 2>"$dir/err" || fail "the run that fills a cache failed"
	# shellcheck disable=SC2046 # "blocks N repeated N bytes N zstd N lz4 N"
	set -- $("$dir/entropy" "$dir"/cache/kvcache.d/*.npy)
	large=$(find "$dir/cache" -name '*.npy' -size +16384k | wc -l)
	small=$(find "$dir/cache" -name '*.npy' ! -size +16384k | wc -l)
	echo "a cache of $small small entries and $large large ones, $6 bytes: $2 blocks, $4 of them repeated; $8 bytes after zstd -3, ${10} after lz4"
	[ "$6" -gt $((mib * 524288)) ] || fail "less than half of the cache was filled"
	if [ "$large" -eq 0 ] || [ "$small" -eq 0 ]; then fail "the cache lacks entries of one kind"; fi
	if [ "$4" -ne 0 ] || [ "$8" -le $(($6 / 100 * 99)) ] || [ "${10}" -le $(($6 / 100 * 99)) ]; then
		fail "the cache repeats or compresses"
	fi
}

# A block of 512 tokens of a model with that many layers of 128 KiB a token.
large_entry() {
	layers=$(share 128 4)
	bytes=$((layers * 512 * 131072))
	rm -rf "$dir/cache"
	printf 'model_configs:\n  large: {num_layers: %d, hidden_dim: 65536, num_heads: 64, kv_heads: 64, dtype: int8}\n' "$layers" >"$dir/large.yaml"
	for row in write read; do
		echo '{"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": [1]}'
	done >"$dir/trace.jsonl"
	"$kv_cache" --config "$dir/large.yaml" --model large --trace "$dir/trace.jsonl" --trace-speedup 0 --num-users 1 --gpu-mem-gb 0 \
		--cpu-mem-gb 0 --storage-capacity-gb 9 --generation-mode none --duration 3600 --cache-dir "$dir/cache" \
		--output "$dir/result.json" --quiet 2>"$dir/err" || fail "the run with a large entry failed"
	jq -r '"one entry of \(.measured.storage.write_bytes) bytes, read back: \(.measured.verified_blocks) blocks checked, \(.memory.rss_peak_bytes) bytes of memory at most"' "$dir/result.json"
	jq -e --argjson b "$bytes" '.valid and .errors.total == 0 and .memory.rss_peak_bytes < 268435456 and .measured.verified_blocks == $b / 512
		and (.measured.storage | .write_ops == 1 and .write_bytes == $b and .read_ops == 1 and .read_bytes == $b)' "$dir/result.json" >/dev/null ||
		fail "the large entry was not written and read whole, or memory grew with it"
	[ "$(stat -c %s "$dir"/cache/kvcache.d/kvc-*.npy)" -eq $((bytes + 4096)) ] || fail "its file is not complete"
}

evictions
interrupts
entropy
large_entry
