#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The reference's own unit tests of its kvcache command line (10.1) and of its benchmark class (10.2), its tables of options (2.1,
# 2.2), and its examples of a launcher's prefix (3.4), one test a case. Where we differ the name says so. How often machines are
# asked (10.2) and its collector (10.6): cluster.bats. Its history (10.5): history.bats. Its rank wrapper (10.4): mpi/rank.bats.

load control.bash

setup() {
	control_setup
}

teardown() {
	control_teardown
}

# What a run would be: its line in $OUT, its metadata in $M.
what_if() {
	expect 0 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" "$@"
	M="$(metadata)"
}

# jq, over the metadata, must say true.
says() {
	jq -e "$1" "$M" >/dev/null || {
		echo "not so: $1"
		cat "$M"
		return 1
	}
}

# The line begins with these words, with the parts of the MPI that is installed left out of the comparison.
begins() {
	[[ "$(cat "$OUT")" == "$1 "* ]] || {
		echo "does not begin with: $1"
		cat "$OUT"
		return 1
	}
}

open_mpi() {
	fake_launcher "${1:-mpirun}" "mpirun (Open MPI) 4.1.4"
}

# Options that the help in $OUT lists by these names.
lists() {
	local name
	for name; do
		grep -E '^ +-' "$OUT" | grep -Eq -- "(^ +|, )$name( |,|\$)" || {
			echo "$name is not listed"
			return 1
		}
	done
}

UNIVERSAL=(--results-dir -rd --loops --config-file -c --open --closed --debug --verbose --stream-log-level
	--allow-invalid-params -aip --what-if --verify-lockfile --skip-validation)

@test "2.1 and 2.2: run has every option, under each of its names, but those of RAG and autoscaling" {
	expect 0 "$MLPSTORAGE" kvcache run --help
	lists "${UNIVERSAL[@]}" --model -m --num-users -nu --gpu-mem-gb --cpu-mem-gb --cache-dir --duration -d --generation-mode \
		--performance-profile --seed --kvcache-bin-path --disable-multi-turn --disable-prefix-caching --exec-type -et \
		--num-processes -np --hosts -s --mpi-bin --oversubscribe --allow-run-as-root --mpi-params --timeseries-interval \
		--skip-timeseries --max-timeseries-samples --ssh-username --cluster-collection-timeout --skip-cluster-collection
}

@test "2.1 and 2.2: datasize has every option" {
	expect 0 "$MLPSTORAGE" kvcache datasize --help
	lists "${UNIVERSAL[@]}" --model -m --num-users -nu --gpu-mem-gb --cpu-mem-gb --cache-dir
}

@test "10.1 run exists" {
	expect 0 "$MLPSTORAGE" kvcache run --help
	has "$OUT" "usage: mlpstorage kvcache run"
}

@test "10.1 datasize exists" {
	expect 0 "$MLPSTORAGE" kvcache datasize --help
	has "$OUT" "usage: mlpstorage kvcache datasize"
}

@test "10.1 model: llama3.1-8b by default" {
	what_if
	says '.args.model == "llama3.1-8b" and .args_source.model == "default"'
}

@test "10.1 model: tiny-1b" {
	what_if --model tiny-1b
	says '.args.model == "tiny-1b"'
}

@test "10.1 model: mistral-7b" {
	what_if -m mistral-7b
	says '.args.model == "mistral-7b"'
}

@test "10.1 model: llama2-7b" {
	what_if --model llama2-7b
	says '.args.model == "llama2-7b"'
}

@test "10.1 model: llama3.1-8b" {
	what_if --model llama3.1-8b
	says '.args.model == "llama3.1-8b" and .args_source.model == "typed"'
}

@test "10.1 model: llama3.1-70b-instruct" {
	what_if --model llama3.1-70b-instruct
	says '.args.model == "llama3.1-70b-instruct"'
}

@test "10.1 model: others are rejected" {
	expect 2 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" --model gpt-2
	has "$ERR" "gpt-2"
	[ ! -e "$R" ]
}

@test "10.1 users: 100 by default" {
	what_if
	says '.num_users == 100'
}

@test "10.1 users: an integer" {
	what_if --num-users 250
	says '.num_users == 250'
}

@test "10.1 gpu-mem-gb: a float" {
	what_if --gpu-mem-gb 24.5
	says '.gpu_mem_gb == 24.5'
}

@test "10.1 cpu-mem-gb: a float" {
	what_if --cpu-mem-gb 64.25
	says '.cpu_mem_gb == 64.25'
}

@test "10.1 cache-dir: a string" {
	what_if --cache-dir "$T/nvme"
	says ".cache_dir == \"$T/nvme\""
}

@test "10.1 duration: an integer" {
	what_if --duration 120
	says '.duration == 120'
}

@test "10.1 seed: an integer" {
	what_if --seed 42
	says '.args.seed == 42'
}

@test "10.1 generation-mode: none" {
	what_if --generation-mode none
	says '.generation_mode == "none"'
}

@test "10.1 generation-mode: fast" {
	what_if --generation-mode fast
	says '.generation_mode == "fast"'
}

