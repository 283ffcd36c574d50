# SPDX-License-Identifier: Apache-2.0
# What the command-line and disk tests of kv-cache share. BUILD_DIR: where the programs were built.
# $W is the work directory a test may fill, on the file system of TMPDIR; $OUT and $ERR lie beside it, so that a listing of
# $W shows what the program made.

. "${BASH_SOURCE[0]%/*}/common.bash"

engine_setup() {
	KV="$BUILD_DIR/src/engine/kv-cache"
	T="$(mktemp -d "${TMPDIR:-/tmp}/kv-cache-test.XXXXXX")"
	W="$T/w"
	CACHE="$W/cache"
	OUT="$T/stdout"
	ERR="$T/stderr"
	R="$T/result.json"
	MOUNTED=()
	STARTED=()
	mkdir -p "$W/tmp" "$CACHE"
	export TMPDIR="$W/tmp"
	cd "$W"
	# A run of a second over a working set that is larger than its storage tier.
	SMALL=(--model tiny-1b --num-users 12 --generation-mode none --gpu-mem-gb 0 --cpu-mem-gb 0
		--storage-capacity-gb 1 --duration 1 --seed 42 --cache-dir "$CACHE" --output "$R")
	# Entries of 1.5 to 12 MiB instead of up to 600, and a run that takes as long as the machine needs for some of them.
	printf 'user_templates:\n' >"$T/small.yaml"
	printf '  %s:\n    context_range: [64, 512]\n' chatbot coding document >>"$T/small.yaml"
	SMALL_ENTRIES=(--config "$T/small.yaml")
	SOME=("${SMALL[@]}" "${SMALL_ENTRIES[@]}" --duration 60 --max-requests 20)
	# No I/O and no waiting, for tests of what is around the run.
	VIRTUAL=(--simulate --model tiny-1b --num-users 10 --duration 5 --seed 42 --output "$R")
}

engine_teardown() {
	local p m i
	for p in "${STARTED[@]}"; do
		kill -KILL "$p" 2>/dev/null && wait "$p" 2>/dev/null
	done
	cd /
	# The kernel closes files of an io_uring a moment after their process has ended.
	for m in "${MOUNTED[@]}"; do
		for ((i = 0; i < 40; i++)); do
			umount "$m" 2>/dev/null && break
			sleep 0.05
		done
		! mountpoint -q "$m" || umount -l "$m"
	done
	rm -rf "$T"
}

# Start in the background; its id goes to $P.
start() {
	"$@" >"$OUT" 2>"$ERR" </dev/null 3>&- &
	P=$!
	STARTED+=("$P")
}

# Wait for what start() started and check its exit code.
finish() {
	local rc=0
	wait "$P" || rc=$?
	if [ "$rc" -ne "$1" ]; then
		echo "exit $rc instead of $1"
		cat "$OUT" "$ERR"
		return 1
	fi
}

