#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Cluster information and time series of mlpstorage kvcache run. The names that begin with 10.6 are cases of the reference's own
# tests of its collector (10.2: of its benchmark class); its other cases are tests of functions here: test_source, test_cluster,
# test_remote, test_capture, test_timeseries.

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

@test "10.6 series: defaults" {
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

@test "10.6 series: several samples at the interval" {
	stand_in "sleep 1"
	expect 0 run_with --timeseries-interval 0.1
	jq -e '.num_samples >= 3 and .collection_interval_seconds == 0.1' "$(run_file '*_timeseries.json')"
}

@test "10.6 series: later samples than the cap are dropped, with one warning" {
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

# --- other machines

# A launcher and a rank starter that do nothing: these tests are about what is found out of the hosts, not about the run.
fake_job() {
	mkdir -p "$T/bin"
	printf '#!/bin/sh\n[ "$1" = --version ] && { echo "mpirun (Open MPI) 4.1.4"; exit; }\n%s\nexit 0\n' "$1" >"$T/bin/mpirun"
	printf '#!/bin/sh\nexit 0\n' >"$T/bin/mlpstorage-rank"
	chmod +x "$T/bin/mpirun" "$T/bin/mlpstorage-rank"
	export MPI_RUN_BIN="$T/bin/mpirun" PATH="$T/bin:$PATH"
}

# An ssh that notes its words and runs the command here, as the shell that a real one would start: nodeN tells that its
# name is nodeN. Hosts meetN answer when three of them are being asked. Four hosts behave badly.
fake_ssh() {
	mkdir -p "$T/bin"
	cat >"$T/bin/ssh" <<-'END'
		#!/bin/sh
		printf '%s\n' "$*" >>"$(dirname "$0")/ssh.calls"
		while [ "$1" != -- ]; do shift; done
		host="$2"
		case "$host" in
		hangs) exec sleep 1000 ;;
		denied) echo 'Warning: noise' >&2; echo 'me@denied: Permission denied (publickey).' >&2; exit 255 ;;
		broken) exit 3 ;;
		garbage) echo 'not what was asked for'; exit 0 ;;
		meet*)
			touch "$0.$host"
			for i in $(seq 100); do
				[ "$(ls "$0".meet* | wc -l)" -lt 3 ] || break
				[ "$i" -lt 100 ] || exit 4
				sleep 0.1
			done ;;
		esac
		echo "Welcome to $host"
		sh -c "$3" | sed "s/^$(uname -n)\$/$host/"
	END
	chmod +x "$T/bin/ssh"
	PATH="$T/bin:$PATH"
}

# A run of another engine on these hosts, however it ends.
run_on() {
	fake_job "$FAKE_JOB"
	"$MLPSTORAGE" kvcache run --model tiny-1b --num-users 5 --duration 10 --cpu-mem-gb 0 --skip-validation \
		--results-dir "$R" --kvcache-bin-path "$T/engine" --hosts "$@" >"$OUT" 2>"$ERR" </dev/null || true
}

@test "10.2 cluster information: a host is asked once at the start of a run and once at its end" {
	fake_ssh
	run_on node1:2 node2:1 node1:1 --skip-timeseries
	[ "$(grep -c -- ' -- node1 sh -c ' "$T/bin/ssh.calls")" -eq 2 ]
	[ "$(wc -l <"$T/bin/ssh.calls")" -eq 4 ]
}

@test "10.6 parallel: hosts are asked side by side" {
	fake_ssh
	run_on meet1 meet2 meet3 --skip-timeseries
	metadata_says '.system_info | .num_hosts == 3 and (has("failed_hosts") | not)'
}

@test "10.6 unique hosts: each once, in the order typed, slots removed; all well" {
	fake_ssh
	run_on node1:2 node2:1 node1:1
	metadata_says '.system_info | .collection_method == "ssh" and .num_hosts == 2 and [.hosts[].hostname] == ["node1", "node2"]
		and .requested_hosts == ["node1", "node2"] and (has("failed_hosts") | not)
		and .total_memory_bytes == 2 * .min_memory_bytes'
	metadata_says '.cluster_snapshots | .collection_method == "ssh" and .start.num_hosts == 2 and .end.num_hosts == 2'
	jq -e '.hosts[1] | (.vmstat | length) > 10 and (.mounts | length) > 0' "$(run_file kv_cache_cluster_info.json)"
}

@test "10.6 ssh line: BatchMode, ConnectTimeout, accept-new, and a user where one is named" {
	fake_ssh
	run_on node1 --skip-timeseries
	grep -q -- '^-o BatchMode=yes -o ConnectTimeout=60 -o StrictHostKeyChecking=accept-new -- node1 sh -c ' "$T/bin/ssh.calls"
	rm -r "$R" "$T/bin/ssh.calls"
	run_on node1 --skip-timeseries --ssh-username bench --cluster-collection-timeout 7
	grep -q -- '-o ConnectTimeout=7 -o StrictHostKeyChecking=accept-new -l bench -- node1 ' "$T/bin/ssh.calls"
}

@test "10.6 localhost is read directly" {
	fake_ssh
	run_on localhost "$(uname -n)" LOCALHOST 127.0.0.1
	metadata_says '.system_info.collection_method == "ssh" and .system_info.num_hosts >= 1 and (.system_info | has("failed_hosts") | not)'
	[ ! -e "$T/bin/ssh.calls" ]
}

