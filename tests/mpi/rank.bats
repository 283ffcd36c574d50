#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# mlpstorage-rank: any engine as one of many ranks. The engine here is a shell script.

load mpi

setup() {
	mpi_setup
	cat >"$T/engine" <<-'END'
		#!/bin/sh
		# Writes what it was given as its result; FAIL names ranks that fail, SLEEP a time to run, NOTHING a rank without result.
		all="$*"
		while [ $# -gt 0 ]; do
			case "$1" in
			--seed) seed=$2 ;;
			--output) output=$2 ;;
			--cache-dir) dir=$2 ;;
			esac
			shift
		done
		echo "working in $dir"
		touch "$dir/data"
		[ -z "$SLEEP" ] || sleep "$SLEEP" || exit 9
		[ "$FAIL" != "$MLPSTORAGE_RANK" ] || { echo "no such device" >&2; exit 3; }
		[ "$NOTHING" != "$MLPSTORAGE_RANK" ] || exit 0
		printf '{"seed": %s, "rank": %s, "ranks": %s, "dir": "%s", "all": "%s"}\n' \
			"$seed" "$MLPSTORAGE_RANK" "$MLPSTORAGE_RANKS" "$dir" "$all" >"$output"
	END
	chmod +x "$T/engine"
	mkdir "$T/f"
	export TMPDIR="$W/./././././tmp" # a name that is not short
}

teardown() {
	ranks_running | while read -r id rank; do kill -KILL "$id" || :; done 2>/dev/null
	engine_teardown
}

# No temporary directory of a rank is left.
is_tidy() {
	[ -z "$(ls -A "$TMPDIR" | grep mlpstorage-rank)" ]
}

@test "10.4 seed = base + rank, rank directories created, unknown flags forwarded, own seed, output and cache directory last" {
	expect 0 "${LAUNCH[@]}" -n 3 "$KVR" "$T/engine" --model m --seed 7 --cache-dir "$W/cache" --output "$R" --num-users=5
	local r
	for r in 0 1 2; do
		jq -e --argjson r "$r" --arg d "$W/cache/rank_$r" '.seed == 7 + $r and .rank == $r and .ranks == 3 and .dir == $d' \
			"$T/rank_$r/result.json" >/dev/null
		# The rest is passed on in its order, and the rank's own come last.
		jq -r .all "$T/rank_$r/result.json" | grep -q "^--model m --num-users=5 --seed $((7 + r)) --output .* --cache-dir "
		[ -e "$W/cache/rank_$r/data" ]
	done
	is_empty "$OUT"
	is_tidy
	no_orphans
}

@test "with --frames the results are frames; --cleanup takes the rank's directories away" {
	expect 0 "${LAUNCH[@]}" -n 3 "$KVR" "$T/engine" --cache-dir="$W/cache" --frames --cleanup
	"$FRAMES" "$T/f" <"$OUT" >"$T/list"
	is_empty "$T/f/text"
	[ "$(grep -c "^ready" "$T/list")" -eq 3 ]
	[ "$(grep -c "^result" "$T/list")" -eq 3 ]
	jq -e '.seed == 43' "$T"/f/result.1.* >/dev/null
	jq -e '.seed == 43 and .rank == 1 and .ranks == 3' "$T"/f/ready.1.* >/dev/null
	[ -z "$(ls "$W/cache")" ]
	is_tidy
}

@test "a rank whose engine fails, or leaves no result, is told with its last words; the others' results are kept" {
	export FAIL=1 NOTHING=2
	expect 6 "${LAUNCH[@]}" -n 4 "$KVR" "$T/engine" --frames
	"$FRAMES" "$T/f" <"$OUT" >"$T/list"
	[ "$(grep "^result" "$T/list" | cut -d' ' -f2 | sort | tr '\n' ' ')" = "0 3 " ]
	jq -e 'length == 2 and (sort_by(.rank) | .[0].rank == 1 and (.[0].message | contains("exit code 3") and
		contains("no such device")) and .[1].rank == 2 and (.[1].message | contains("no readable result")))' \
		"$T"/f/problems.* >/dev/null
	expect 6 "${LAUNCH[@]}" -n 2 "$KVR" "$T/engine" --output "$R"
	has "$ERR" "mlpstorage-rank: rank 1 on "
	has "$ERR" "no such device"
	is_tidy
}

@test "an engine that cannot be started, a directory that cannot be made: said once, everything ends" {
	expect 6 "${LAUNCH[@]}" -n 2 "$KVR" "$T/no-such-engine"
	has "$ERR" "cannot start '$T/no-such-engine': No such file or directory"
	echo no >"$W/cache/rank_1"
	SLEEP=60 expect 6 "${LAUNCH[@]}" -n 2 "$KVR" "$T/engine" --cache-dir "$W/cache"
	has "$ERR" "rank 1 on "
	has "$ERR" "--cache-dir: cannot make '$W/cache/rank_1'"
	no_orphans
	is_tidy
}

# Hydra may lose the exit codes of programs that end at once.
finish_stopped() {
	if [ "$MPI" = openmpi ]; then
		finish 8
	else
		wait "$P" || [ $? -eq 8 ]
	fi
}

@test "SIGUSR1 to the launcher, or a signal to one starter, stops every engine" {
	SLEEP=60 start "${LAUNCH[@]}" -n 2 "$KVR" "$T/engine" --frames --cache-dir "$W/cache"
	until_true test -e "$W/cache/rank_0/data" -a -e "$W/cache/rank_1/data"
	kill -USR1 "$P"
	finish_stopped
	no_orphans
	rm -r "$W"/cache/*
	SLEEP=60 start "${LAUNCH[@]}" -n 2 "$KVR" "$T/engine" --frames --cache-dir "$W/cache"
	until_true test -e "$W/cache/rank_0/data" -a -e "$W/cache/rank_1/data"
	kill -TERM "$(rank_id 1)"
	finish_stopped
	no_orphans
	! pgrep -f -- "$T/engine"
	is_tidy
}

@test "a starter that is killed takes its engine with it, what that started, and the directories of the run" {
	export SLEEP="60.$RANDOM$RANDOM"
	start "${LAUNCH[@]}" -n 2 "$KVR" "$T/engine" --frames --cache-dir "$W/cache" --cleanup
	until_true test -e "$W/cache/rank_0/data" -a -e "$W/cache/rank_1/data"
	[ "$(ls "$TMPDIR" | grep -c mlpstorage-rank)" -eq 2 ]
	kill -KILL "$(rank_id 1)"
	fails_within 20
	gone() { ! pgrep -f -- "$T/engine" && ! pgrep -f -- "sleep $SLEEP"; }
	until_true gone
	until_true is_tidy
	until_true rmdir "$W/cache"
}

@test "bad command lines: exit 2, said once, nothing started" {
	refused 2 "no command to run" "usage: mlpstorage-rank" -- "${LAUNCH[@]}" -n 2 "$KVR"
	refused 2 "--seed: a whole number" -- "${LAUNCH[@]}" -n 2 "$KVR" "$T/engine" --seed x
	refused 2 "--rank-timeout: seconds, 1..86400" -- "${LAUNCH[@]}" -n 2 "$KVR" --rank-timeout 0 "$T/engine"
	[ "$(grep -c "^mlpstorage-rank:" "$ERR")" -eq 1 ]
	expect 0 "$KVR" --version
	[ "$(cat "$OUT")" = "mlpstorage-rank 0.1.0" ]
}
