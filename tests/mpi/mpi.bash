# SPDX-License-Identifier: Apache-2.0
# What the tests with several ranks share. BUILD_DIR: where the programs were built; MPI: openmpi or mpich, which they were
# built with.

load ../cli/engine

mpi_setup() {
	engine_setup
	KVM="$BUILD_DIR/src/engine/kv-cache-mpi"
	KVR="$BUILD_DIR/src/rank/mlpstorage-rank"
	PYTHON=/usr/bin/python3
	FRAMES="$BUILD_DIR/tests/frames"
	# Nothing that waits and nothing that is stored, or a second of small entries on the disk.
	NULL=(--model tiny-1b --num-users 8 --generation-mode none --gpu-mem-gb 0 --cpu-mem-gb 0 --storage-backend null
		--storage-capacity-gb 1 --seed 42 --output "$R")
	DISK=("${SMALL_ENTRIES[@]}" --model tiny-1b --num-users 8 --generation-mode none --gpu-mem-gb 0 --cpu-mem-gb 0
		--storage-capacity-gb 0.2 --seed 42 --workers 1 --cache-dir "$CACHE" --output "$R")
	if [ "$MPI" = openmpi ]; then
		OTHER_MPI=mpich
		LAUNCH=(mpirun.openmpi --oversubscribe --bind-to none)
		[ "$(id -u)" -ne 0 ] || LAUNCH+=(--allow-run-as-root)
	else
		OTHER_MPI=openmpi
		LAUNCH=(mpiexec.hydra)
	fi
}

# Ids of the engine's processes of this test, with their rank: "id rank".
ranks_running() {
	local id rank
	for id in $(pgrep -f -- "$T"); do
		[[ "$(readlink "/proc/$id/exe" 2>/dev/null)" == "$BUILD_DIR"/src/*/* ]] || continue
		rank="$(tr '\0' '\n' 2>/dev/null <"/proc/$id/environ" | sed -nE 's/^(OMPI_COMM_WORLD_RANK|PMI_RANK)=//p' | head -n 1)"
		[ -z "$rank" ] || echo "$id $rank"
	done
}

# The first of them: a starter has a guard, which is its copy.
rank_id() {
	ranks_running | sort -n | awk -v rank="$1" '$2 == rank { print $1; exit }'
}

are_running() {
	[ "$(ranks_running | wc -l)" -eq "$1" ]
}

# Nothing of this test is left: neither ranks nor what they started.
no_orphans() {
	local i
	for ((i = 0; i < 100; i++)); do
		are_running 0 && return 0
		sleep 0.05
	done
	echo "still there:"
	ranks_running
	return 1
}

# Start that many ranks and wait until all are inside the window. $P: the launcher.
start_ranks() {
	local n="$1"
	shift
	start "${LAUNCH[@]}" -n "$n" "$@"
	until_true grep -q "workload fingerprint" "$ERR"
	sleep 0.5
}

# What start() started must end by itself, within so many seconds, and not with success.
fails_within() {
	local i
	for ((i = 0; i < $1 * 20; i++)); do
		kill -0 "$P" 2>/dev/null || break
		sleep 0.05
	done
	if kill -0 "$P" 2>/dev/null; then
		echo "still running after $1 s"
		cat "$ERR"
		return 1
	fi
	! wait "$P" || {
		echo "ended with success"
		return 1
	}
	no_orphans
}
