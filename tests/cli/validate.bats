#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is found out before a run, all of it at once.

load control

setup() {
	control_setup
}

teardown() {
	control_teardown
}

@test "everything that is wrong is told at once, numbered, each with a way out; nothing is created" {
	expect 3 run_with --kvcache-bin-path "$T/missing" --cpu-mem-gb 100000 --output "$T/no/r.json" \
		--model llama3.1-70b-instruct --num-users 100000 --cache-dir "$T/cache"
	has "$ERR" "ERROR: 1. [E401] --kvcache-bin-path: no such program: $T/missing"
	has "$ERR" "ERROR: 2. [E401] --output: there is no directory"
	has "$ERR" "ERROR: 3. [E403] --cpu-mem-gb 100000: this machine has"
	has "$ERR" "ERROR: 4. [E403] too little space in $T/cache:"
	has "$ERR" "ERROR: 4 problems; nothing was started"
	[ "$(grep -c "    Suggestion: " "$ERR")" -ge 4 ]
	lacks "$ERR" "Stage 2"
	[ ! -e "$R" ]
	[ ! -e "$T/cache" ]
}

@test "in what-if the same are warnings, and the command is shown" {
	expect 0 run_with --kvcache-bin-path "$T/missing" --cpu-mem-gb 100000 --num-users 100000 \
		--model llama3.1-70b-instruct --cache-dir "$T/cache" --what-if
	has "$ERR" "WARNING: [E401] --kvcache-bin-path: no such program: $T/missing"
	has "$ERR" "WARNING: [E403] --cpu-mem-gb 100000"
	has "$ERR" "WARNING: [E403] too little space"
	lacks "$ERR" "ERROR"
	has "$OUT" "$T/missing --model llama3.1-70b-instruct --num-users 100000 "
	[ ! -e "$T/cache" ]
}

@test "too little space: --storage-capacity-gb says that evictions are meant, --skip-validation that nobody asks" {
	local large=(--model llama3.1-70b-instruct --num-users 100000)
	stand_in
	expect 3 run_with "${large[@]}"
	has "$ERR" "[E403] too little space in $R:"
	grep -Eq 'Suggestion: .*--storage-capacity-gb [0-9]+\.[0-9]{3} ' "$ERR"
	expect 0 run_with "${large[@]}" --storage-capacity-gb 0.1
	expect 0 run_with "${large[@]}" --skip-validation
	expect 0 run_with "${large[@]}" --storage-backend null
	expect 0 run_with "${large[@]}" --simulate
}

@test "results and cache on one file system: a warning, unless nothing is stored or nobody wants to know" {
	stand_in
	expect 0 run_with --cache-dir "$T/cache"
	has "$ERR" "WARNING: [E404] results and cache are on the same file system"
	expect 0 run_with --cache-dir "$T/cache" --simulate
	lacks "$ERR" "same file system"
	expect 0 run_with --cache-dir "$T/cache" --skip-validation
	lacks "$ERR" "same file system"
	[ "$(stat -c %d /dev/shm)" != "$(stat -c %d "$T")" ] || return 0
	R="$(mktemp -d /dev/shm/mlpstorage-test.XXXXXX)"
	expect 0 run_with --cache-dir "$T/cache"
	rm -r "$R"
	lacks "$ERR" "same file system"
}

# A program of this name on a PATH that holds nothing else but what the tests need. Its standard input is the script.
program() {
	mkdir -p "$T/bin"
	{
		echo '#!/bin/sh'
		cat
	} >"$T/bin/$1"
	chmod +x "$T/bin/$1"
}

# A launcher that is there and answers as Open MPI's, and an engine for it.
fake_cluster() {
	export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
	program mpirun <<-'END'
		[ "$1" = --version ] && { echo "mpirun (Open MPI) 4.1.4"; exit 0; }
		exit 7
	END
	program kv-cache </dev/null
	program kv-cache-mpi </dev/null
	JOB=(env PATH="$T/bin" SLURM_JOB_ID= "$MLPSTORAGE" kvcache run -rd "$R" --model tiny-1b --duration 10
		--kvcache-bin-path "$T/bin/kv-cache")
}

@test "hosts that cannot be reached are all named, with what ssh said; those tried at once, in batch mode" {
	fake_cluster
	program ssh <<-END
		echo "\$*" >>"$T/asked"
		for host do case \$host in
		  dead*) echo "some banner" >&2; echo "ssh: connect to host \$host port 22: No route to host" >&2; exit 255 ;;
		esac; done
		exit 0
	END
	expect 6 "${JOB[@]}" --hosts dead1:1 alive:1 dead2:1 dead1:2 localhost:1 --ssh-username me
	has "$ERR" "1. [E502] dead1 cannot be reached over ssh: ssh: connect to host dead1 port 22: No route to host"
	has "$ERR" "2. [E502] dead2 cannot be reached over ssh:"
	has "$ERR" "Suggestion: 'ssh dead1 true' must work without a question"
	has "$ERR" "2 problems; nothing was started"
	[ "$(wc -l <"$T/asked")" -eq 3 ]
	[ "$(grep -c "BatchMode=yes.*ConnectTimeout=5.* -l me -- .* true" "$T/asked")" -eq 3 ]
	[ ! -e "$R" ]
}

