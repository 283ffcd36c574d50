#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# mlpstorage with real launchers and real ranks on this machine.

load ../cli/control

setup() {
	control_setup
	if [ "$MPI" = openmpi ]; then
		export MPI_RUN_BIN=mpirun.openmpi
		OTHER=mpirun.mpich
	else
		export MPI_RUN_BIN=mpiexec.hydra
		OTHER=mpirun.openmpi
	fi
	JOB=(kvcache run --results-dir "$R" --model tiny-1b --num-users 4 --generation-mode fast --gpu-mem-gb 0 --cpu-mem-gb 0
		--storage-backend null --hosts localhost --oversubscribe --allow-run-as-root --num-processes 4)
}

teardown() {
	# What a failed test left behind, and nothing else: its command lines name this test's directory.
	local id
	for id in $(pgrep -f -- "$T"); do kill -9 "$id" 2>/dev/null || true; done
	control_teardown
}

aggregate() {
	find "$R" -name 'kvcache_results_*.json' -not -path '*/rank_*'
}

# Ranks of this test that are still there.
ranks() {
	pgrep -f -- "kv-cache-mpi .*$T" || true
}

no_orphans() {
	local i
	for ((i = 0; i < 100; i++)); do
		[ -n "$(ranks)" ] || return 0
		sleep 0.05
	done
	return 1
}

# Start a long run and wait until its snapshots come. $P: mlpstorage.
start_job() {
	env --default-signal=INT "$MLPSTORAGE" "${JOB[@]}" --cache-dir "$T/cache" --duration 300 "$@" >"$OUT" 2>"$ERR" </dev/null &
	P=$!
	local i
	for ((i = 0; i < 400; i++)); do
		! grep -q 'ranks: measure' "$ERR" || break
		sleep 0.05
	done
	has "$ERR" "ranks: measure"
}

ends_with() {
	local rc=0
	wait "$P" || rc=$?
	[ "$rc" -eq "$1" ] || {
		echo "exit $rc instead of $1"
		cat "$ERR"
		return 1
	}
}

# What a rank told over time adds up to its result. $1: its directory.
intervals_of() {
	local wrong
	wrong="$(jq -cs --slurpfile r "$(find "$1" -name 'kvcache_results_*.json')" -f "${BATS_TEST_DIRNAME}/../intervals.jq" "$1"/*_interval.ndjson)"
	[ "$wrong" = "[]" ] || {
		echo "intervals and result of $1 differ: $wrong"
		return 1
	}
}

@test "four ranks: a file of each, one of all, the metadata of a distributed run" {
	expect 0 "$MLPSTORAGE" "${JOB[@]}" --duration 2 --seed 100
	has "$OUT" "STORAGE TIER"
	has "$OUT" "4 on 1 host"
	lacks "$OUT" "MLPS1"
	jq -e '.kvcache_engine.path | endswith("/kv-cache-mpi")' "$(metadata)"
	[ "$(find "$R" -path '*/rank_*' -name 'kvcache_results_*.json' | wc -l)" -eq 4 ]
	jq -e '.status == "complete" and .num_processes == 4 and .exec_type == "mpi" and .hosts == ["localhost"]
	       and .kvcache_metrics.rank_count == 4 and .kvcache_metrics.partial_failure == false
	       and .kvcache_metrics.aggregated_read_bandwidth_gbps > 0' "$(metadata)"
	jq -e '.aggregate.rank_count == 4 and .aggregate.missing_files == [] and .window_s > 0 and .window_skew_s >= 0
	       and .summary.total_requests == ([.ranks[].requests_completed] | add)' "$(aggregate)"
	jq -s -e '([.[].seed] | sort) == [100, 101, 102, 103]' "$R"/kv_cache/tiny-1b/run/*/rank_*/kvcache_results_*.json
	# The reference's sums are those of the files.
	local sum
	sum="$(jq -s '[.[].summary.cache_stats.tier_storage_read_bandwidth_gbps] | add' "$R"/kv_cache/tiny-1b/run/*/rank_*/kvcache_results_*.json)"
	jq -e --argjson sum "$sum" '(.aggregate.aggregated_read_bandwidth_gbps - $sum | fabs) < 1e-9 * $sum' "$(aggregate)"
	expect 0 "$MLPSTORAGE" history list --results-dir "$R"
	has "$OUT" "tiny-1b"
}

