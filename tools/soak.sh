#!/bin/sh
# A long run with evictions at every tier, watched from outside: memory and open files stay flat. Then SIGINTs at random moments:
# each leaves exit code 8 and a whole, partial result. Last, where there is an MPI, ranks far beyond the cores: 64, or 16 in a
# short soak. "soak.sh BUILD_DIR SECONDS SIGNALS"
set -eu
kv_cache=$1/src/engine/kv-cache
kv_cache_mpi=$1/src/engine/kv-cache-mpi
seconds=$2
signals=$3
dir=$(mktemp -d "${TMPDIR:-/tmp}/mlpstorage-soak-XXXXXX")
trap 'kill "$pid" 2>/dev/null || :; rm -rf "$dir"' EXIT
pid=

start() {
	"$kv_cache" --model tiny-1b --num-users 50 --gpu-mem-gb 0 --cpu-mem-gb 0.5 --storage-capacity-gb 1 --generation-mode none \
		--seed "$1" --duration "$2" --cache-dir "$dir/cache" --output "$dir/result.json" --quiet 2>"$dir/err" &
	pid=$!
}

# rss_kb files: of the running engine
sample() {
	awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"
	find "/proc/$pid/fd" -mindepth 1 2>/dev/null | wc -l
}

start 42 "$seconds"
sleep 5
sample >"$dir/first"
while kill -0 "$pid" 2>/dev/null; do
	sample >"$dir/now" 2>/dev/null || break
	[ "$(wc -l <"$dir/now")" -eq 2 ] && cp "$dir/now" "$dir/last"
	sleep 1
done
wait "$pid" || {
	cat "$dir/err"
	echo "soak: the run failed"
	exit 1
}
# shellcheck disable=SC2046 # two numbers each
set -- $(cat "$dir/first") $(cat "$dir/last")
echo "memory: $1 KiB after 5 s, $3 KiB at the end; open files: $2, then $4"
# The pools are touched as they are first used, so a little growth is theirs; files in use come and go with the operations.
if [ "$3" -gt $(($1 + 65536)) ] || [ "$4" -gt $(($2 + 200)) ]; then
	echo "soak: memory or open files grew"
	exit 1
fi
jq -r '"evicted: \(.measured.evict.demoted_bytes) bytes demoted, \(.measured.evict.deleted_bytes) bytes deleted; errors: \(.errors.total)"' "$dir/result.json"
jq -e '.valid and .measured.evict.demoted_bytes > 0 and .measured.evict.deleted_bytes > 0' "$dir/result.json" >/dev/null || {
	echo "soak: not valid, or nothing was evicted"
	exit 1
}

n=0
while [ "$n" -lt "$signals" ]; do
	n=$((n + 1))
	rm -f "$dir/result.json"
	start "$n" 60
	sleep "$(awk -v n="$n" 'BEGIN { srand(n); printf "%.3f", 0.6 + 1.5 * rand() }')"
	kill -INT "$pid"
	code=0
	wait "$pid" || code=$?
	if [ "$code" -ne 8 ] || ! jq -e '.state == "interrupted" and .errors.total == 0' "$dir/result.json" >/dev/null; then
		cat "$dir/err"
		echo "soak: SIGINT number $n: exit code $code, or no whole result"
		exit 1
	fi
done
echo "$signals SIGINTs at random moments: exit code 8 and a whole result each time"

[ -x "$kv_cache_mpi" ] || exit 0
ranks=64
[ "$signals" -ge 50 ] || ranks=16
launch="mpiexec.hydra"
if ldd "$kv_cache_mpi" | grep -q libmpi\\.so; then
	launch="mpirun.openmpi --oversubscribe --bind-to none"
	[ "$(id -u)" -ne 0 ] || launch="$launch --allow-run-as-root"
fi
# shellcheck disable=SC2086 # a list of words
$launch -n "$ranks" "$kv_cache_mpi" --model tiny-1b --num-users 8 --workers 1 --gpu-mem-gb 0 --cpu-mem-gb 0 --storage-backend null \
	--storage-capacity-gb 1 --generation-mode none --seed 42 --duration 5 --output "$dir/ranks.json" --quiet 2>"$dir/err" || {
	cat "$dir/err"
	echo "soak: $ranks ranks failed"
	exit 1
}
jq -e --argjson n "$ranks" '(.ranks | length) == $n and .valid and (.ranks | map(.window_s >= 4.9) | all)' "$dir/ranks.json" >/dev/null || {
	echo "soak: $ranks ranks: not valid, or one is missing"
	exit 1
}
jq -r '"\(.ranks | length) ranks: \(.requests_completed) requests in \(.window_s) s, windows opened within \(.window_skew_s) s"' "$dir/ranks.json"