@test "10.6 failure, denial, an answer that is none: an error entry each, no abort, no host of zero memory" {
	fake_ssh
	run_on node1 denied broken garbage
	metadata_says '.system_info | .num_hosts == 1 and .min_memory_bytes > 0 and [.failed_hosts[].hostname] == ["denied", "broken", "garbage"]'
	metadata_says '.system_info.failed_hosts | .[0].error == "me@denied: Permission denied (publickey)." and
		.[1].error == "ssh ended with exit status 3" and .[2].error == "its answer is not complete"'
	has "$ERR" "[E504] cluster information: denied: me@denied: Permission denied (publickey)."
	has "$ERR" "cluster information: broken: "
}

@test "10.6 timeout: a host that hangs costs its time limit and nothing else" {
	fake_ssh
	# interrupted, so that it is not asked a second time
	FAKE_JOB='kill -INT $PPID; sleep 0.2' run_on node1 hangs --cluster-collection-timeout 1 --skip-timeseries
	metadata_says '.status == "interrupted" and .cluster_snapshots.start.num_hosts == 1 and .cluster_snapshots.end == null'
	metadata_says '.system_info | .num_hosts == 1 and .failed_hosts[0].hostname == "hangs" and .failed_hosts[0].error == "no answer within 11 s"'
	! pgrep -f "$T/bin/ssh" >/dev/null
}

@test "ssh: nobody answers: this machine alone, and why" {
	fake_ssh
	run_on denied broken
	metadata_says '.system_info | .collection_method == "local_fallback" and .num_hosts == 1 and (.failed_hosts | length) == 2
		and .mpi_error == "no host could be asked"'
	has "$ERR" "cluster information is of this machine only: no host could be asked"
}

@test "10.6 availability by PATH: no ssh" {
	mkdir -p "$T/only"
	for tool in sh cat sed uname dirname; do ln -s "$(command -v "$tool")" "$T/only/$tool"; done
	fake_job
	PATH="$T/bin:$T/only" "$MLPSTORAGE" kvcache run --model tiny-1b --cpu-mem-gb 0 --skip-validation --results-dir "$R" \
		--kvcache-bin-path "$T/engine" --hosts node1 >"$OUT" 2>"$ERR" </dev/null || true
	metadata_says '.system_info.failed_hosts[0].error == "ssh: No such file or directory"'
}

@test "ssh: hosts that differ are told" {
	fake_ssh
	sed -i 's/sed "s/sed -e "s\/^VERSION_ID=.*\/VERSION_ID=$host\/" -e "s\/^MemTotal: .*\/MemTotal: ${#host}000000 kB\/" -e "s/' "$T/bin/ssh"
	run_on node1 node22
	has "$ERR" "hosts are not alike: memory differs by 20 %: node1 has "
	has "$ERR" "hosts are not alike: operating system version differs: node1 on node1, node22 on node22"
	metadata_says '(.system_info.host_consistency_issues | length) == 2'
}

@test "10.6 multi host: the series of every host with data; an unreachable one is absent" {
	fake_ssh
	FAKE_JOB='sleep 1' run_on node1 denied localhost --timeseries-interval 0.2
	metadata_says --arg h "$(uname -n)" '.timeseries_data.hosts_collected | sort == (["node1", $h] | sort)'
	jq -e --arg h "$(uname -n)" '.collection_method == "ssh" and .hosts_requested == ["node1", "denied", "localhost"]
		and (.samples_by_host.node1 | length) >= 2 and (.samples_by_host[$h] | length) >= 2' "$(run_file '*_timeseries.json')"
}

@test "what-if on several hosts: nobody is contacted" {
	fake_ssh
	run_on node1 node2 --what-if
	metadata_says '.system_info.collection_method == "local" and .system_info.num_hosts == 1'
	[ ! -e "$T/bin/ssh.calls" ]
}

@test "hosts with --exec-type local or docker are not contacted" {
	fake_ssh
	for kind in local docker; do
		expect 0 run_with --hosts node1 node2 --exec-type $kind
		metadata_says '.system_info.collection_method == "local" and .system_info.num_hosts == 1'
		[ ! -e "$T/bin/ssh.calls" ]
		rm -r "$R"
	done
}

@test "ranks that tell nothing: this machine alone, and why" {
	fake_job "exit 1"
	touch "$T/kv-cache" "$T/kv-cache-mpi"
	chmod +x "$T/kv-cache" "$T/kv-cache-mpi"
	expect 6 "$MLPSTORAGE" kvcache run --model tiny-1b --cpu-mem-gb 0 --skip-validation --results-dir "$R" \
		--kvcache-bin-path "$T/kv-cache" --hosts node1 node2
	metadata_says '.system_info | .collection_method == "local_fallback" and .num_hosts == 1 and .requested_hosts == ["node1", "node2"]
		and .mpi_error == "no rank told about its host"'
	metadata_says '.cluster_snapshots.end == null and (has("timeseries_data") | not)'
	has "$ERR" "[E504] cluster information is of this machine only: no rank told about its host"
	[ -z "$(run_file '*timeseries*')" ]
}

@test "a signal while hosts are asked: nothing was made, and no ssh stays" {
	fake_ssh
	fake_job
	"$MLPSTORAGE" kvcache run --model tiny-1b --cpu-mem-gb 0 --skip-validation --results-dir "$R" \
		--kvcache-bin-path "$T/engine" --hosts hangs node1 >"$OUT" 2>"$ERR" </dev/null 3>&- &
	local id=$! rc=0 i
	for ((i = 0; i < 400; i++)); do
		[ ! -e "$T/bin/ssh.calls" ] || break
		sleep 0.05
	done
	kill -TERM "$id"
	wait "$id" || rc=$?
	[ "$rc" -eq 143 ]
	[ ! -e "$R/kv_cache" ]
	! pgrep -f "$T/bin/ssh" >/dev/null
}
