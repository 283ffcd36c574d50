#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# mlpstorage kvcache run on several hosts: what is shown, what is refused.

load control.bash

setup() {
	control_setup
	export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
}

teardown() {
	control_teardown
}

what_if() {
	expect 0 "$MLPSTORAGE" kvcache run --what-if --results-dir "$R" "$@"
}

@test "help: distribution stands under its own headings" {
	expect 0 "$MLPSTORAGE" kvcache run --help
	for word in "Distributed execution:" "MPI launcher:" "-s, --hosts HOST..." "-et, --exec-type" "-np, --num-processes" \
		"--num-processes-per-client, --npernode" "--stop-timeout" "--mpi-bin" "--mpi-btl" "--oversubscribe" \
		"--allow-run-as-root" "--mpi-params WORD..."; do
		has "$OUT" "$word"
	done
	expect 0 "$MLPSTORAGE" kvcache datasize --help
	lacks "$OUT" "Distributed execution"
	lacks "$OUT" "--hosts"
}

@test "each rank judges the space of its own host, unless nobody is to" {
	what_if --hosts h1 h2 --model tiny-1b
	has "$OUT" " --require-space"
	what_if --hosts h1 h2 --model tiny-1b --skip-validation
	lacks "$OUT" " --require-space"
	what_if --model tiny-1b
	lacks "$OUT" " --require-space"
}

@test "impossible layouts: exit 2, nothing created" {
	while IFS='|' read -r words message; do
		expect 2 "$MLPSTORAGE" kvcache run --results-dir "$R" $words
		has "$ERR" "$message"
		[ ! -e "$R" ]
	done <<-'END'
		--hosts h1:0 h2:1|"h1:0": the number of slots must be 1..65536
		--hosts h1:2 h2:2 -np 5|4 slots are not enough for 5 processes
		--hosts h1:2 h2|h2 has no number of slots, but others have
		--hosts bad;name|"bad;name": not a host name
		--hosts ::1|name an IPv6 host by its name
		--hosts h1 h2 h3 -np 2|--num-processes 2: fewer than the 3 hosts
		--hosts h1 h2 -np 4 --npernode 1|--npernode 1 on 2 hosts makes 2 processes, but --num-processes is 4
		--hosts h1 h2 --num-processes 0|--num-processes: 0 is out of range
		--hosts h1 h2 -np -3|--num-processes: -3 is out of range
		--hosts h1 --npernode 0|--npernode: 0 is out of range
		--hosts h1 --stop-timeout 0|--stop-timeout: 0 is out of range
		--hosts h1 --mpi-bin srun|--mpi-bin: "srun" is not known, expected one of mpirun, mpiexec
		--hosts h1 --mpi-btl ib|--mpi-btl: "ib" is not known
		--hosts h1 --exec-type ssh|--exec-type: "ssh" is not known
		--hosts|--hosts: value missing
		--hosts h1 --mpi-params|--mpi-params: value missing
		--num-processes 4|--num-processes: several processes need --hosts
		--npernode 2|--npernode: several processes need --hosts
	END
}

@test "all wrong hosts are told at once" {
	expect 2 "$MLPSTORAGE" kvcache run --results-dir "$R" --hosts 'a:0 b..c' --hosts 'x/y'
	[ "$(grep -c '\[E102\] --hosts' "$ERR")" -eq 3 ]
}

@test "npernode stands in the line only when typed; its other name is the same" {
	fake_launcher mpirun "mpirun (Open MPI) 4.1.4"
	what_if --hosts h1 h2 --npernode 3
	has "$OUT" " -n 6 -host h1:3,h2:3 --npernode 3 --bind-to none"
	what_if --hosts h1 h2 --num-processes-per-client 3
	has "$OUT" " --npernode 3 "
	what_if --hosts h1 h2 -np 6
	lacks "$OUT" "npernode"
}

@test "MPI_RUN_BIN and MPI_EXEC_BIN name the launcher, and its own words decide the form" {
	fake_launcher other "HYDRA build details:"
	export MPI_RUN_BIN="$T/bin/other"
	what_if --hosts h1 h2 -np 3
	[[ "$(cat "$OUT")" == "$T/bin/other -n 3 -hosts h1:2,h2:1 -bind-to none "* ]]
	export MPI_EXEC_BIN="$T/bin/other"
	what_if --mpi-bin mpiexec --hosts h1 h2 --npernode 2
	[[ "$(cat "$OUT")" == "$T/bin/other -n 4 -hosts h1:2,h2:2 -ppn 2 -bind-to none "* ]]
}

