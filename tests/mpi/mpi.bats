#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kv-cache-mpi under a real launcher: ranks agree, start together, are pooled, and end together whatever happens to one.

load mpi

setup() {
	mpi_setup
}

teardown() {
	ranks_running | while read -r id rank; do kill -KILL "$id" || :; done 2>/dev/null
	engine_teardown
}

# Sums and percentiles of the ranks' own files against the pooled result. $1: number of ranks
check_pooled() {
	"$PYTHON" - "$R" "$1" <<-'END'
		import json, math, os, sys
		pooled, ranks = json.load(open(sys.argv[1])), int(sys.argv[2])
		directory, name = os.path.split(sys.argv[1])
		own = [json.load(open(os.path.join(directory, "rank_%d" % r, name))) for r in range(ranks)]
		assert len(pooled["ranks"]) == ranks
		series = pooled["histograms"]["series"]
		assert set(series) == set().union(*(o["histograms"]["series"] for o in own)), "other histograms"
		geometry = pooled["histograms"]["geometry"]
		def middle(i):
		    if i < geometry["linear"]:
		        return i
		    octave, place = divmod(i - geometry["linear"], geometry["per_octave"])
		    low = (geometry["per_octave"] + place) << (octave + 1)
		    return (2 * low + (2 << octave) - 1) / 2
		def percentile(h, q):
		    samples = [middle(i) for i, n in h["buckets"] for _ in range(n)]
		    samples = [min(max(s, h["min_ns"]), h["max_ns"]) for s in samples]
		    samples[0], samples[-1] = h["min_ns"], h["max_ns"]
		    at = (len(samples) - 1) * q / 100
		    low = math.floor(at)
		    high = min(low + 1, len(samples) - 1)
		    return samples[low] + (at - low) * (samples[high] - samples[low])
		for key, h in series.items():
		    parts = [o["histograms"]["series"][key] for o in own if key in o["histograms"]["series"]]
		    buckets = {}
		    for p in parts:
		        for i, n in p["buckets"]:
		            buckets[i] = buckets.get(i, 0) + n
		    assert h["buckets"] == [[i, buckets[i]] for i in sorted(buckets)], key
		    assert h["count"] == sum(p["count"] for p in parts), key
		    assert h["sum_ns"] == sum(p["sum_ns"] for p in parts), key
		    assert h["min_ns"] == min(p["min_ns"] for p in parts), key
		    assert h["max_ns"] == max(p["max_ns"] for p in parts), key
		response = pooled["measured"]["requests"]["response_latency_ms"]
		for q, k in ((50, "p50"), (95, "p95"), (99, "p99"), (99.9, "p999")):
		    expected = percentile(series["response"], q) / 1e6
		    assert abs(response[k] - expected) <= 1e-9 * expected, (k, response[k], expected)
		def at(o, path):
		    for k in path.split("."):
		        o = o[k]
		    return o
		for path in ("requests_completed", "total_tokens_generated", "summary.cache_stats.total_read_bytes",
		             "measured.cpu.read_bytes", "measured.storage.write_bytes", "summary.cache_stats.cache_hits",
		             "errors.total", "run.workers", "tiers.storage.limit_bytes", "tiers.storage.entries"):
		    assert at(pooled, path) == sum(at(o, path) for o in own), path
		window = max(o["measured"]["window_s"] for o in own)
		assert pooled["window_s"] == pooled["measured"]["window_s"] == window
		assert abs(pooled["summary"]["requests_per_second"] - pooled["requests_completed"] / window) < 1e-9
		for r, o in enumerate(own):
		    line = pooled["ranks"][r]
		    assert line["rank"] == r and line["seed"] == o["seed"] == pooled["seed"] + r
		    assert line["window_s"] == o["measured"]["window_s"] and line["valid"] == o["valid"]
		    assert line["storage_read_bytes_per_s"] == o["measured"]["storage"]["read_bytes_per_s"]
	END
}

@test "every meeting of the ranks gives what it should" {
	local n
	for n in 1 2 5; do
		expect 0 "${LAUNCH[@]}" -n "$n" "$BUILD_DIR/tests/meetings"
		[ "$(grep -c " $n ranks" "$OUT")" -eq 6 ]
	done
	# As between hosts: a long message then waits for both sides.
	[ "$MPI" != openmpi ] || expect 0 "${LAUNCH[@]}" --mca btl tcp,self -n 3 "$BUILD_DIR/tests/meetings"
}

@test "a library that does not let its process go is left behind: the exit code is the rank's own" {
	start "${LAUNCH[@]}" -n 2 "$BUILD_DIR/tests/meetings" 8
	finish 8
	no_orphans
}

