#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Cluster information and time series of mlpstorage kvcache run.

load control

setup() {
	control_setup
	stand_in
}

teardown() {
	control_teardown
}

# jq over the metadata must be true.
metadata_says() {
	local m
	m="$(metadata)"
	jq -e "$@" "$m" >/dev/null || {
		echo "not true of the metadata: $*"
		jq -c '{system_info, cluster_snapshots, timeseries_data}' "$m"
		cat "$ERR"
		return 1
	}
}

run_file() {
	find "$R" -name "$1"
}

# --- this machine

@test "a local run: this machine at its start and its end" {
	expect 0 run_with
	metadata_says '.system_info.collection_method == "local" and .system_info.num_hosts == 1
		and (.system_info.hosts | length) == 1
		and .system_info.total_memory_bytes == .system_info.hosts[0].memory.total
		and .system_info.min_memory_bytes == .system_info.max_memory_bytes
		and .system_info.total_cores >= 1 and .system_info.total_cores == .system_info.hosts[0].cpu.num_cores'
	metadata_says '.cluster_snapshots | .collection_method == "local" and .start.hosts[0].system.uptime_seconds
		<= .end.hosts[0].system.uptime_seconds'
	metadata_says --arg h "$(uname -n)" --arg k "$(uname -r)" \
		'.system_info.hosts[0] | .hostname == $h and .system.kernel_version == $k and (has("vmstat") | not)'
	lacks "$ERR" "hosts are not alike"
}

@test "the cluster information file has everything of the host" {
	expect 0 run_with
	jq -e '.hosts[0] | (.vmstat | length) > 10 and (.mounts | length) > 0 and has("cgroups") and has("disks") and has("network")
		and .memory.used == .memory.total - .memory.free - .memory.buffers - .memory.cached' \
		"$(run_file kv_cache_cluster_info.json)"
}

@test "--skip-cluster-collection: nothing of it is written" {
	expect 0 run_with --skip-cluster-collection
	metadata_says '.system_info == null and (has("cluster_snapshots") | not)'
	[ -z "$(run_file '*cluster_info*')" ]
}

@test "a failed run has it all too" {
	stand_in "exit 1"
	expect 6 run_with
	metadata_says '.status == "failed" and .system_info.num_hosts == 1 and .cluster_snapshots.end.num_hosts == 1
		and .timeseries_data.num_samples >= 1'
	[ -f "$(run_file '*_timeseries.json')" ]
	[ -f "$(run_file kv_cache_cluster_info.json)" ]
}

@test "what-if: this machine's facts alone, no snapshots, no series, no files" {
	expect 0 run_with --what-if
	metadata_says '.system_info.collection_method == "local" and (has("cluster_snapshots") | not) and (has("timeseries_data") | not)'
	[ -z "$(run_file '*cluster_info*')" ]
	[ -z "$(run_file '*timeseries*')" ]
}

@test "datasize: no such options, no such facts" {
	local option
	for option in --skip-cluster-collection "--cluster-collection-timeout 5" "--ssh-username x" --skip-timeseries \
		"--timeseries-interval 1" "--max-timeseries-samples 1"; do
		expect 2 "$MLPSTORAGE" kvcache datasize --results-dir "$R" $option
		has "$ERR" "${option%% *}: unknown option"
	done
	[ ! -e "$R" ]
	expect 0 "$MLPSTORAGE" kvcache datasize --results-dir "$R" --model tiny-1b
	metadata_says '.system_info == null and (has("cluster_snapshots") | not)'
	[ -z "$(run_file '*cluster_info*')" ]
}

@test "values that cannot be are refused before anything is created" {
	while read -r option value; do
		expect 2 run_with "$option" "$value"
		has "$ERR" "[E102] $option: "
		[ ! -e "$R" ]
	done <<-'END'
		--cluster-collection-timeout 0
		--cluster-collection-timeout x
		--cluster-collection-timeout 4000
		--timeseries-interval 0
		--timeseries-interval -1
		--timeseries-interval nan
		--max-timeseries-samples 0
		--max-timeseries-samples 1.5
	END
}

# --- the time series

@test "time series: defaults" {
	expect 0 run_with
	metadata_says '.timeseries_data | .num_samples >= 1 and .interval_seconds == 10 and (.hosts_collected | length) == 1'
	metadata_says '.args.max_timeseries_samples == 3600 and .args.skip_timeseries == false and .args.cluster_collection_timeout == 60'
	local file
	file="$(run_file '*_timeseries.json')"
	[ "$(basename "$file")" = "$(jq -r .timeseries_data.file "$(metadata)")" ]
	jq -e --arg h "$(uname -n)" '.collection_method == "local" and .collection_interval_seconds == 10
		and .hosts_collected == [$h] and .num_samples == (.samples_by_host[$h] | length)
		and (.samples_by_host[$h][0] | keys) == ["diskstats", "hostname", "loadavg", "meminfo", "netdev", "timestamp", "vmstat"]
		and .start_time <= .end_time' "$file"
	[ -z "$(run_file '*.part')" ]
}

@test "time series: several samples at an interval" {
	stand_in "sleep 1"
	expect 0 run_with --timeseries-interval 0.1
	jq -e '.num_samples >= 3 and .collection_interval_seconds == 0.1' "$(run_file '*_timeseries.json')"
}

@test "time series: later samples than the cap are dropped with one warning" {
	stand_in "sleep 1"
	expect 0 run_with --timeseries-interval 0.1 --max-timeseries-samples 2
	jq -e '.num_samples == 2 and .dropped_samples >= 1' "$(run_file '*_timeseries.json')"
	[ "$(grep -c 'max-timeseries-samples 2' "$ERR")" -eq 1 ]
}

@test "--skip-timeseries: nothing of it is written" {
	expect 0 run_with --skip-timeseries
	metadata_says 'has("timeseries_data") | not'
	[ -z "$(run_file '*timeseries*')" ]
}

@test "sampling does not touch what the engine prints" {
	stand_in 'i=0; while [ $i -lt 300 ]; do echo "line $i"; i=$((i + 1)); done; sleep 0.5'
	expect 0 run_with --timeseries-interval 0.1
	grep '^line ' "$OUT" >"$T/lines"
	seq -f 'line %g' 0 299 | cmp - "$T/lines"
}

@test "an interrupted run keeps its series" {
	stand_in 'trap "exit 8" INT; kill -INT $PPID; sleep 20 & wait'
	expect 8 run_with --timeseries-interval 0.1
	metadata_says '.status == "interrupted" and .timeseries_data.num_samples >= 1 and .cluster_snapshots.end.num_hosts == 1'
}
