#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What the programs write, against the schemas that are installed with them. BUILD_DIR: where the programs were built.

load ../cli/control

setup() {
	control_setup
	KV="$BUILD_DIR/src/engine/kv-cache"
	CHECK="${BATS_TEST_DIRNAME}/check-schema"
	/usr/bin/python3 -c 'import jsonschema' 2>/dev/null || skip "/usr/bin/python3 with jsonschema is missing"
	NULL=(--model tiny-1b --num-users 4 --duration 1 --gpu-mem-gb 0 --cpu-mem-gb 0 --storage-backend null
		--storage-capacity-gb 1 --generation-mode none --seed 42)
}

teardown() {
	control_teardown
}

check() {
	"$CHECK" "$@" || {
		echo "not as the schema $1 says: ${*:2}"
		return 1
	}
}

# Valid, and every damage to it is seen.
check_well() {
	check "$@"
	"$CHECK" --damage "$1" "$2"
}

run_null() {
	"$MLPSTORAGE" kvcache run "${NULL[@]}" --results-dir "$R" "$@"
}

@test "the check of damage is not blind" {
	expect 0 run_null
	mkdir "$T/tests" "$T/tests/schema" "$T/schemas"
	cp "$CHECK" "$T/tests/schema"
	cp "${BATS_TEST_DIRNAME}/../../schemas/"*.json "$T/schemas"
	jq 'del(.additionalProperties, .properties.model.type) | .required -= ["argv"]' \
		"${BATS_TEST_DIRNAME}/../../schemas/metadata.schema.json" >"$T/schemas/metadata.schema.json"
	sed -i 's/    optional = .*/    optional = set()/' "$T/tests/schema/check-schema"
	expect 1 "$T/tests/schema/check-schema" --damage metadata "$(metadata)"
	has "$OUT" "not noticed: another kind of value at ('model',)"
	has "$OUT" "not noticed: no key argv"
	has "$OUT" "not noticed: an unknown key"
}

@test "schema of the metadata: a local run, with its machine and its time series" {
	expect 0 run_null --timeseries-interval 0.2
	jq -e '.status == "complete" and .system_info.num_hosts == 1 and .timeseries_data.num_samples > 1
		and .cluster_snapshots.end.num_hosts == 1' "$(metadata)"
	check metadata "$(metadata)"
	check_well cluster "$(dirname "$(metadata)")/kv_cache_cluster_info.json"
	check_well timeseries "$(ls "$(dirname "$(metadata)")"/*_timeseries.json)"
	check result "$(ls "$(dirname "$(metadata)")"/kvcache_results_*.json)"
}

@test "schema of the metadata: what-if, datasize, without cluster information" {
	expect 0 run_null --what-if
	jq -e '.status == "what-if" and .system_info.num_hosts == 1 and (has("cluster_snapshots") | not)' "$(metadata)"
	check_well metadata "$(metadata)"
	rm -r "$R"
	expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" -m tiny-1b
	jq -e '.system_info == null' "$(metadata)"
	check metadata "$(metadata)"
	rm -r "$R"
	expect 0 run_null --skip-cluster-collection --skip-timeseries
	jq -e '.system_info == null' "$(metadata)"
	check_well metadata "$(metadata)"
}

@test "schema of the metadata: failed, with and without a result" {
	stand_in 'exit 1'
	expect 6 run_with
	jq -e '.status == "failed" and has("kvcache_metrics")' "$(metadata)"
	check metadata "$(metadata)"
	rm -r "$R"
	stand_in 'rm "$output"; kill -9 $$'
	expect 6 run_with
	jq -e '.status == "failed" and .kvcache_engine.signal == 9 and (has("kvcache_metrics") | not)' "$(metadata)"
	check metadata "$(metadata)"
}