@test "4 ranks on the virtual clock: the pooled result is the sum of the ranks', bucket by bucket" {
	expect 0 "${LAUNCH[@]}" -n 4 "$KVM" "${VIRTUAL[@]}" --quiet
	check_pooled 4
	result '.state == "complete" and .valid and .window_s == 5 and .window_skew_s == null'
	# Rank 0 is, to the bit, a run alone.
	expect 0 "$KV" "${VIRTUAL[@]}" --output "$T/alone.json" --quiet
	cmp <(jq -S '.histograms, .summary' "$T/alone.json") <(jq -S '.histograms, .summary' "$T/rank_0/result.json")
	# And two such runs give the same file.
	mv "$R" "$T/first.json"
	expect 0 "${LAUNCH[@]}" -n 4 "$KVM" "${VIRTUAL[@]}" --quiet
	cmp "$R" "$T/first.json"
}

@test "each rank has the users of its own seed: base + rank" {
	expect 0 "${LAUNCH[@]}" -n 4 "$KVM" "${VIRTUAL[@]}" --num-users 2 --quiet
	# Two users have one or two levels of service: which, differs between these seeds. (When their requests come depends on the rank, too.)
	local r levels='.measured.requests.by_qos | map_values(.offered > 0)' seen=""
	for r in 0 1 2 3; do
		expect 0 "$KV" "${VIRTUAL[@]}" --num-users 2 --seed $((42 + r)) --output "$T/alone.json" --quiet
		cmp <(jq -cS "$levels" "$T/alone.json") <(jq -cS "$levels" "$T/rank_$r/result.json")
		seen+="$(jq -cS "$levels" "$T/alone.json")
"
	done
	[ "$(printf %s "$seen" | sort -u | wc -l)" -eq 3 ]
}

@test "4 ranks on the null tier: one summary, by rank 0" {
	expect 0 "${LAUNCH[@]}" -n 4 "$KVM" "${NULL[@]}" --duration 1
	check_pooled 4
	result '.window_s >= 0.99 and .window_s < 1.5 and .window_skew_s >= 0 and (.ranks | map(.valid) | all)'
	[ "$(grep -c "^RANKS" "$OUT")" -eq 1 ]
	has "$OUT" "4 on 1 host"
	[ "$(grep -c "result file:" "$ERR")" -eq 1 ]
	no_orphans
}

@test "4 ranks on files: seeds, directories and windows are the rank's own" {
	expect 0 "${LAUNCH[@]}" -n 4 "$KVM" "${DISK[@]}" --duration 2
	check_pooled 4
	result '[.ranks[].window_s] == [2, 2, 2, 2] and .window_s == 2 and .window_skew_s < 1'
	result '[.ranks[].seed] == [42, 43, 44, 45] and .errors.total == 0'
	result '.measured.storage.write_bytes > 0 and (.ranks | map(.storage_write_bytes_per_s > 0) | all)'
	local r
	for r in 0 1 2 3; do
		check_arrays "$W/cache/rank_$r/kvcache.d" 1
	done
	[ "$(ls "$W/cache")" = "$(printf 'rank_%d\n' 0 1 2 3)" ]
}

@test "a rank's own result that cannot be written: said, the others and the pooled one are there, exit 3" {
	echo no >"$T/rank_1"
	expect 3 "${LAUNCH[@]}" -n 3 "$KVM" "${VIRTUAL[@]}" --quiet
	has "$ERR" "cannot write rank 1's result beside '$R'"
	result '.valid and (.ranks | length) == 3'
	[ -e "$T/rank_0/result.json" ] && [ -e "$T/rank_2/result.json" ]
}

@test "8 ranks, more than there are cores" {
	expect 0 "${LAUNCH[@]}" -n 8 "$KVM" "${NULL[@]}" --duration 1
	check_pooled 8
	result '(.ranks | length) == 8 and .valid'
	no_orphans
}

@test "one rank under a launcher is a job, too; without a launcher it is a run like any other" {
	expect 0 "${LAUNCH[@]}" -n 1 "$KVM" "${VIRTUAL[@]}" --quiet
	result '(.ranks | length) == 1 and .seed == 42'
	expect 0 "$KVM" "${VIRTUAL[@]}" --quiet
	result 'has("ranks") | not'
}

@test "a seed that is drawn is drawn once" {
	expect 0 "${LAUNCH[@]}" -n 3 "$KVM" --simulate --model tiny-1b --num-users 4 --duration 2 --quiet --output "$R"
	result '.seed_was_drawn and ([.ranks[].seed] == [.seed, .seed + 1, .seed + 2])'
}

