#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed side by side: kv-cache against fio, against memcpy, and against itself, as one table.

Machines are shared and disks are noisy, so nothing is measured alone: the contestants of a row take turns, a few seconds each, in an
order that is reversed every round. A row is the median of the rounds' ratios and the 95 % interval of that median from its order
statistics. Nothing is asserted: the exit status only says whether everything ran. docs/MEASURING.md explains each row.
"""
import argparse
import contextlib
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

GIB = 1 << 30
MIB = 1 << 20

# Users who ask without a pause, for entries of one size: 1024 tokens, 24 MiB with tiny-1b. A request writes one, or reads one 9 times.
WORKLOAD = """\
workload: {context_min_divisor: 1, generation_min_divisor: 1}
user_templates:
  chatbot: {context_range: [1024, 1024], generation_range: [256, 256], think_time_range: [0.001, 0.001]}
  coding:
  document:
"""

# The same with prepared entries of 2048 tokens of 2 bytes: one I/O each.
SMALL_ENTRIES = """\
model_configs:
  small: {num_layers: 1, hidden_dim: 1, num_heads: 1, kv_heads: 1, dtype: int8}
""" + WORKLOAD


# ---- statistics ----

def interval(values):
    """Order statistics that enclose the median with at least 95 %; of few values all of them."""
    n = len(values)
    v = sorted(values)
    below = 0.0
    k = 0
    while k < n // 2:
        below += math.comb(n, k) / 2**n  # P(at most k values lie below the median)
        if below > 0.025:
            break
        k += 1
    k = max(k - 1, 0)
    return v[k], v[n - 1 - k]


class Table:
    """Rows: what, the values of each round, unit, target. A target is (">=" or "<=" or "reaches", number)."""

    def __init__(self):
        self.rows = []

    def add(self, what, values, target=None, form="%.3f"):
        low, high = interval(values)
        middle = statistics.median(values)
        met = {None: None, ">=": lambda t: middle >= t, "<=": lambda t: middle <= t, "reaches": lambda t: high >= t}
        sign, number = target or (None, None)
        self.rows.append((what, form % middle, "%s .. %s" % (form % low, form % high), str(len(values)),
                          "%s %g" % (sign, number) if target else "", ("ok" if met[sign](number) else "NOT") if target else ""))

    def skip(self, what, why):
        self.rows.append((what, "skipped", why, "", "", ""))

    def show(self):
        head = ("what", "median", "95 % interval", "n", "target", "")
        rows = [head] + self.rows
        width = [max(len(r[i]) for r in rows) for i in range(len(head))]
        for i, r in enumerate(rows):
            print("  ".join(c.ljust(w) if k == 0 or k == 2 else c.rjust(w) for k, (c, w) in enumerate(zip(r, width))).rstrip())
            if not i:
                print("-" * (sum(width) + 2 * len(width) - 2))


# ---- running things ----

class Failed(Exception):
    pass


def run(command):
    """Standard output of a command. Ctrl-C reaches the child too; it is over before this returns or raises."""
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as e:
        raise Failed("%s: %s" % (command[0], e.strerror)) from e
    try:
        out, err = child.communicate()
    except BaseException:
        child.kill()
        child.wait()
        raise
    if child.returncode:
        raise Failed("%s: exit %d\n%s%s" % (" ".join(command), child.returncode, out[-2000:], err[-2000:]))
    return out


def progress(text):
    if sys.stderr.isatty():
        print("\r\033[K" + text, end="", file=sys.stderr, flush=True)


def rounds(count, contestants):
    """Lists of results by name. The order turns round each time, so that a drift hits all alike."""
    results = {name: [] for name in contestants}
    for i in range(count):
        names = list(contestants)
        for name in names if i % 2 == 0 else reversed(names):
            progress("  round %d of %d: %s" % (i + 1, count, name))
            results[name].append(contestants[name]())
    progress("")
    return results


def ratios(ours, theirs, field):
    return [a[field] / b[field] for a, b in zip(ours, theirs)]


class Bench:
    def __init__(self, args, scratch):
        self.args = args
        self.scratch = scratch
        self.engine = os.path.join(args.build, "src/engine/kv-cache")
        self.table = Table()
        self.workload = self.text("workload.yaml", WORKLOAD)

    def text(self, name, content):
        path = os.path.join(self.scratch, name)
        with open(path, "w") as f:
            f.write(content)
        return path

    # ---- contestants ----

    def kv_cache(self, *options):
        """One run: bytes per second and CPU seconds per GiB of the window, and the whole result."""
        output = os.path.join(self.scratch, "result.json")
        run([self.engine, "--quiet", "--log-level", "ERROR", "--seed", "1", "--model", "tiny-1b", "--gpu-mem-gb", "0",
             "--generation-mode", "none", "--duration", str(self.args.seconds), "--workers", str(self.args.workers),
             "--output", output, *options])
        with open(output) as f:
            r = json.load(f)
        if not r["valid"]:
            raise Failed("kv-cache %s: %s" % (" ".join(options), r["invalid_why"]))
        return r

    def on_disk(self, place, *options):
        r = self.kv_cache("--cpu-mem-gb", "0", "--cache-dir", place, "--cleanup", "--io-depth", str(self.args.depth),
                          "--storage-capacity-gb", str(self.args.data_gib), *options)
        moved = r["measured"]["storage"]
        return {"rate": moved["read_bytes_per_s"] + moved["write_bytes_per_s"], "cpu": r["cpu"]["per_gib"]}

    def fio(self, place, *options):
        """The same from fio: a process per worker, together as deep as ours."""
        each = self.args.depth // self.args.workers
        directory = os.path.join(place, "fio")
        os.makedirs(directory, exist_ok=True)
        out = run(["fio", "--name=bench", "--directory=" + directory, "--ioengine=io_uring", "--direct=1", "--bs=1M",
                   "--numjobs=%d" % self.args.workers, "--iodepth=%d" % each, "--fixedbufs=1", "--time_based",
                   "--runtime=%d" % self.args.seconds, "--output-format=json", *options])
        jobs = json.loads(out[out.index("{"):])["jobs"]
        total = sum(j[d]["io_bytes"] for j in jobs for d in ("read", "write"))
        longest = max(j[d]["runtime"] for j in jobs for d in ("read", "write")) / 1000
        cpu = sum((j["usr_cpu"] + j["sys_cpu"]) / 100 * j["job_runtime"] / 1000 for j in jobs)
        return {"rate": total / longest, "cpu": cpu / (total / GIB)}

    # ---- rows ----

    def reads(self, name, place, count, target):
        share = int(self.args.data_gib * 0.8 / self.args.workers * 1024)
        fio_options = ("--rw=read", "--size=%dM" % share, "--registerfiles=1")
        entries = ("--decode-only", "--num-users", "32", "--config", self.workload)
        contestants = {
            "fio reads": lambda: self.fio(place, *fio_options),
            "kv-cache reads": lambda: self.on_disk(place, *entries),
            "kv-cache reads, verify off": lambda: self.on_disk(place, *entries, "--verify", "off"),
        }
        with huge_pages(4 * self.args.depth) as granted:
            if granted:
                contestants["fio reads, huge pages"] = lambda: self.fio(place, *fio_options, "--iomem=mmaphuge")
            r = rounds(count, contestants)
        shutil.rmtree(os.path.join(place, "fio"))
        theirs, stamps, off = (r[c] for c in list(contestants)[:3])
        self.table.add("%s: read bandwidth / fio, stamps checked" % name, ratios(stamps, theirs, "rate"), target)
        self.table.add("%s: read bandwidth / fio, verify off" % name, ratios(off, theirs, "rate"), target)
        self.table.add("%s: CPU per GiB read / fio, verify off" % name, ratios(off, theirs, "cpu"), ("<=", 1.15))
        self.table.add("%s: CPU per GiB read / fio, stamps checked" % name, ratios(stamps, theirs, "cpu"), ("<=", 3.0))
        self.table.add("%s: fio's own reads, GB/s" % name, [x["rate"] / 1e9 for x in theirs])
        self.table.add("%s: fio's own CPU, s per GiB read" % name, [x["cpu"] for x in theirs], form="%.4f")
        if granted:
            huge = r["fio reads, huge pages"]
            self.table.add("%s: read bandwidth / fio with huge pages, stamps checked" % name, ratios(stamps, huge, "rate"), target)
            self.table.add("%s: read bandwidth / fio with huge pages, verify off" % name, ratios(off, huge, "rate"), target)
            self.table.add("%s: CPU per GiB read / fio with huge pages, verify off" % name, ratios(off, huge, "cpu"))
        else:
            self.table.skip("%s: fio with huge pages" % name, "needs root and unbroken memory")

    def writes(self, name, place, count):
        entry = 24 * MIB
        files = int(self.args.data_gib * GIB * 0.8 / entry / self.args.workers)
        fio_options = ("--rw=write", "--nrfiles=%d" % files, "--filesize=%d" % entry, "--size=%d" % (files * entry),
                       "--file_service_type=sequential", "--openfiles=1", "--fsync_on_close=1", "--create_on_open=1",
                       "--unlink_each_loop=1", "--fallocate=posix")
        entries = ("--prefill-only", "--num-users", "64", "--config", self.workload)
        contestants = {
            "fio writes": lambda: self.fio(place, *fio_options, "--scramble_buffers=0"),
            "kv-cache writes": lambda: self.on_disk(place, *entries),
            "fio writes, scrambled": lambda: self.fio(place, *fio_options),
        }
        with huge_pages(4 * self.args.depth) as granted:
            if granted:
                contestants["fio writes, huge pages"] = lambda: self.fio(place, *fio_options, "--scramble_buffers=0", "--iomem=mmaphuge")
            r = rounds(count, contestants)
        shutil.rmtree(os.path.join(place, "fio"))
        plain, ours, scrambled = (r[c] for c in list(contestants)[:3])
        best = [max(a, b, key=lambda x: x["rate"]) for a, b in zip(plain, scrambled)]
        self.table.add("%s: write bandwidth, fsync per entry / fio's better" % name, ratios(ours, best, "rate"), (">=", 0.95))
        self.table.add("%s: CPU per GiB written / fio, scrambling" % name, ratios(ours, scrambled, "cpu"), ("<=", 0.6))
        self.table.add("%s: CPU per GiB written / fio, not scrambling" % name, ratios(ours, plain, "cpu"), ("<=", 3.0))
        self.table.add("%s: fio's better writes, GB/s" % name, [x["rate"] / 1e9 for x in best])
        if granted:
            huge = r["fio writes, huge pages"]
            self.table.add("%s: write bandwidth / fio with huge pages" % name, ratios(ours, huge, "rate"), (">=", 0.95))

    def disk(self):
        place = os.path.join(self.scratch, "disk")
        os.mkdir(place)
        self.reads("disk", place, self.args.pairs, ("reaches", 0.98))
        self.writes("disk", place, self.args.pairs)

    def small(self):
        """Where the number of I/Os is the limit: 4 KiB of large entries, and entries of 4 KiB, each a file that is opened, read, closed."""
        place = os.path.join(self.scratch, "small")
        os.mkdir(place)
        share = int(self.args.data_gib * 0.8 / self.args.workers * 1024)
        files = 1000  # as many entries as there are prepared at most
        fio = ("--bs=4k", "--iodepth=%d" % (64 // self.args.workers))
        entries = ("--decode-only", "--io-depth", "64", "--config")
        small = self.text("small.yaml", SMALL_ENTRIES)
        r = rounds(max(self.args.pairs // 4, 1), {
            "fio, 4 KiB": lambda: self.fio(place, *fio, "--rw=randread", "--size=%dM" % share, "--registerfiles=1"),
            "kv-cache, 4 KiB": lambda: self.on_disk(place, *entries, self.workload, "--num-users", "64", "--io-size", "4KiB"),
            "fio, files of 4 KiB": lambda: self.fio(place, *fio, "--rw=read", "--nrfiles=%d" % (files // self.args.workers),
                                                    "--filesize=4k", "--openfiles=32", "--file_service_type=roundrobin"),
            "kv-cache, entries of 4 KiB": lambda: self.on_disk(place, *entries, small, "--num-users", "500", "--model", "small",
                                                               "--ops-in-flight", "128"),
        })
        shutil.rmtree(place)
        of_fio, ours, files_of_fio, files_of_ours = r.values()
        self.table.add("disk: 4 KiB I/O, reads / fio's random ones, stamps checked", ratios(ours, of_fio, "rate"))
        self.table.add("disk: CPU per GiB read in 4 KiB / fio", ratios(ours, of_fio, "cpu"))
        self.table.add("disk: entries of 4 KiB, reads / fio's files", ratios(files_of_ours, files_of_fio, "rate"))
        self.table.add("disk: CPU per GiB read of 4 KiB entries / fio", ratios(files_of_ours, files_of_fio, "cpu"))
        self.table.add("disk: fio's files of 4 KiB per second", [x["rate"] / 4096 for x in files_of_fio], form="%.0f")

    def loop(self):
        with contextlib.ExitStack() as stack:
            try:
                place = loop_device(stack, self.scratch, int((self.args.data_gib * 1.9 + 0.5) * GIB))
            except Failed as e:
                self.table.skip("loop device over tmpfs, direct", str(e).splitlines()[0])
                return
            count = max(self.args.pairs // 4, 1)
            self.reads("loop", place, count, (">=", 0.97))
            self.writes("loop", place, count)

    def ram(self):
        gib = 4 if not self.args.tiny else 2.5 # the entries of 6 or 4 users take 72 % of it
        chunk = MIB
        tool = os.path.join(self.args.build, "bench/copy_bench")

        def copies():
            return {"rate": float(run([tool, str(self.args.workers), str(chunk), str(int(gib * GIB)), str(self.args.seconds)]))}

        def reads():
            r = self.kv_cache("--cpu-mem-gb", str(gib), "--storage-backend", "null", "--decode-only", "--verify", "off",
                              "--config", self.workload, "--num-users", "6" if not self.args.tiny else "4")
            return {"rate": r["measured"]["cpu"]["read_bytes_per_s"]}

        r = rounds(max(self.args.pairs // 4, 1), {"memcpy": copies, "ram tier": reads})
        self.table.add("ram tier: read bandwidth / memcpy, verify off", ratios(r["ram tier"], r["memcpy"], "rate"), (">=", 0.9))
        self.table.add("memcpy alone, GB/s", [x["rate"] / 1e9 for x in r["memcpy"]])

    def engine_alone(self):
        fast = "storage:read_gbps=20000,write_gbps=20000,latency_us=10"
        kinds = (("null", ("--storage-backend", "null"), 300000), ("model", ("--model-tier", fast), 150000))
        for kind, options, target in kinds:
            rates = []
            for _ in range(1 if self.args.tiny else 5):
                output = os.path.join(self.scratch, "result.json")
                before = os.times()
                run([self.engine, "--simulate", "--quiet", "--log-level", "ERROR", "--seed", "42", "--model", "tiny-1b",
                     "--cpu-mem-gb", "0", "--gpu-mem-gb", "0", "--generation-mode", "none", "--num-users", "1000",
                     "--duration", "30" if self.args.tiny else "600", "--output", output, *options])
                after = os.times()
                cpu = after.children_user + after.children_system - before.children_user - before.children_system
                with open(output) as f:
                    rates.append(json.load(f)["requests_completed"] / cpu)
            self.table.add("engine alone, %s tier: requests per CPU second" % kind, rates, (">=", target), "%.0f")

    def cache_room(self):
        if self.args.tiny:
            return  # its arrays of 10 million entries take a minute; it has a program of its own
        out = run([os.path.join(self.args.build, "bench/cache_bench")])
        rates = [float(x) for x in re.findall(r"^\s*10000000 entries.*?([\d.]+) million operations/s", out, re.M)]
        cost = [float(x) for x in re.findall(r"10 thousand: ([\d.]+)", out)]
        if not rates or not cost:
            raise Failed("cache_bench: no figures in\n" + out)
        self.table.add("cache room, 10 million entries: million operations/s", [max(rates)], (">=", 6), "%.2f")
        self.table.add("cache room: cost at 10 million / at 10 thousand entries", cost[:1], ("<=", 6), "%.2f")

    def sampling(self):
        out = run([os.path.join(self.args.build, "bench/sample_bench")])
        share = re.search(r"([\d.]+) % of", out)
        if not share:
            raise Failed("sample_bench: no figure in\n" + out)
        self.table.add("watching the machine: % of one core", [float(share[1])], ("<=", 0.5), "%.3f")

    def results(self):
        """What the controller needs for the results of many ranks."""
        ranks = 1000 if self.args.tiny else 10000
        out = run([os.path.join(self.args.build, "bench/aggregate_bench"), str(ranks)])
        figures = re.search(r": ([\d.]+) s, (\d+) MiB", out)
        if not figures:
            raise Failed("aggregate_bench: no figures in\n" + out)
        self.table.add("results of %d ranks put together, s" % ranks, [float(figures[1])], ("<=", 10), "%.2f")
        self.table.add("results of %d ranks: peak RSS, MiB" % ranks, [float(figures[2])], ("<=", 512), "%.0f")

    def start(self):
        """Milliseconds from fork to the first file of an entry."""
        place = os.path.join(self.scratch, "start")
        directory = os.path.join(place, "kvcache.d")
        os.mkdir(place)
        times = []
        for _ in range(1 if self.args.tiny else 11):
            begin = time.monotonic()
            child = subprocess.Popen([self.engine, "--quiet", "--log-level", "ERROR", "--seed", "1", "--model", "tiny-1b",
                                      "--gpu-mem-gb", "0", "--cpu-mem-gb", "0", "--cache-dir", place, "--prefill-only",
                                      "--generation-mode", "none", "--config", self.workload, "--num-users", "8",
                                      "--storage-capacity-gb", "0.25", "--duration", "1", "--cleanup",
                                      "--output", os.path.join(self.scratch, "result.json")],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                while child.poll() is None:
                    with contextlib.suppress(FileNotFoundError):
                        if any(name.startswith("kvc-") for name in os.listdir(directory)):
                            times.append((time.monotonic() - begin) * 1000)
                            break
                    time.sleep(0.0005)
                child.wait()
            except BaseException:
                child.kill()
                child.wait()
                raise
        if not times:
            raise Failed("kv-cache: no file appeared")
        self.table.add("start to the first file, ms", times, ("<=", 50), "%.1f")

    def memory(self):
        place = os.path.join(self.scratch, "memory")
        os.mkdir(place)
        big = self.kv_cache("--model", "llama3.1-70b-instruct", "--num-users", "200", "--cpu-mem-gb", "0", "--workers", "2",
                            "--cache-dir", place, "--storage-capacity-gb", str(8 * self.args.data_gib), "--cleanup")
        self.table.add("peak RSS, 200 users, llama3.1-70b-instruct, MiB", [big["memory"]["rss_peak_bytes"] / MIB], ("<=", 256), "%.0f")
        many = self.kv_cache("--num-users", "100000", "--cpu-mem-gb", "0", "--storage-backend", "null")
        memory = many["memory"]
        self.table.add("100,000 users: peak RSS, MiB", [memory["rss_peak_bytes"] / MIB], form="%.0f")
        self.table.add("100,000 users: printed before the run, MiB", [memory["predicted_bytes"] / MIB], form="%.0f")
        self.table.add("100,000 users: requests completed per second", [many["requests_completed"] / many["measured"]["window_s"]], form="%.0f")


@contextlib.contextmanager
def huge_pages(mib):
    """Reserve huge pages for fio, which cannot ask for transparent ones as kv-cache does; given back at the end.

    fio rounds its buffers up, per process: ask for plenty. Yields whether as many were granted."""
    setting = "/proc/sys/vm/nr_hugepages"
    with open(setting) as f:
        before = int(f.read())
    with open("/proc/meminfo") as f:
        size = int(re.search(r"Hugepagesize: +(\d+) kB", f.read())[1])
    wanted = before + -(-mib * 1024 // size)
    try:
        with open(setting, "w") as f:
            f.write("%d\n" % wanted)
    except OSError:
        yield False
        return
    try:
        with open(setting) as f:
            yield int(f.read()) >= wanted
    finally:
        with open(setting, "w") as f:
            f.write("%d\n" % before)


def loop_device(stack, scratch, size):
    """An ext4 file system on a loop device with direct I/O over a file in memory; undone by @stack."""
    if os.geteuid():
        raise Failed("needs root")
    memory = tempfile.mkdtemp(prefix="kvbench.", dir="/dev/shm")
    stack.callback(shutil.rmtree, memory)
    image = os.path.join(memory, "image")
    with open(image, "wb") as f:
        f.truncate(size)
    device = run(["losetup", "--direct-io=on", "--show", "-f", image]).strip()
    stack.callback(run, ["losetup", "-d", device])
    run(["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0", device])
    place = os.path.join(scratch, "loop")
    os.mkdir(place)
    run(["mount", device, place])
    stack.callback(unmount, place)
    return place


def unmount(place):
    """The kernel lets go of the registered files of a process a moment after its end."""
    for _ in range(50):
        if subprocess.run(["umount", place], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.1)
    run(["umount", place])


PARTS = {"disk": Bench.disk, "small": Bench.small, "loop": Bench.loop, "ram": Bench.ram, "engine": Bench.engine_alone,
         "cache": Bench.cache_room, "samples": Bench.sampling, "results": Bench.results, "start": Bench.start, "memory": Bench.memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", help="build directory, of type release")
    parser.add_argument("--pairs", type=int, default=40, help="rounds on the disk; a quarter of them elsewhere (40)")
    parser.add_argument("--seconds", type=int, default=4, help="length of each measurement (4)")
    parser.add_argument("--workers", type=int, default=2, help="threads of ours, processes of fio (2)")
    parser.add_argument("--depth", type=int, default=32, help="I/Os in flight, of all together (32)")
    parser.add_argument("--data-gib", type=float, default=2.0, help="size of the data read or written (2)")
    parser.add_argument("--dir", default=os.environ.get("TMPDIR", "/tmp"), help="where the disk to measure is mounted (TMPDIR)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, of %s" % ",".join(PARTS))
    parser.add_argument("--tiny", action="store_true", help="only see that everything runs")
    args = parser.parse_args()
    if args.tiny:
        args.pairs, args.seconds, args.data_gib = 1, 1, 0.5
    unknown = set(args.only.split(",")) - set(PARTS)
    if unknown:
        parser.error("--only: no part '%s'" % "', '".join(sorted(unknown)))
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, frame: sys.exit(128 + number))
    status = 0
    with tempfile.TemporaryDirectory(prefix="kvbench.", dir=args.dir) as scratch:
        bench = Bench(args, scratch)
        for part in args.only.split(","):
            print("%s ..." % part, file=sys.stderr, flush=True)
            try:
                PARTS[part](bench)
            except Failed as e:
                print("FAILED: %s: %s" % (part, e), file=sys.stderr)
                bench.table.skip(part, "failed, see above")
                status = 1
            except KeyboardInterrupt:
                print("\ninterrupted; what was measured so far:", file=sys.stderr)
                status = 130
                break
        bench.table.show()
    return status


if __name__ == "__main__":
    sys.exit(main())