@test "schema of the metadata: running, interrupted by a signal, killed" {
	local pid i signal
	for signal in INT KILL; do
		env --default-signal=INT "$MLPSTORAGE" kvcache run "${NULL[@]}" --duration 60 --results-dir "$R" \
			>"$OUT" 2>"$ERR" </dev/null 3>&- &
		pid=$!
		for ((i = 0; i < 400; i++)); do
			[ ! -e "$(ls "$R"/kv_cache/tiny-1b/run/*/*stdout.log 2>/dev/null)" ] || break
			sleep 0.05
		done
		sleep 0.5
		jq -e '.status == "running"' "$(metadata)"
		check metadata "$(metadata)"
		kill -$signal $pid
		wait $pid || :
		check metadata "$(metadata)"
		[ $signal = KILL ] || jq -e '.status == "interrupted" and .exit_status == 8' "$(metadata)"
		[ $signal = KILL ] || check result "$(ls "$R"/kv_cache/tiny-1b/run/*/kvcache_results_*.json)"
		check ledger "$R/.mlps/runs.jsonl"
		rm -r "$R"
	done
}

@test "schema of the list of runs: every state, recovered runs too" {
	stand_in 'exit 1'
	expect 6 run_with
	expect 0 run_null
	expect 0 run_null --what-if
	expect 0 "$MLPSTORAGE" kvcache datasize -rd "$R" -m tiny-1b
	jq -se 'map(.status) | unique == ["complete", "failed", "running", "what-if"]' "$R/.mlps/runs.jsonl"
	check ledger "$R/.mlps/runs.jsonl"
	mkdir -p "$R/kv_cache/other/run/20260102_030405"
	echo '{"exit_status": null, "model": 5}' >"$R/kv_cache/other/run/20260102_030405/x_metadata.json"
	expect 0 "$MLPSTORAGE" history list -rd "$R"
	jq -se 'map(.status) | unique == ["complete", "failed", "unknown", "what-if"]' "$R/.mlps/runs.jsonl"
	check ledger "$R/.mlps/runs.jsonl"
	tail -n 1 "$R/.mlps/runs.jsonl" >"$T/last.jsonl"
	check_well ledger "$T/last.jsonl"
	rm -r "$R/.mlps"
	expect 0 "$MLPSTORAGE" history list -rd "$R"
	check ledger "$R/.mlps/runs.jsonl"
}

@test "schema of the result: files, raw samples, simulated, a trace, nothing stored, with errors" {
	local out="$T/result.json"
	expect 0 "$KV" --model tiny-1b --num-users 4 --duration 1 --gpu-mem-gb 0 --cpu-mem-gb 0.1 --storage-capacity-gb 1 \
		--generation-mode none --seed 42 --cache-dir "$T/cache" --cleanup --raw-samples --output "$out"
	check_well result "$out"
	expect 0 "$KV" --simulate --model llama3.1-8b --num-users 20 --duration 20 --gpu-mem-gb 0 --cpu-mem-gb 4 --seed 42 --output "$out"
	check result "$out"
	expect 0 "$KV" --simulate --trace "${BATS_TEST_DIRNAME}/../data/small-trace.jsonl" --num-users 4 --gpu-mem-gb 0 \
		--cpu-mem-gb 0 --generation-mode none --seed 42 --output "$out"
	check result "$out"
	for role in --prefill-only --decode-only --precondition; do
		expect 0 "$KV" --simulate --model tiny-1b --num-users 4 --duration 5 --gpu-mem-gb 0 --cpu-mem-gb 0 \
			--storage-capacity-gb 1 --seed 42 $role --output "$out"
		check result "$out"
	done
	printf 'faults:\n  - {fault: error, operation: [read], rate: 0.2}\n' >"$T/faults.yaml"
	expect 1 "$KV" --simulate --model tiny-1b --num-users 4 --duration 5 --gpu-mem-gb 0 --cpu-mem-gb 0 --seed 42 \
		--fault-plan "$T/faults.yaml" --output "$out"
	jq -e '.errors.total > 0' "$out"
	check result "$out"
}

