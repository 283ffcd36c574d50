#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Cluster information and time series of mlpstorage kvcache run with a real launcher and two hosts: names of this machine, to
# each of which the launcher's agent gives a host name of its own.

load mpi

setup() {
	mpi_setup
	MLPSTORAGE="$BUILD_DIR/src/cmd/mlpstorage"
	export XDG_CONFIG_HOME="$T/config" MPI_RUN_BIN="${LAUNCH[0]}"
	need_root "to give a process another host name"
	# ssh's words: options, host, command
	cat >"$T/agent" <<-'END'
		#!/bin/sh
		while [ "${1#-}" != "$1" ]; do shift; done
		host="$1"
		shift
		exec unshare -u sh -c 'hostname "$0"; exec sh -c "$*"' "$host" "$@"
	END
	chmod +x "$T/agent"
	AGENT=(--mca plm_rsh_agent "$T/agent")
	[ "$MPI" = openmpi ] || AGENT=(-launcher ssh -launcher-exec "$T/agent")
	ROOT=()
	[ "$MPI" != openmpi ] || ROOT=(--oversubscribe --allow-run-as-root)
}

teardown() {
	ranks_running | while read -r id rank; do kill -KILL "$id" || :; done 2>/dev/null
	engine_teardown
}

run_on_two() {
	"$MLPSTORAGE" kvcache run --model tiny-1b --num-users 8 --generation-mode none --gpu-mem-gb 0 --cpu-mem-gb 0 \
		--storage-backend null --storage-capacity-gb 1 --duration 2 --results-dir "$T/results" --hosts near far \
		--npernode 2 "${ROOT[@]}" "$@" --mpi-params "${AGENT[@]}"
}

# jq over the file of the run directory whose name ends so.
says() {
	local file
	file="$(find "$T/results/kv_cache" -name "*$1")"
	shift
	jq -e "$@" "$file" >/dev/null || {
		echo "not so: $*"
		jq -c 'del(.samples_by_host)' "$file" | head -c 3000
		cat "$ERR"
		return 1
	}
}

@test "two hosts: what they are comes from their ranks, at both ends of the run" {
	expect 0 run_on_two
	says _metadata.json '.system_info | .collection_method == "mpi" and .num_hosts == 2 and [.hosts[].hostname] == ["near", "far"]
		and .requested_hosts == ["near", "far"] and .total_memory_bytes == 2 * .min_memory_bytes and (has("failed_hosts") | not)'
	says _metadata.json '.cluster_snapshots | .collection_method == "mpi" and .start.num_hosts == 2 and .end.num_hosts == 2
		and .start.hosts[1].system.uptime_seconds < .end.hosts[1].system.uptime_seconds'
	says _cluster_info.json '[.hosts[].hostname] == ["near", "far"] and (.hosts[1].vmstat | length) > 10'
	lacks "$ERR" "hosts are not alike"
}

@test "two hosts: one rank of each samples it" {
	expect 0 run_on_two --timeseries-interval 0.3
	says _metadata.json '.timeseries_data | (.hosts_collected | sort) == ["far", "near"] and .interval_seconds == 0.3'
	says _timeseries.json '.collection_method == "mpi" and .hosts_requested == ["near", "far"]
		and (.samples_by_host.near | length) >= 3 and (.samples_by_host.far | length) >= 3
		and all(.samples_by_host.far[]; .hostname == "far" and (.diskstats | type) == "array")'
}

@test "two hosts: what is skipped is not written" {
	expect 0 run_on_two --skip-timeseries --skip-cluster-collection
	says _metadata.json '.system_info == null and (has("cluster_snapshots") | not) and (has("timeseries_data") | not)'
	[ -z "$(find "$T/results" -name '*cluster_info*' -o -name '*timeseries*')" ]
}