@test "all problems of all ranks come in one message, and nothing is made" {
	mkdir -p "$W/cache"
	echo no >"$W/cache/rank_1"
	echo no >"$W/cache/rank_2"
	refused 3 "kv-cache: rank 1 on " "/cache/rank_1' is not a directory" "/cache/rank_2' is not a directory" -- \
		"${LAUNCH[@]}" -n 4 "$KVM" "${DISK[@]}" --duration 1
	[ "$(grep -c "^kv-cache:" "$ERR")" -eq 2 ]
	refused 3 "kv-cache: every rank: --cpu-mem-gb: " "by the 4 ranks of this host" -- \
		"${LAUNCH[@]}" -n 4 "$KVM" "${DISK[@]}" --cpu-mem-gb 100000
	refused 2 "kv-cache: every rank: --num-users: " -- "${LAUNCH[@]}" -n 4 "$KVM" --num-users 0
	[ "$(grep -c "^kv-cache:" "$ERR")" -eq 1 ]
	no_orphans
}

@test "--require-space: ranks whose working set does not fit are refused, each with its directory, and nothing is made" {
	local big=("$KVM" --model llama2-7b --num-users 100000 --generation-mode none --gpu-mem-gb 0 --cpu-mem-gb 0
		--cache-dir "$W/cache" --output "$R" --duration 1 --require-space)
	refused 3 "kv-cache: rank 0 on $(uname -n): --cache-dir: '$W/cache/rank_0' has room for " \
		"kv-cache: rank 1 on $(uname -n): --cache-dir: '$W/cache/rank_1' has room for " \
		" for each of the 2 ranks that share it, and the working set takes " "--storage-capacity-gb " -- \
		"${LAUNCH[@]}" -n 2 "${big[@]}"
	[ "$(grep -c "^kv-cache:" "$ERR")" -eq 2 ]
	no_orphans
}

@test "--require-space: the one rank that has no room is named, and no other" {
	mount_tmpfs "$W/cache/rank_1" 16
	refused 3 "kv-cache: rank 1 on $(uname -n): --cache-dir: '$W/cache/rank_1' has room for 0.0 GiB, and the working set takes " -- \
		"${LAUNCH[@]}" -n 3 "$KVM" "${DISK[@]}" --storage-capacity-gb 0 --duration 1 --require-space
	[ "$(grep -c "^kv-cache:" "$ERR")" -eq 1 ]
	no_orphans
}

@test "a directory that one rank cannot lock stops all, and they leave nothing" {
	need_root "to hold a lock in a directory of its own"
	mkdir -p "$W/cache/rank_3/kvcache.d"
	flock "$W/cache/rank_3/kvcache.d" sleep 60 3>&- &
	STARTED+=($!)
	sleep 0.3
	NAMES_ONLY=1
	refused 3 "kv-cache: rank 3 on " "in use" -- "${LAUNCH[@]}" -n 4 "$KVM" "${DISK[@]}" --duration 1
	no_orphans
}

@test "ranks on one file system share its free space, those of one host its memory" {
	expect 0 "${LAUNCH[@]}" -n 4 "$KVM" "${DISK[@]}" --storage-capacity-gb 0 --duration 1 --max-requests 1 --cleanup
	local each free
	each="$(jq '.tiers.storage.limit_bytes' "$T/rank_1/result.json")"
	free="$(($(stat -f -c '%a * %S' "$W")))"
	[ $((each * 4)) -lt "$free" ]
	refused 3 "--storage-capacity-gb: " "for each of the 4 ranks that share it" -- \
		"${LAUNCH[@]}" -n 4 "$KVM" "${DISK[@]}" --duration 1 --storage-capacity-gb "$(awk -v n="$free" 'BEGIN { printf "%.2f", n / 3 / 1073741824 }')"
}

@test "a rank that is killed ends the run" {
	start_ranks 4 "$KVM" "${NULL[@]}" --duration 60
	kill -KILL "$(rank_id 2)"
	fails_within 20
}

@test "a rank that hangs is named, in time, and the others' results are kept" {
	start_ranks 4 "$KVM" "${NULL[@]}" --duration 4 --drain-timeout 1 --rank-timeout 2
	kill -STOP "$(rank_id 2)"
	fails_within 30
	has "$ERR" "no answer while collecting the ranks' reports: rank 2 on "
	jq -e '.valid' "$T/rank_1/result.json" "$T/rank_3/result.json" >/dev/null
	[ ! -e "$R" ]
}

