#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Three hosts on one machine: each a network namespace with an address, a host name, an sshd with keys of its own and a
# disk of its own at the same path. The controller is a fourth namespace. Needs root.

load ../cli/control

NET=10.213.77

setup() {
	[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
	for program in ip sshd ssh ssh-keygen unshare; do
		PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || skip "$program is not installed"
	done
	PATH="$PATH:/usr/sbin:/sbin"
	mountpoint -q / || skip "the root directory is no mount point (a chroot): hosts cannot have mounts of their own"
	control_setup
	ip netns add "mlps-probe-$$" 2>"$ERR" || skip "network namespaces cannot be made here: $(cat "$ERR")"
	ip netns del "mlps-probe-$$"
	NS="mlps$$"
	SSHDS=()
	make_keys
	make_host ctl 1
	ip netns exec "$NS-ctl" ip link add br0 type bridge
	ip netns exec "$NS-ctl" ip link set br0 up
	ip netns exec "$NS-ctl" ip addr add "$NET.1/24" dev br0
	for i in 1 2 3; do
		make_host "h$i" "1$i"
		join_bridge "h$i" "1$i"
		start_sshd "h$i"
	done
	for i in 1 2 3; do wait_for_sshd "h$i"; done
	[ "$MPI" = openmpi ] && LAUNCHER=mpirun.openmpi || LAUNCHER=mpiexec.hydra
	# Entries small enough that some stay on each disk, and no shared memory between "hosts" of one kernel.
	printf 'user_templates:\n' >"$T/small.yaml"
	printf '  %s:\n    context_range: [64, 512]\n' chatbot coding document >>"$T/small.yaml"
	JOB=(kvcache run --results-dir "$R" --model tiny-1b --num-users 2 --generation-mode fast --gpu-mem-gb 0 --cpu-mem-gb 0
		--config "$T/small.yaml" --storage-capacity-gb 0.5 --cache-dir "$T/disk" --allow-run-as-root --hosts h1 h2 h3 --seed 5)
}

teardown() {
	[ -n "${NS:-}" ] || return 0
	local name id
	for name in ctl h1 h2 h3; do
		for id in $(ip netns pids "$NS-$name" 2>/dev/null); do kill -9 "$id" 2>/dev/null || true; done
	done
	for name in h1 h2 h3 ctl; do ip netns del "$NS-$name" 2>/dev/null || true; done
	rm -rf "/tmp/ompi.h1.0" "/tmp/ompi.h2.0" "/tmp/ompi.h3.0" "/tmp/ompi.controller.0"
	control_teardown
}

make_keys() {
	ssh-keygen -q -t ed25519 -N '' -f "$T/host_key"
	ssh-keygen -q -t ed25519 -N '' -f "$T/user_key"
	cp "$T/user_key.pub" "$T/authorized_keys"
	mkdir "$T/bin" "$T/disk"
	cat >"$T/ssh_config" <<-END
		Host *
		  Port 2222
		  IdentityFile $T/user_key
		  IdentitiesOnly yes
		  UserKnownHostsFile $T/known_hosts
		  StrictHostKeyChecking accept-new
		  BatchMode yes
		  ConnectTimeout 10
	END
	printf '#!/bin/sh\nexec /usr/bin/ssh -F %s "$@"\n' "$T/ssh_config" >"$T/bin/ssh"
	chmod +x "$T/bin/ssh"
	printf '127.0.0.1 localhost\n%s.1 controller\n%s.11 h1\n%s.12 h2\n%s.13 h3\n' $NET $NET $NET $NET >"$T/hosts"
}

# $1: name
make_host() {
	ip netns add "$NS-$1"
	ip netns exec "$NS-$1" ip link set lo up
	mkdir "$T/disk_$1"
}

# $1: name; $2: last part of its address
join_bridge() {
	ip link add "$NS$1" netns "$NS-ctl" type veth peer name eth0 netns "$NS-$1"
	ip netns exec "$NS-ctl" ip link set "$NS$1" master br0 up
	ip netns exec "$NS-$1" ip addr add "$NET.$2/24" dev eth0
	ip netns exec "$NS-$1" ip link set eth0 up
}

# Run in a namespace with its own host name, /etc/hosts, /run and disk. $1: name of the namespace; $2: host name
inside() {
	local name="$1" host="$2"
	shift 2
	ip netns exec "$NS-$name" unshare --uts --mount sh -c '
		hostname "$1" && mount --bind "$2/hosts" /etc/hosts && mount --bind "$2/disk_$3" "$2/disk" &&
		mount -t tmpfs none /run && mkdir /run/sshd || exit 97
		shift 3
		exec "$@"' sh "$host" "$T" "$name" "$@"
}

start_sshd() {
	inside "$1" "$1" "$(command -v sshd)" -D -e -f /dev/null -o Port=2222 -o HostKey="$T/host_key" -o UsePAM=no \
		-o AuthorizedKeysFile="$T/authorized_keys" -o StrictModes=no -o PermitRootLogin=yes -o PidFile=none \
		-o MaxStartups=50 </dev/null >"$T/sshd_$1.log" 2>&1 3>&- &
}

wait_for_sshd() {
	local i
	for ((i = 0; i < 100; i++)); do
		! on_controller "$T/bin/ssh" "$1" true 2>"$T/ssh.log" </dev/null || return 0
		sleep 0.1
	done
	cat "$T/ssh.log" "$T/sshd_$1.log"
	return 1
}

on_controller() {
	inside ctl controller env PATH="$T/bin:$PATH" UCX_TLS=tcp,self MPI_RUN_BIN="${LAUNCHER:-}" "$@"
}

# Processes of the engine on a host.
engines_on() {
	local id
	for id in $(ip netns pids "$NS-$1"); do
		[[ "$(readlink "/proc/$id/exe" 2>/dev/null)" != */kv-cache-mpi ]] || echo "$id"
	done
}

aggregate() {
	find "$R" -name 'kvcache_results_*.json' -not -path '*/rank_*'
}

@test "three hosts over ssh, the controller is none of them" {
	expect 0 on_controller "$MLPSTORAGE" "${JOB[@]}" --duration 3
	jq -e '[.ranks[].host] == ["h1", "h2", "h3"] and ([.ranks[].seed] == [5, 6, 7]) and .valid' "$(aggregate)"
	jq -e '.num_processes == 3 and .hosts == ["h1", "h2", "h3"] and .status == "complete"
	       and ([.system_info.hosts[].hostname] | sort) == ["h1", "h2", "h3"]' "$(metadata)"
	# Each rank used the disk of its own host, and the controller's stayed empty.
	for i in 1 2 3; do
		[ -d "$T/disk_h$i/rank_$((i - 1))" ]
		[ "$(ls "$T/disk_h$i")" = "rank_$((i - 1))" ]
	done
	[ -z "$(ls "$T/disk_ctl")" ]
	[ "$(find "$R" -path '*/rank_*' -name 'kvcache_results_*.json' | wc -l)" -eq 3 ]
	for i in 1 2 3; do [ -z "$(engines_on "h$i")" ]; done
}

@test "a disk that may not be used on one host is named with its host" {
	touch "$T/disk_h2/rank_1"
	expect 3 on_controller "$MLPSTORAGE" "${JOB[@]}" --duration 3
	has "$ERR" "rank 1 on h2"
	lacks "$ERR" "rank 0 on h1"
}

@test "a host that is cut off: named, and the run ends in time" {
	on_controller "$MLPSTORAGE" "${JOB[@]}" --duration 15 --drain-timeout 2 --rank-timeout 5 >"$OUT" 2>"$ERR" </dev/null 3>&- &
	local job=$! i rc=0
	for ((i = 0; i < 300; i++)); do
		! grep -q 'ranks: measure' "$ERR" || break
		sleep 0.1
	done
	sleep 7 # the first snapshots have come
	ip netns exec "$NS-h3" ip link set eth0 down
	local before=$SECONDS
	wait "$job" || rc=$?
	echo "ended after $((SECONDS - before)) s with $rc"
	cat "$ERR"
	[ "$rc" -eq 6 ]
	[ $((SECONDS - before)) -lt 120 ]
	has "$ERR" "on h3"
	jq -e '.status == "failed"' "$(metadata)"
	jq -e '.aggregate.partial_failure' "$(aggregate)"
	for host in h1 h2; do [ -z "$(engines_on "$host")" ]; done
	# Also where nobody can tell them, ranks end by themselves.
	for ((i = 0; i < 900; i++)); do
		[ -n "$(engines_on h3)" ] || break
		sleep 0.1
	done
	[ -z "$(engines_on h3)" ]
}