@test "without a launcher: what-if warns and shows Open MPI's form, a run is refused" {
	export MPI_RUN_BIN=/nonexistent/mpirun
	what_if --hosts h1 h2
	has "$ERR" "WARNING: [E501] the MPI launcher /nonexistent/mpirun cannot be started"
	[[ "$(cat "$OUT")" == "/nonexistent/mpirun -n 2 -host h1:1,h2:1 --bind-to none --map-by node "* ]]
	rm -r "$R"
	expect 6 "$MLPSTORAGE" kvcache run --results-dir "$R" --hosts h1 h2
	has "$ERR" "[E501]"
	has "$ERR" "install"
	[ ! -e "$R" ]
}

@test "a launcher that reaches nobody is stopped in time, and the run says so" {
	[ -e "$BUILD_DIR/src/rank/mlpstorage-rank" ] || skip "built without MPI"
	stand_in
	mkdir -p "$T/bin"
	printf '#!/bin/sh\n[ "$1" != --version ] || { echo "mpirun (Open MPI) 4.1.4"; exit; }\nexec sleep 600\n' >"$T/bin/silent"
	chmod +x "$T/bin/silent"
	MPI_RUN_BIN="$T/bin/silent" expect 6 "$MLPSTORAGE" kvcache run --results-dir "$R" --model tiny-1b --num-users 1 --duration 600 \
		--kvcache-bin-path "$T/engine" --cpu-mem-gb 0 --hosts localhost --rank-timeout 1 --stop-timeout 1 --allow-run-as-root
	has "$ERR" "no rank answered within 15 s"
	has "$ERR" "no complete result from rank 0"
	jq -e '.status == "failed"' "$(metadata)"
}

@test "the launcher of an unknown MPI is refused with its own words" {
	fake_launcher mpirun "PALS 1.2.3"
	expect 6 "$MLPSTORAGE" kvcache run --results-dir "$R" --hosts h1 h2
	has "$ERR" "PALS 1.2.3"
	[ ! -e "$R" ]
}

@test "the engine for ranks is the sibling with -mpi; a missing one is told" {
	fake_launcher mpirun "mpirun (Open MPI) 4.1.4"
	mkdir "$T/engine"
	printf '#!/bin/sh\n' >"$T/engine/kv-cache"
	chmod +x "$T/engine/kv-cache"
	expect 6 "$MLPSTORAGE" kvcache run --results-dir "$R" --hosts h1 --kvcache-bin-path "$T/engine/kv-cache"
	has "$ERR" "$T/engine/kv-cache-mpi, the engine for several ranks, is not there"
	[ ! -e "$R" ]
	cp "$T/engine/kv-cache" "$T/engine/kv-cache-mpi"
	what_if --hosts h1 --kvcache-bin-path "$T/engine/kv-cache"
	has "$OUT" " $T/engine/kv-cache-mpi --model "
}

@test "the line can be pasted, and is what the metadata says" {
	fake_launcher mpirun "mpirun (Open MPI) 4.1.4"
	what_if --hosts h1 --cache-dir "$T/a b" --mpi-params -x "MSG=it's"
	printf '#!/bin/sh\nprintf "%%s\\n" "$@"\n' >"$T/bin/mpirun"
	sh -c "$(cat "$OUT")" >"$T/words"
	grep -qxF "MSG=it's" "$T/words"
	grep -qxF "$T/a b" "$T/words"
	[ "$(jq -r .executed_command "$(metadata)")" = "$(cat "$OUT")" ]
}

@test "a relative cache directory is made absolute: ranks start elsewhere" {
	cd "$T"
	what_if --hosts h1 --cache-dir here
	has "$OUT" " --cache-dir $T/here "
	jq -e --arg dir "$T/here" '.cache_dir == $dir' "$(metadata)"
}

@test "options of a launcher that is not started are told" {
	what_if --mpi-btl tcp --stop-timeout 5
	has "$ERR" "--stop-timeout, --mpi-btl: without effect, as no launcher is started (no --hosts)"
	rm -r "$R"
	what_if --exec-type local --hosts h1 h2
	has "$ERR" "--exec-type local: one process is started here; the hosts are recorded, not contacted"
	jq -e '.exec_type == "local" and .hosts == ["h1", "h2"] and .num_processes == null' "$(metadata)"
}

@test "hosts from the option file bring the launcher too" {
	fake_launcher mpirun "mpirun (Open MPI) 4.1.4"
	printf 'hosts: [h1, "h2"]\nmpi_params: "--mca a \\"b c\\""\nnum_processes: 4\n' >"$T/options.yaml"
	what_if --config-file "$T/options.yaml"
	has "$OUT" " -n 4 -host h1:2,h2:2 "
	has "$OUT" " --mca a 'b c' "
}