# Wait up to 20 s until a command succeeds.
until_true() {
	local i
	for ((i = 0; i < 400; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	echo "never true: $*"
	cat "$ERR"
	return 1
}

# jq over the result file must be true.
result() {
	jq -e "$@" "$R" >/dev/null || {
		echo "not true of the result: $*"
		jq -c '{state, valid, invalid_why, errors, retries, io, measured: .measured.storage, notices}' "$R"
		return 1
	}
}

# The lines of --interval, beside the result, make up the result.
intervals_add_up() {
	local wrong
	wrong="$(jq -cs --slurpfile r "$R" -f "${BATS_TEST_DIRNAME}/../intervals.jq" "${R%.json}_interval.ndjson")"
	[ "$wrong" = "[]" ] || {
		echo "intervals and result differ: $wrong"
		return 1
	}
}

# With the times of directories, which tell of what came and went; only names where $NAMES_ONLY is set.
listing() {
	local format='%P %y %s %T@\n'
	[ -z "$NAMES_ONLY" ] || format='%P %y\n'
	# A sanitized program makes files of its own in TMPDIR, and removes them.
	find "$W" -path "$W/tmp" -printf '%P %y\n' -o -printf "$format" | sort
}

# A run that must be refused with this exit code, with one message that holds all the texts before "--", creating nothing.
refused() {
	local code="$1" texts=() before text
	shift
	while [ "$1" != -- ]; do
		texts+=("$1")
		shift
	done
	shift
	before="$(listing)"
	expect "$code" "$@"
	is_empty "$OUT"
	for text in "${texts[@]}"; do
		has "$ERR" "$text"
	done
	if [ "$before" != "$(listing)" ]; then
		echo "something was created or changed by: $*"
		diff <(echo "$before") <(listing)
		return 1
	fi
}

need_root() {
	[ "$(id -u)" -eq 0 ] || skip "needs root: $1"
}

# A file system in memory at $1, of $2 MiB.
mount_tmpfs() {
	need_root "mounts a file system"
	mkdir -p "$1"
	mount -t tmpfs -o "size=$2m" tmpfs "$1" 2>/dev/null || skip "cannot mount a tmpfs here"
	MOUNTED=("$1" "${MOUNTED[@]}")
}

# An ext4 file system on a loop device at $1, of $2 MiB.
mount_ext4() {
	need_root "mounts a file system"
	command -v mkfs.ext4 >/dev/null || skip "mkfs.ext4 is missing"
	mkdir -p "$1"
	truncate -s "$2M" "$T/image"
	mkfs.ext4 -q "$T/image"
	mount -o loop "$T/image" "$1" 2>/dev/null || skip "cannot mount a loop device here"
	MOUNTED=("$1" "${MOUNTED[@]}")
}

# As a user who owns nothing: AS_NOBODY holds the prefix of the command.
need_nobody() {
	need_root "runs as another user"
	command -v setpriv >/dev/null || skip "setpriv is missing"
	cp "$KV" "$T/kv-cache"
	KV="$T/kv-cache"
	chmod 755 "$T" "$W"
	AS_NOBODY=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	"${AS_NOBODY[@]}" "$KV" --version >/dev/null || skip "the work directory cannot be reached by another user"
}

need_numpy() {
	PYTHON=/usr/bin/python3
	"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON with numpy is missing"
}

is_memory_fs() {
	case "$(stat -f -c %T "$1")" in
	tmpfs | ramfs) return 0 ;;
	esac
	return 1
}

need_disk() {
	! is_memory_fs "$W" || skip "$W is in memory: set TMPDIR to a directory on a disk"
}

# Every cache file is a whole array of tiny-1b's or the given shape: nothing half-made. $1: directory, $2: least number of files,
# $3: dimensions as in "12,2,-1,4,128", -1 being any number of tokens; $4: type of an element.
check_arrays() {
	"$PYTHON" - "$1" "$2" "${3:-12,2,-1,4,128}" "${4:-float16}" <<-'END'
		import glob, os, sys
		import numpy
		directory, least, shape = sys.argv[1], int(sys.argv[2]), [int(n) for n in sys.argv[3].split(",")]
		names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
		for name in names:
		    path = os.path.join(directory, name)
		    a = numpy.load(path, mmap_mode="r")
		    assert a.dtype == numpy.dtype(sys.argv[4]), (path, a.dtype)
		    assert len(a.shape) == len(shape), (path, a.shape)
		    assert all(w in (-1, n) for w, n in zip(shape, a.shape)), (path, a.shape)
		    assert a.size > 0, path
		    # the header fills one page, the payload ends on one
		    size = os.path.getsize(path)
		    assert a.offset == 4096 and size == 4096 + (a.nbytes + 4095) // 4096 * 4096, (path, a.offset, a.nbytes, size)
		if names:  # one of them whole, as a program would read it
		    path = os.path.join(directory, names[0])
		    assert numpy.any(numpy.load(path).view(numpy.uint8)), path
		assert len(names) >= least, "%d files in %s" % (len(names), directory)
	END
}