@test "rank 0 hanging ends the run, too" {
	start_ranks 3 "$KVM" "${NULL[@]}" --duration 3 --drain-timeout 1 --rank-timeout 1
	kill -STOP "$(rank_id 0)"
	fails_within 40
	has "$ERR" "rank 0 on "
}

@test "SIGUSR1 to the launcher stops all: a partial pooled result" {
	start_ranks 4 "$KVM" "${NULL[@]}" --duration 60
	kill -USR1 "$P"
	finish 8
	result '.state == "interrupted" and (.ranks | map(.state == "interrupted") | all) and .window_s < 30'
	no_orphans
}

@test "a signal to one rank stops the window of all" {
	start_ranks 3 "$KVM" "${NULL[@]}" --duration 60
	kill -INT "$(rank_id 1)"
	finish 8
	result '.state == "interrupted" and (.ranks | map(.state == "interrupted") | all) and .window_s < 30'
	check_pooled 3
	no_orphans
}

@test "a signal while entries are written before the run stops all" {
	start_ranks 2 "$KVM" "${DISK[@]}" --duration 60 --precondition --precondition-size-gb 100
	kill -INT "$(rank_id 1)"
	finish 8
	result '.state == "interrupted" and .window_s == 0'
	no_orphans
}

@test "a program of one MPI under the other's launcher is refused, with both sizes" {
	local other=(mpiexec.hydra)
	if [ "$OTHER_MPI" = openmpi ]; then
		other=(mpirun.openmpi --oversubscribe)
		[ "$(id -u)" -ne 0 ] || other+=(--allow-run-as-root)
	fi
	command -v "${other[0]}" >/dev/null || skip "$OTHER_MPI is not installed"
	refused 3 "the launcher started 3 processes (" "knows 1" -- "${other[@]}" -n 3 "$KVM" "${VIRTUAL[@]}"
	[ "$(grep -c "knows 1" "$ERR")" -eq 1 ]
}

@test "kv-cache refuses to be one of several processes, and names kv-cache-mpi" {
	refused 3 "one of 2 processes" "kv-cache-mpi" -- "${LAUNCH[@]}" -n 2 "$KV" "${VIRTUAL[@]}"
	[ "$(grep -c "one of 2 processes" "$ERR")" -eq 1 ]
}

@test "ranks of another version are named with their path" {
	sed 's/0\.1\.0/0.1.9/g' "$KVM" >"$T/other-kv-cache"
	chmod +x "$T/other-kv-cache"
	refused 6 "rank 1 on " "$T/other-kv-cache is version 0.1.9 here, but rank 0 on " "runs 0.1.0 ($KVM)" -- \
		"${LAUNCH[@]}" -n 1 "$KVM" "${VIRTUAL[@]}" : -n 1 "$T/other-kv-cache" "${VIRTUAL[@]}"
}

@test "--version and --help are said once" {
	# Hydra may end with SIGPIPE when its processes end before it has set them up, so its exit code says nothing here.
	"${LAUNCH[@]}" -n 3 "$KVM" --version >"$OUT" </dev/null || [ "$MPI" = mpich ]
	[[ "$(cat "$OUT")" == "kv-cache 0.1.0, "@("Open MPI "|"MPICH Version: ")[0-9v]* ]]
	[ "$(wc -l <"$OUT")" -eq 1 ]
	"${LAUNCH[@]}" -n 3 "$KVM" --help >"$OUT" </dev/null || [ "$MPI" = mpich ]
	[ "$(grep -c "^usage:" "$OUT")" -eq 1 ]
}

@test "--frames: every kind of frame, whole, from rank 0, and the summary; no file" {
	mkdir "$T/f"
	expect 0 "${LAUNCH[@]}" -n 3 "$KVM" "${NULL[@]}" --duration 4 --frames
	"$FRAMES" "$T/f" <"$OUT" >"$T/list"
	[ "$(grep -c "^STORAGE TIER$" "$T/f/text")" -eq 1 ]
	[ "$(grep -c "ranks  *3 on 1 host" "$T/f/text")" -eq 1 ]
	[ ! -e "$R" ]
	expect 0 "${LAUNCH[@]}" -n 3 "$KVM" "${NULL[@]}" --duration 1 --frames --quiet
	mkdir "$T/q"
	"$FRAMES" "$T/q" <"$OUT" >"$T/quiet"
	is_empty "$T/q/text"
	[ "$(grep -c "^ready" "$T/list")" -eq 3 ]
	[ "$(grep -c "^result" "$T/list")" -eq 3 ]
	[ "$(grep -c "^aggregate 0" "$T/list")" -eq 1 ]
	[ "$(grep -c "^progress 0" "$T/list")" -ge 2 ]
	[ "$(grep "^snapshot" "$T/list" | cut -d' ' -f2 | sort -u | wc -l)" -eq 3 ]
	jq -e '.ranks == 3 and (.io_engine | type) == "string" and .version == "0.1.0" and .mpi_library != ""' "$T"/f/ready.* >/dev/null
	jq -e '.partial and .measured.storage.read_bytes > 0 and (has("histograms") | not)' "$T"/f/snapshot.* >/dev/null
	jq -e '(.ranks | length) == 3 and .valid' "$T"/f/aggregate.* >/dev/null
	# As files they would have been the same.
	cp "$T"/f/aggregate.* "$R"
	local r
	for r in 0 1 2; do
		mkdir -p "$T/rank_$r"
		cp "$T"/f/result."$r".* "$T/rank_$r/result.json"
	done
	check_pooled 3
}

