#!/bin/sh
# Drawn runs with faults: seeds FIRST to FIRST + COUNT - 1. One seed again: "faults.sh SEED 1 -v".
set -eu
cd "$(dirname "$0")/.."
dir=build/check
mkdir -p build
{ [ -f "$dir/build.ninja" ] || meson setup "$dir" --werror -Dbuildtype=debugoptimized -Dmpi=openmpi; } >build/faults.log 2>&1 && ninja -C "$dir" tests/scenarios >>build/faults.log 2>&1 || {
	tail -n 40 build/faults.log
	exit 1
}
exec "$dir/tests/scenarios" "$@"
