# The commands a person types; Meson does the work. Everything is built below build/.
BUILD := build/release

.PHONY: all demo check bench fuzz faults soak install clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

$(BUILD)/build.ninja:
	@tools/install-packages build
	@meson setup $(BUILD) --buildtype=release -Db_lto=true -Dtests=false >/dev/null

# Install what is missing, build, and measure this machine's disk for less than a minute.
demo: all
	@tools/demo.sh $(BUILD)

# Install what is missing, build, and run every test, also under the sanitizers.
check:
	@tools/install-packages build test bench
	@tools/check.sh

# Every fuzzer for ten minutes in all; `make check` runs a twentieth.
fuzz:
	@tools/install-packages build test
	@tools/fuzz.sh 600

# Ten thousand drawn runs with faults on the virtual clock; `make check` runs a tenth.
faults:
	@tools/install-packages build test
	@tools/faults.sh 1 10000

# Side by side with fio and memcpy: forty minutes, one table. PAIRS=10 takes a quarter of it; `make check` only sees that it runs.
bench: all
	@tools/install-packages bench
	@bench/bench.py $(BUILD) --pairs $(or $(PAIRS),40)

# Ten minutes of evictions at every tier with memory and open files watched, 50 SIGINTs, a cache of 3 GiB that does not compress, an
# entry of 8 GiB (12 GB of room on the disk of TMPDIR in all), and 100 runs killed at any moment; `make check` runs a tenth.
# Before that, the tests of several ranks that `make check` runs with one MPI only, with the other.
soak: all
	@tools/install-packages build test
	@[ -f build/mpich/build.ninja ] || meson setup build/mpich --werror -Dbuildtype=debugoptimized -Dmpi=mpich >/dev/null
	@meson test -C build/mpich --suite mpi-rest
	@tools/soak.sh $(BUILD) 600 50
	@tools/crash.sh $(BUILD) 100

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	@rm -rf build