@test "root and Open MPI: refused before anything is made, unless it is allowed in one of its ways" {
	[ "$(id -u)" -eq 0 ] || skip "not root"
	fake_cluster
	JOB+=(--hosts localhost)
	unset OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
	expect 3 "${JOB[@]}"
	has "$ERR" "[E402] mpirun of Open MPI refuses to run as root"
	has "$ERR" "--allow-run-as-root"
	[ ! -e "$R" ]
	expect 0 "${JOB[@]}" --what-if
	has "$ERR" "WARNING: [E402] mpirun of Open MPI refuses"
	expect 0 "${JOB[@]}" --what-if --allow-run-as-root
	lacks "$ERR" "E402"
	expect 0 "${JOB[@]}" --what-if --mpi-params=--allow-run-as-root
	lacks "$ERR" "E402"
	OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 expect 0 "${JOB[@]}" --what-if
	lacks "$ERR" "E402"
	rm "$T/bin/mpirun"
	expect 6 "${JOB[@]}"
	lacks "$ERR" "E402"
}

@test "a host that does not answer takes no longer than its time limit" {
	fake_cluster
	program ssh <<-'END'
		exec /bin/sleep 60
	END
	expect 6 "${JOB[@]}" --hosts silent1 silent2
	has "$ERR" "silent1 cannot be reached over ssh: no answer within 10 s"
	has "$ERR" "silent2 cannot be reached over ssh: no answer within 10 s"
}

@test "a launcher and ssh that are missing are told together, with the packages to install" {
	fake_cluster
	rm "$T/bin/mpirun"
	expect 6 "${JOB[@]}" --hosts far1 far2
	has "$ERR" "1. [E501]"
	has "$ERR" "2. [E204] ssh is not installed, and far1 is another machine"
	if grep -q '^ID=debian' /etc/os-release; then
		has "$ERR" "install it: apt-get install openmpi-bin"
		has "$ERR" "install it: apt-get install openssh-client"
	fi
	[ ! -e "$R" ]
}

@test "in what-if, with --skip-validation and in a batch system nobody is asked over ssh" {
	fake_cluster
	program ssh <<-END
		echo >>"$T/asked"
		exit 255
	END
	expect 0 "${JOB[@]}" --hosts far1 far2 --what-if
	lacks "$ERR" "cannot be reached"
	expect 6 "${JOB[@]}" --hosts far1 far2 --skip-validation --skip-cluster-collection --skip-timeseries
	lacks "$ERR" "E502"
	SLURM_JOB_ID=5 expect 6 "${JOB[@]/SLURM_JOB_ID=/SLURM_JOB_ID=5}" --hosts far1 far2 --skip-cluster-collection --skip-timeseries
	lacks "$ERR" "E502"
	expect 6 "${JOB[@]}" --hosts localhost --skip-cluster-collection --skip-timeseries
	lacks "$ERR" "E502"
	[ ! -e "$T/asked" ]
}

# --- --verify-lockfile

# What is here, as a lockfile names it.
versions() {
	echo "mlpstorage==$("$MLPSTORAGE" --version | cut -d' ' -f2)"
	echo "glibc==$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)"
	echo "linux==$(uname -r)"
}

@test "--verify-lockfile: the versions that are here" {
	printf '#!/bin/sh\necho "kv-cache 7.8.9"\n' >"$T/kv-cache"
	chmod +x "$T/kv-cache"
	{ versions && echo "KV_Cache == 7.8.9 # the engine"; } >"$T/lock"
	expect 0 run_with --kvcache-bin-path "$T/kv-cache" --what-if --verbose --verify-lockfile "$T/lock"
	has "$ERR" "--verify-lockfile: 4 versions compared"
	lacks "$ERR" "not compared"
	jq -e --arg f "$T/lock" '.args.verify_lockfile == $f' "$(metadata)"
}

@test "--verify-lockfile: other versions: each told with its line, nothing created, exit 6; a warning in what-if" {
	stand_in
	{ versions | sed 's/$/.1/' && printf 'kv-cache==7.8.9 \\\n    --hash=sha256:00\n'; } >"$T/lock"
	expect 6 run_with --verify-lockfile "$T/lock" --skip-validation
	has "$ERR" "1. [E204] --verify-lockfile: $T/lock:1: mlpstorage $("$MLPSTORAGE" --version | cut -d' ' -f2).1 is wanted, "
	has "$ERR" "2. [E204] --verify-lockfile: $T/lock:2: glibc "
	has "$ERR" "3. [E204] --verify-lockfile: $T/lock:3: linux $(uname -r).1 is wanted, $(uname -r) is here"
	has "$ERR" "WARNING: --verify-lockfile: 1 of 4 versions in $T/lock were not compared" # an engine that is not ours
	expect 6 "$MLPSTORAGE" kvcache datasize -rd "$R" --verify-lockfile "$T/lock"
	[ ! -e "$R" ]
	expect 0 run_with --verify-lockfile "$T/lock" --what-if
	has "$ERR" "WARNING: [E204] --verify-lockfile: $T/lock:3: linux "
}

@test "--verify-lockfile: packages that are not ours are passed over and counted; a file that cannot be read is an error" {
	stand_in
	cat >"$T/lock" <<-'END'
		# made by a tool
		numpy==1.26.4 ; python_version == "3.11"
		-e git+https://example.org/x
		mlpstorage-extra==1
		odd ; python_version == "3.11"
	END
	expect 0 run_with --verify-lockfile "$T/lock"
	has "$ERR" "WARNING: --verify-lockfile: 2 of 2 versions in $T/lock were not compared: only those of mlpstorage, kv-cache"
	rm -r "$R"
	: >"$T/lock"
	expect 0 run_with --verify-lockfile "$T/lock" --what-if
	has "$ERR" "WARNING: --verify-lockfile: $T/lock names no version, and nothing was compared"
	rm -r "$R"
	expect 2 run_with --verify-lockfile "$T/none"
	has "$ERR" "[E103] --verify-lockfile: cannot read $T/none: No such file or directory"
	[ ! -e "$R" ]
}
