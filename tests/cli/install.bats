#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What follows from the tables of options - manual pages, completion - and where an installation puts everything.

load control

# One installation for all tests of this file. Nothing is built for it.
setup_file() {
	export D="$BATS_FILE_TMPDIR/root"
	DESTDIR="$D" meson install -C "$BUILD_DIR" --no-rebuild --quiet >"$BATS_FILE_TMPDIR/log" 2>&1 || {
		cat "$BATS_FILE_TMPDIR/log"
		return 1
	}
}

setup() {
	control_setup
	P="$D/usr/local"
	[ -d "$P" ] || P="$D/usr"
}

teardown() {
	control_teardown
}

@test "an installation is complete" {
	local file
	for file in bin/mlpstorage bin/kv-cache share/man/man1/mlpstorage.1 share/man/man1/kv-cache.1 \
		share/bash-completion/completions/mlpstorage share/bash-completion/completions/kv-cache \
		share/mlpstorage/schemas/result.schema.json share/mlpstorage/schemas/metadata.schema.json \
		share/mlpstorage/workload-v3.yaml share/mlpstorage/workload-v1.yaml \
		share/doc/mlpstorage/README.md share/doc/mlpstorage/LICENSE \
		$(cd "$BATS_TEST_DIRNAME/../../docs" && printf 'share/doc/mlpstorage/%s ' *.md); do
		[ -s "$P/$file" ] || {
			echo "$file is missing"
			find "$D" -type f
			return 1
		}
	done
}

@test "what is installed works where it is put: mlpstorage finds the engine beside it" {
	expect 0 "$P/bin/mlpstorage" --version
	expect 0 "$P/bin/mlpstorage" kvcache run -rd "$R" --what-if
	has "$OUT" "$P/bin/kv-cache --model"
	expect 0 "$P/bin/mlpstorage" kvcache run -rd "$R" --simulate --model tiny-1b --num-users 5 --duration 2
	has "$ERR" "RESULT: Result: $R"
}

@test "the manual pages have no mistakes" {
	local page
	for page in mlpstorage kv-cache; do
		expect 0 mandoc -T lint -W warning "$P/share/man/man1/$page.1"
		is_empty "$OUT"
		expect 0 mandoc -T ascii -O width=100 "$P/share/man/man1/$page.1"
	done
}

# Names of options in the help of a command.
help_names() {
	"$@" --help | sed -n 's/^  \(-[a-z-]*, \)\?\(--[a-z-]*\).*/\2/p' | sort -u
}

@test "the manual pages hold every option of every command" {
	mandoc -T ascii -O width=100 "$P/share/man/man1/mlpstorage.1" | sed 's,.\x08,,g' >"$T/mlpstorage"
	mandoc -T ascii -O width=100 "$P/share/man/man1/kv-cache.1" | sed 's,.\x08,,g' >"$T/kv-cache"
	[ "$(help_names "$P/bin/kv-cache" | wc -l)" -gt 30 ]
	for name in $(help_names "$P/bin/kv-cache"); do
		grep -Eq "^ +(-[a-z-]+, )?$name( |\$)" "$T/kv-cache" || { echo "$name"; return 1; }
	done
	for name in $(help_names "$P/bin/mlpstorage" kvcache run); do
		grep -Eq "^ +(-[a-z-]+, )?$name( |\$)" "$T/mlpstorage" || { echo "$name"; return 1; }
	done
	for name in $(help_names "$P/bin/mlpstorage" kvcache datasize); do
		sed -n '/KVCACHE DATASIZE/I,/^EXIT STATUS/p' "$T/mlpstorage" | grep -qF -- "$name" || { echo "$name"; return 1; }
	done
	for text in "rank_<r>" MLPSTORAGE_ NO_COLOR config.yaml "EXIT STATUS" EXAMPLES; do
		has "$T/mlpstorage" "$text"
	done
}

# What bash would offer for a line whose last word is being typed; one a line.
offered() {
	bash --norc -c '
		. "$1"
		shift
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		function=$(complete -p "$1") function=${function#*-F } function=${function%% *}
		$function
		printf "%s\n" "${COMPREPLY[@]}"' - "$P/share/bash-completion/completions/$1" "$@"
}

# Exactly these are offered. "typed words" = "expected words"
offers() {
	local expected="$1" found
	shift
	found="$(offered "$@" | sort | tr '\n' ' ')"
	[ "${found% }" = "$expected" ] || {
		echo "offered '$found' instead of '$expected' for: $*"
		return 1
	}
}

@test "completion: benchmarks, commands, options, choices" {
	offers "kvcache" mlpstorage kv
	offers "--help --version" mlpstorage --
	offers "datasize" mlpstorage kvcache d
	offers "--num-gpus --num-processes --num-users" mlpstorage kvcache run --cleanup --num-
	offers "--num-users" mlpstorage kvcache datasize --num-
	offers "fast none realistic" mlpstorage kvcache run --generation-mode ""
	offers "fast" mlpstorage kvcache run --generation-mode = f
	offers "always auto never" mlpstorage kvcache run --color =
	offers "tiny-1b" mlpstorage kvcache run -m ti
	offers "" mlpstorage kvcache run --num-users 1
}

@test "completion: kv-cache" {
	offers "trace-info" kv-cache tr
	offers "--io-depth --io-engine --io-mode --io-size" kv-cache --cleanup --io-
	offers "full off stamp" kv-cache --verify ""
	offers "--model" kv-cache trace-info --m
}

@test "completion: files and directories" {
	cd "$T"
	mkdir "sub dir"
	touch "sub file"
	offers "sub dir" mlpstorage kvcache run --cache-dir su
	offers "sub dir" mlpstorage kvcache run --results-dir = su
	offers "sub dir sub file" mlpstorage kvcache run --config su
	offers "sub dir sub file" kv-cache trace-info su
}

@test "completion offers every option of a command" {
	"$P/bin/mlpstorage" kvcache run --help >/dev/null
	diff <(offered mlpstorage kvcache run -- | sort) <({ help_names "$P/bin/mlpstorage" kvcache run; echo --help; } | sort)
	diff <(offered kv-cache --cleanup -- | sort) <({ help_names "$P/bin/kv-cache"; echo --help; } | sort)
}