@test "10.1 generation-mode: realistic" {
	what_if --generation-mode realistic
	says '.generation_mode == "realistic" and .args_source.generation_mode == "typed"'
}

@test "10.1 performance-profile: latency" {
	what_if --performance-profile latency
	says '.performance_profile == "latency" and .args_source.performance_profile == "typed"'
}

@test "10.1 performance-profile: throughput" {
	what_if --performance-profile throughput
	says '.performance_profile == "throughput"'
}

@test "10.1 hosts: a list of words" {
	what_if --hosts host1 host2 host3
	says '.args.hosts == ["host1", "host2", "host3"] and .hosts == .args.hosts'
}

@test "10.1 hosts: -s" {
	what_if -s host1 host2
	says '.hosts == ["host1", "host2"]'
}

@test "10.1 hosts: 127.0.0.1 by default" {
	what_if
	says '.args.hosts == ["127.0.0.1"] and .args_source.hosts == "default" and (has("hosts") | not)'
}

@test "10.1 exec-type: mpi" {
	what_if --exec-type mpi
	says '.exec_type == "mpi"'
}

@test "10.1 exec-type: docker" {
	what_if --exec-type docker
	says '.exec_type == "docker"'
}

@test "10.1 exec-type: mpi by default" {
	what_if
	says '.args.exec_type == "mpi" and (has("exec_type") | not)'
}

@test "10.1 exec-type: -et" {
	what_if -et docker
	says '.exec_type == "docker"'
}

@test "10.1 num-processes: 16" {
	what_if --hosts a b --num-processes 16
	says '.num_processes == 16 and .args.num_processes == 16'
}

@test "10.1 num-processes: -np 8" {
	what_if --hosts a -np 8
	says '.num_processes == 8'
}

@test "10.1 mpi-bin: mpirun" {
	what_if --mpi-bin mpirun
	says '.args.mpi_bin == "mpirun" and .args_source.mpi_bin == "typed"'
}

@test "10.1 mpi-bin: mpiexec" {
	what_if --mpi-bin mpiexec
	says '.args.mpi_bin == "mpiexec"'
}

@test "10.1 oversubscribe" {
	what_if --oversubscribe
	says '.args.oversubscribe == true'
}

@test "10.1 allow-run-as-root" {
	what_if --allow-run-as-root
	says '.args.allow_run_as_root == true'
}

@test "10.1 mpi-params: words, in one flat list (the reference nests it)" {
	what_if --hosts a --mpi-params --mca btl_tcp_if_include eth0 --num-users 7
	says '.args.mpi_params == ["--mca", "btl_tcp_if_include", "eth0"] and .num_users == 7'
}

@test "10.1 datasize has no hosts" {
	expect 2 "$MLPSTORAGE" kvcache datasize --results-dir "$R" --hosts a
	has "$ERR" "--hosts: unknown option"
}

@test "10.1 datasize has no exec-type" {
	expect 2 "$MLPSTORAGE" kvcache datasize --results-dir "$R" --exec-type mpi
	has "$ERR" "--exec-type: unknown option"
}

@test "10.1 datasize has no num-processes" {
	expect 2 "$MLPSTORAGE" kvcache datasize --results-dir "$R" --num-processes 2
	has "$ERR" "--num-processes: unknown option"
}

@test "10.1 datasize has no mpi-bin" {
	expect 2 "$MLPSTORAGE" kvcache datasize --results-dir "$R" --mpi-bin mpirun
	has "$ERR" "--mpi-bin: unknown option"
}

@test "10.1 datasize takes model, users, gpu and cpu memory" {
	expect 0 "$MLPSTORAGE" kvcache datasize --results-dir "$R" --model tiny-1b --num-users 3 --gpu-mem-gb 1 --cpu-mem-gb 2
	M="$(metadata)"
	says '.kvcache_model == "tiny-1b" and .num_users == 3 and .gpu_mem_gb == 1 and .cpu_mem_gb == 2'
}

@test "10.1 feature: disable-multi-turn" {
	what_if --disable-multi-turn
	says '.args.disable_multi_turn == true'
}

@test "10.1 feature: disable-prefix-caching" {
	what_if --disable-prefix-caching
	says '.args.disable_prefix_caching == true'
}

@test "10.1 feature: enable-rag is refused here" {
	expect 2 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" --enable-rag
	has "$ERR" "--enable-rag: not in this version"
}

@test "10.1 feature: rag-num-docs 20 is refused here" {
	expect 2 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" --rag-num-docs 20
	has "$ERR" "--rag-num-docs: not in this version"
}

@test "10.1 feature: enable-autoscaling is refused here" {
	expect 2 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" --enable-autoscaling
	has "$ERR" "--enable-autoscaling: not in this version"
}

@test "10.1 feature: autoscaler-mode qos is refused here" {
	expect 2 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" --autoscaler-mode qos
	has "$ERR" "--autoscaler-mode: not in this version"
}

@test "10.1 feature: autoscaler-mode predictive is refused here" {
	expect 2 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" --autoscaler-mode predictive
	has "$ERR" "--autoscaler-mode: not in this version"
}

