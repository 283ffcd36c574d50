# SPDX-License-Identifier: Apache-2.0
# What every command-line test shares: run something with $OUT and $ERR as its output, and look at them.

# Run a program (60 s at most) or a function with a given exit code expected; its output goes to $OUT and $ERR.
expect() {
	local code="$1" rc=0 limit=(timeout -k 5 60)
	shift
	[ "$(type -t "$1")" != function ] || limit=()
	"${limit[@]}" "$@" >"$OUT" 2>"$ERR" </dev/null || rc=$?
	if [ "$rc" -ne "$code" ]; then
		echo "exit $rc instead of $code from: $*"
		cat "$OUT" "$ERR"
		return 1
	fi
}

has() {
	grep -qF -- "$2" "$1" || {
		echo "'$2' is not in $1:"
		cat "$1"
		return 1
	}
}

lacks() {
	! grep -qF -- "$2" "$1" || {
		echo "'$2' is in $1:"
		cat "$1"
		return 1
	}
}

is_empty() {
	[ ! -s "$1" ] || {
		echo "$1 is not empty:"
		cat "$1"
		return 1
	}
}