@test "without --cache-dir each rank has a directory of its own, which goes at the end" {
	local job=("${JOB[@]}" --duration 2 --storage-capacity-gb 0.5)
	for i in "${!job[@]}"; do [ "${job[$i]}" != null ] || job[i]=file; done
	expect 0 "$MLPSTORAGE" "${job[@]}"
	has "$ERR" "kvcache_data/rank_0"
	[ -z "$(find "$R" -name kvcache_data)" ]
}

@test "SIGINT and SIGTERM: every rank ends in good order, a partial result, exit 8" {
	for signal in INT TERM; do
		start_job
		kill -s "$signal" "$P"
		ends_with 8
		has "$ERR" "RESULT: Result: $R"
		no_orphans
		jq -e '.status == "interrupted" and .exit_status == 8 and .kvcache_metrics.rank_count == 4' "$(metadata)"
		jq -e '.state == "interrupted" and .aggregate.partial_failure == false' "$(aggregate)"
		rm -r "$R"
	done
}

@test "ranks that do not listen are killed after --stop-timeout" {
	start_job --stop-timeout 1
	for id in $(ranks); do kill -STOP "$id" 2>/dev/null || true; done
	kill -TERM "$P"
	ends_with 8
	has "$ERR" "no complete result from rank 0"
	no_orphans
}

@test "mlpstorage is killed: no rank stays" {
	start_job
	kill -KILL "$P"
	wait "$P" || true
	no_orphans
}

@test "a rank that dies is named, and the last snapshots are kept" {
	start_job
	local i
	sleep 6 # the first snapshots come after five seconds
	local victim
	victim="$(for id in $(ranks); do
		tr '\0' '\n' <"/proc/$id/environ" 2>/dev/null | grep -qE '^(OMPI_COMM_WORLD_RANK|PMI_RANK)=2$' &&
			[[ "$(readlink "/proc/$id/exe")" == */kv-cache-mpi ]] && echo "$id"
	done | head -n 1)"
	kill -KILL "$victim"
	ends_with 6
	# Hydra kills the others at once, may name one of them, and then the message says so.
	if [ "$MPI" = openmpi ]; then
		has "$ERR" "rank 2 on $(uname -n) was ended by signal 9 (Killed);"
	else
		grep -q "rank [0-3] on $(uname -n) was ended by signal 9 (Killed), perhaps by the launcher" "$ERR"
	fi
	no_orphans
	jq -e '.status == "failed"' "$(metadata)"
	jq -e '.partial == true and .aggregate.partial_failure == true and (.aggregate.partial_files | length) > 0' "$(aggregate)"
	for file in "$R"/kv_cache/tiny-1b/run/*/rank_*/kvcache_results_*.json; do jq -e '.partial == true' "$file"; done
}

@test "problems of all ranks come in one message" {
	mkdir "$T/file"
	touch "$T/file/cache"
	local job=("${JOB[@]}" --duration 1 --cache-dir "$T/file/cache")
	for i in "${!job[@]}"; do [ "${job[$i]}" != null ] || job[i]=file; done
	expect 3 "$MLPSTORAGE" "${job[@]}"
	[ "$(grep -c 'ERROR: ' "$ERR")" -eq 1 ]
	has "$ERR" "rank 0 on $(uname -n)"
	has "$ERR" "rank 3 on $(uname -n)"
	jq -e '.status == "failed" and .exit_status == 3' "$(metadata)"
}