@test "--frames: problems come as a frame" {
	mkdir -p "$W/cache" "$T/f"
	echo no >"$W/cache/rank_1"
	expect 3 "${LAUNCH[@]}" -n 2 "$KVM" "${DISK[@]}" --duration 1 --frames
	"$FRAMES" "$T/f" <"$OUT"
	jq -e 'length == 1 and .[0].rank == 1 and .[0].host != "" and .[0].code == 404 and (.[0].message | contains("rank_1"))' \
		"$T"/f/problems.* >/dev/null
}

@test "--frames: what was sent before a rank is killed is there" {
	mkdir "$T/f"
	start_ranks 3 "$KVM" "${NULL[@]}" --duration 60 --frames
	sleep 2.5
	kill -KILL "$(rank_id 1)"
	fails_within 20
	"$FRAMES" "$T/f" <"$OUT" >"$T/list" || : # the last frame may be torn
	[ "$(grep "^snapshot" "$T/list" | cut -d' ' -f2 | sort -u | wc -l)" -eq 3 ]
}

@test "--frames without MPI: one rank" {
	mkdir "$T/f"
	expect 0 "$KV" "${VIRTUAL[@]}" --frames
	"$FRAMES" "$T/f" <"$OUT" >"$T/list"
	[ "$(grep -c "^STORAGE TIER$" "$T/f/text")" -eq 1 ]
	[ "$(grep -cE "^(ready|result|aggregate) 0 " "$T/list")" -eq 3 ]
	jq -e '(.ranks | length) == 1 and .valid' "$T"/f/aggregate.* >/dev/null
}

@test "hosts have names and clocks of their own" {
	need_root "to give a process another host name"
	printf '#!/bin/sh\nhostname "$1"\nshift\nexec "$@"\n' >"$T/as-host"
	chmod +x "$T/as-host"
	expect 0 "${LAUNCH[@]}" -n 2 unshare -u "$T/as-host" near "$KVM" "${NULL[@]}" --duration 1 : \
		-n 2 unshare -u "$T/as-host" far "$KVM" "${NULL[@]}" --duration 1
	result '[.ranks[].host] == ["near", "near", "far", "far"] and .host.hostname == "mixed"'
	# One clock in truth, so that what is found between them is the error of the estimate.
	result '.window_skew_s < 0.2'
	check_pooled 4
}

@test "--frames: of each host the lowest rank tells what it is, at both ends of the run, and samples it" {
	need_root "to give a process another host name"
	printf '#!/bin/sh\nhostname "$1"\nshift\nexec "$@"\n' >"$T/as-host"
	chmod +x "$T/as-host"
	mkdir "$T/f"
	local words=("$KVM" "${NULL[@]}" --duration 2 --frames --host-series-interval 0.3)
	expect 0 "${LAUNCH[@]}" -n 2 unshare -u "$T/as-host" near "${words[@]}" : -n 2 unshare -u "$T/as-host" far "${words[@]}"
	"$FRAMES" "$T/f" <"$OUT" >"$T/list"
	[ "$(grep "^host" "$T/list" | cut -d' ' -f2 | xargs)" = "0 2 0 2" ]
	jq -es 'map(.hostname) == ["near", "near"] and all(.memory.total > 0 and (.vmstat | length) > 10)' "$T"/f/host.0.* >/dev/null
	jq -es 'map(.hostname) == ["far", "far"]' "$T"/f/host.2.* >/dev/null
	[ "$(grep "^series" "$T/list" | cut -d' ' -f2 | sort -u | xargs)" = "0 2" ]
	jq -es 'length >= 3 and all(.hostname == "far" and .loadavg.load_1min >= 0)' "$T"/f/series.2.* >/dev/null
}