@test "schema of the intervals" {
	expect 0 "$KV" --simulate --model tiny-1b --num-users 4 --duration 5 --warmup 2 --gpu-mem-gb 0 --cpu-mem-gb 0 --seed 42 \
		--interval 1 --output "$T/result.json"
	[ "$(wc -l <"$T/result_interval.ndjson")" -ge 7 ]
	check interval "$T/result_interval.ndjson"
	tail -n 1 "$T/result_interval.ndjson" >"$T/last.ndjson"
	check_well interval "$T/last.ndjson"
	check result "$T/result.json"
}

@test "schema of the metadata: many hosts, what-if" {
	expect 0 "$MLPSTORAGE" kvcache run --model llama3.1-8b --num-users 50 --duration 30 --hosts host1 host2 --exec-type mpi \
		--num-processes 2 --results-dir "$R" --what-if
	jq -e '.num_processes == 2 and .exec_type == "mpi" and .hosts == ["host1", "host2"]' "$(metadata)"
	check metadata "$(metadata)"
	check ledger "$R/.mlps/runs.jsonl"
}

@test "schema of the metadata and the results: two ranks" {
	[ -x "$BUILD_DIR/src/engine/kv-cache-mpi" ] && command -v mpirun >/dev/null || skip "built without MPI"
	expect 0 run_null --hosts localhost --num-processes 2 --oversubscribe --allow-run-as-root --interval 0.5
	local run
	run="$(dirname "$(metadata)")"
	jq -e '.num_processes == 2 and .kvcache_metrics.rank_count == 2' "$(metadata)"
	check metadata "$(metadata)"
	check cluster "$run/kv_cache_cluster_info.json"
	check result "$run"/kvcache_results_*.json "$run"/rank_*/kvcache_results_*.json
	check interval "$run"/rank_*/*_interval.ndjson
	jq -e '(.ranks | length) == 2 and .window_s > 0 and .aggregate.rank_count == 2' "$run"/kvcache_results_*.json
	check_well result "$run"/kvcache_results_*.json
	check ledger "$R/.mlps/runs.jsonl"
	expect 0 "$MLPSTORAGE" history list -rd "$R" --json
	jq -e '.[0].num_processes == 2 and .[0].hosts == ["localhost"] and .[0].read_gb_per_s > 0' "$OUT"
}

@test "schema of what is left of a job that died" {
	[ -x "$BUILD_DIR/src/engine/kv-cache-mpi" ] && command -v mpirun >/dev/null || skip "built without MPI"
	"$MLPSTORAGE" kvcache run "${NULL[@]}" --duration 60 --hosts localhost --num-processes 2 --oversubscribe \
		--allow-run-as-root --results-dir "$R" >"$OUT" 2>"$ERR" </dev/null 3>&- &
	local pid=$! i rank="" code=0
	# the snapshots come every few seconds
	for ((i = 0; i < 300; i++)); do
		rank="$(grep -lx kv-cache-mpi /proc/[0-9]*/comm 2>/dev/null | sed 's/comm$/cmdline/' |
			xargs -r grep -lF -- "$R/kv_cache" 2>/dev/null | tail -n 1)"
		[ "$i" -lt 80 ] || [ -z "$rank" ] || break
		sleep 0.1
	done
	[ -n "$rank" ]
	kill -KILL "$(echo "$rank" | tr -dc 0-9)"
	wait $pid || code=$?
	[ "$code" -eq 6 ]
	check metadata "$(metadata)"
	[ "$(find "$R" -name 'kvcache_results_*.json' | wc -l)" -eq 3 ]
	find "$R" -name 'kvcache_results_*.json' -exec jq -e '.partial' {} +
	check partial $(find "$R" -name 'kvcache_results_*.json')
	check_well partial "$(find "$R" -path '*/rank_0/*' -name 'kvcache_results_*.json')"
	check ledger "$R/.mlps/runs.jsonl"
}