@test "10.2 command: no exec type, no launcher" {
	what_if
	lacks "$OUT" mpirun
	lacks "$OUT" mpiexec
	has "$OUT" "--model llama3.1-8b"
}

@test "10.2 command: docker, no launcher" {
	what_if --exec-type docker --hosts h1 h2 -np 4
	lacks "$OUT" mpirun
	lacks "$OUT" mpiexec
	has "$ERR" "--exec-type docker: one process is started here; the hosts are recorded, not contacted"
	says '.hosts == ["h1", "h2"] and .num_processes == null'
}

@test "10.2 command: mpi, 2 hosts, 4 processes" {
	open_mpi
	what_if --exec-type mpi --hosts host1 host2 --num-processes 4 --model llama3.1-8b
	begins "mpirun -n 4 -host host1:2,host2:2"
	has "$OUT" "--model llama3.1-8b"
}

@test "10.2 command: mpi without hosts, no launcher" {
	what_if --exec-type mpi
	lacks "$OUT" mpirun
}

@test "10.2 command: 3 hosts without a count" {
	open_mpi
	what_if --hosts h1 h2 h3
	begins "mpirun -n 3"
}

@test "10.2 command: oversubscribe" {
	open_mpi
	what_if --hosts h1 h2 --oversubscribe
	has "$OUT" " --oversubscribe "
}

@test "10.2 command: allow-run-as-root" {
	open_mpi
	what_if --hosts h1 h2 --allow-run-as-root
	has "$OUT" " --allow-run-as-root "
}

@test "10.2 command: mpiexec when asked" {
	open_mpi mpiexec
	what_if --hosts h1 h2 --mpi-bin mpiexec
	begins "mpiexec -n 2 -host h1:1,h2:1 --bind-to none --map-by node"
}

@test "10.2 cluster information: in the metadata of run" {
	what_if
	says '.system_info.hosts | length == 1'
}

@test "10.2 cluster information: never of datasize" {
	expect 0 "$MLPSTORAGE" kvcache datasize --results-dir "$R"
	[ -z "$(find "$R" -name '*cluster_info*')" ]
	M="$(metadata)"
	says '.system_info == null'
}

@test "10.2 num_processes: stored" {
	what_if --hosts h1 h2 -np 6
	says '.num_processes == 6'
}

@test "10.2 num_processes: null without" {
	what_if
	says 'has("num_processes") and .num_processes == null'
}

@test "10.2 metadata: required fields" {
	what_if
	says '[.benchmark_type, .model, .command, .run_datetime, .result_dir] | all(type == "string")'
}

@test "10.2 metadata: fields of kvcache" {
	what_if
	says '[.kvcache_model, .num_users, .duration, .gpu_mem_gb, .cpu_mem_gb, .cache_dir, .generation_mode, .performance_profile]
	      | all(. != null)'
}

@test "10.2 metadata: num_processes, hosts and exec_type of a distributed run" {
	what_if --hosts h1 h2 --num-processes 4 --exec-type mpi
	says '.num_processes == 4 and .hosts == ["h1", "h2"] and .exec_type == "mpi"'
}

@test "10.2 metadata: model is kvcache_model" {
	what_if --model mistral-7b
	says '.model == "mistral-7b" and .model == .kvcache_model'
}

@test "10.2 metadata: without distribution no hosts, no exec_type" {
	what_if
	says '.num_processes == null and (has("hosts") or has("exec_type") | not)'
}

@test "3.4 prefix: 8 ranks on 2 hosts" {
	open_mpi
	what_if --hosts h1,h2 -np 8
	begins "mpirun -n 8 -host h1:4,h2:4 --bind-to none --map-by node"
}

@test "3.4 prefix: 7 ranks on 3 hosts" {
	open_mpi
	what_if --hosts h1 h2,h3 -np 7
	begins "mpirun -n 7 -host h1:3,h2:2,h3:2 --bind-to none --map-by node"
}

@test "3.4 prefix: slots as given" {
	open_mpi
	what_if --hosts h1:2 h2:2 -np 4
	begins "mpirun -n 4 -host h1:2,h2:2 --bind-to none --map-by node"
}

@test "3.4 prefix: 5 ranks on 4 slots" {
	expect 2 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" --hosts h1:2 h2:2 -np 5
	has "$ERR" "--hosts: 4 slots are not enough for 5 processes"
	[ ! -e "$R" ]
}

@test "3.4 prefix: 4 ranks on one host" {
	open_mpi
	what_if --hosts 127.0.0.1 -np 4
	begins "mpirun -n 4 -host 127.0.0.1:4 --bind-to none --map-by socket"
}

@test "3.4 prefix: parameters come last, word for word" {
	open_mpi
	what_if --hosts h1 h2 --oversubscribe --allow-run-as-root --mpi-params='-x "A=b c"' --mpi-params --tag-output
	begins "mpirun -n 2 -host h1:1,h2:1 --bind-to none --map-by node --oversubscribe --allow-run-as-root -x 'A=b c' --tag-output"
}