@test "ranks without room for their working set say so, before anything is made" {
	local job=("${JOB[@]}" --model llama2-7b --num-users 100000 --num-processes 2 --duration 1 --cache-dir "$T/cache")
	for i in "${!job[@]}"; do [ "${job[$i]}" != null ] || job[i]=file; done
	expect 3 "$MLPSTORAGE" "${job[@]}"
	has "$ERR" "rank 0 on $(uname -n): --cache-dir: '$T/cache/rank_0' has room for "
	has "$ERR" "rank 1 on $(uname -n): --cache-dir: '$T/cache/rank_1' has room for "
	has "$ERR" " for each of the 2 ranks that share it, and the working set takes "
	[ ! -e "$T/cache" ]
	jq -e '.status == "failed" and .exit_status == 3' "$(metadata)"
	no_orphans
}

@test "the launcher of another MPI: the mismatch is told, not four runs of one" {
	command -v "$OTHER" >/dev/null || skip "$OTHER is not installed"
	MPI_RUN_BIN="$OTHER" expect 6 "$MLPSTORAGE" "${JOB[@]}" --duration 1
	grep -qiE "mpi" "$ERR"
	jq -e '.status == "failed"' "$(metadata)"
}

@test "a launcher that fails after the last result: told as such, and the results stand" {
	printf '#!/bin/sh\n%s "$@" && case $* in *kv-cache-mpi*) exit 9 ;; esac\n' "$MPI_RUN_BIN" >"$T/launcher"
	chmod +x "$T/launcher"
	MPI_RUN_BIN="$T/launcher" expect 6 "$MLPSTORAGE" "${JOB[@]}" --duration 1
	has "$ERR" "all results came, but the launcher ended with exit status 9"
	jq -e '.status == "failed" and .kvcache_metrics.partial_failure == false' "$(metadata)"
	jq -e '.valid and .aggregate.missing_files == []' "$(aggregate)"
}

@test "an engine that is not ours goes through mlpstorage-rank" {
	stand_in
	expect 0 "$MLPSTORAGE" kvcache run --results-dir "$R" --model tiny-1b --num-users 5 --duration 1 --cpu-mem-gb 0 --seed 7 \
		--kvcache-bin-path "$T/engine" --hosts localhost -np 2 --oversubscribe --allow-run-as-root --skip-cluster-collection
	[ "$(find "$R" -path '*/rank_*' -name 'kvcache_results_*.json' | wc -l)" -eq 2 ]
	jq -e '.kvcache_metrics.rank_count == 2 and .kvcache_metrics.total_requests == 80 and .num_processes == 2' "$(metadata)"
	has "$T/engine.args" "--seed"
}

@test "--interval: each rank's lines come home, whole, also when the run is stopped" {
	local run r
	expect 0 "$MLPSTORAGE" "${JOB[@]}" --num-processes 2 --duration 2 --interval 0.3
	run="$(dirname "$(aggregate)")"
	jq -e '[.interval_files[] | capture("(?<r>rank_.)/kvcache_results_.*_interval.ndjson$").r] == ["rank_0", "rank_1"]' "$(metadata)"
	for r in "$run"/rank_?; do
		intervals_of "$r"
		jq -se '[.[].interval] == [range(length)] and length == 7' "$r"/*_interval.ndjson
	done
	rm -r "$R"
	start_job --num-processes 2 --interval 0.01
	kill -INT "$P"
	ends_with 8
	for r in "$R"/kv_cache/tiny-1b/run/*/rank_?; do intervals_of "$r"; done
}

@test "--interval-file: each rank writes a file of its own where it runs" {
	expect 0 "$MLPSTORAGE" "${JOB[@]}" --num-processes 2 --duration 1 --interval 0.5 --interval-file "$T/own.ndjson"
	[ "$(jq -s length "$T/own.ndjson.rank_0")" -eq 2 ]
	[ "$(jq -s length "$T/own.ndjson.rank_1")" -eq 2 ]
	jq -e '.interval_files == []' "$(metadata)"
}
