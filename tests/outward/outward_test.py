#!/usr/bin/env python3
"""Statistics that leave the process: files, `nonreuse stats`, `nonreuse top`, probes, timelines; one case a function.

  outward_test.py BUSY CASE     runs one; exit status 0 passed, 1 failed, 77 skipped (and says why)
  outward_test.py --list        prints the cases

BUSY is busy.c. The environment gives NONREUSE_LAUNCHER and NONREUSE_LIBRARY.
"""
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import Skip, case, environment, execute, main, require  # noqa: E402

BUSY = None
SAMPLE = re.compile(r'(nonreuse_[a-z0-9_]+)\{command="((?:[^"\\\n]|\\\\|\\"|\\n)*)",pid="(\d+)"(?:,le="([^"]+)")?\} (\S+)')


def protected(options, **more):
    return environment(LD_PRELOAD=os.environ["NONREUSE_LIBRARY"], NONREUSE_OPTIONS=options, **more)


def run(*command, stderr="", **more):
    return execute(*command, stderr=stderr, timeout=60, **more).stdout


def nonreuse(*words, **more):
    return run(os.environ["NONREUSE_LAUNCHER"], *words, **more)


class Busy:
    """busy.c while it waits, with its figures at rest."""

    def __init__(self, *arguments, options="", name=None):
        self.process = subprocess.Popen([BUSY, *map(str, arguments)], env=protected(options), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, preexec_fn=name)
        require(self.process.stdout.readline() == b"ready\n", "busy.c did not get ready")
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        require(self.process.wait(30) == 0, f"busy.c ended with {self.process.returncode}")


# ---- the three forms -----------------------------------------------------------------------------------


def samples_of(text):
    """{(metric, process, le): value} after checking the form, as `promtool check metrics` does."""
    kinds, found, order, helped = {}, {}, [], set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, explained = line[7:].split(" ", 1)
            require(name not in helped and explained, f"{name}: help twice, or none")
            helped.add(name)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            require(name in helped and name not in kinds, f"{name}: type twice, or before its help")
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            require(match, f"not a sample: {line!r}")
            name = match[1]
            family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
            require(kinds.get(family) == "histogram" or family == name, f"{name}: has no type")
            require(family == list(kinds)[-1], f"{family}: its samples are not together")
            require((kinds[family] == "counter") == name.endswith("_total"), f"{name} is a {kinds[family]}")
            key = (name, int(match[3]), match[4])
            require(key not in found, f"{key} twice")
            found[key] = float(match[5])
            order.append(key)
    require(helped == set(kinds), "a metric without a type")
    for name in kinds:
        require(not re.search(r"_(ms|us|ns|kb|mib|milliseconds|nanoseconds)(_|$)", name), f"{name}: no base unit")
    for family in (name for name, kind in kinds.items() if kind == "histogram"):
        for process in {key[1] for key in order}:
            buckets = [(key[2], found[key]) for key in order if key[0] == family + "_bucket" and key[1] == process]
            limits = [float(limit) for limit, _ in buckets]
            counts = [count for _, count in buckets]
            require(limits == sorted(set(limits)) and buckets[-1][0] == "+Inf", f"{family}: limits {limits}")
            require(counts == sorted(counts), f"{family}: not cumulative: {counts}")
            require(counts[-1] == found[family + "_count", process, None], f"{family}: +Inf is not the count")
            require((family + "_sum", process, None) in found, f"{family}: no sum")
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True)
    return found


def require_same(figures, samples, process):
    """The JSON's figures are those of the Prometheus samples."""
    s = figures["statistics"]
    for metric, field, unit in (("sweeps_total", "sweeps", 1), ("freed_bytes_total", "freed_bytes", 1),
                                ("freed_chunks_total", "frees", 1), ("footprint_bytes", "footprint_bytes", 1),
                                ("held_chunks", "held_chunks", 1), ("sweep_max_seconds", "sweep_ns_max", 1e9),
                                ("sweep_seconds_sum", "sweep_ns_total", 1e9), ("stops_total", "stops", 1)):
        value = samples[f"nonreuse_{metric}", process, None]
        require(abs(value - s[field] / unit) <= 1e-9 * max(1, value), f"{metric} {value}, {field} {s[field]}")
    for name in ("pause", "sweep"):
        counts = s[f"{name}_histogram"]
        require(len(counts) == 36, f"{len(counts)} buckets")
        require(sum(counts) == samples[f"nonreuse_{name}_seconds_count", process, None], f"{name}s: {counts}")
        below = samples[f"nonreuse_{name}_seconds_bucket", process, "0.001048575"]
        require(below == sum(counts[:20]), f"{name}s below 2^20 ns: {below} of {counts}")


@case
def file_forms(folder):
    """stats=FILE: the name's end decides, %p is the process, and the name is of the directory at the start."""
    for name in ("a.json", "b.prom", "c.txt", "sub%p.json", "100%%.json"):
        done = subprocess.run([BUSY, "2"], env=protected(f"stats=./{name}"), stdin=subprocess.DEVNULL, cwd=folder,
                              capture_output=True, timeout=60, check=True)
        require(done.stderr == b"", f"{done.stderr}")
    names = sorted(path.name for path in folder.iterdir())
    require(len(names) == 5 and names[:4] == ["100%.json", "a.json", "b.prom", "c.txt"], f"{names}")
    figures = json.loads((folder / "a.json").read_text())
    s = figures["statistics"]
    require(figures["command"] == "outward_busy" and figures["finished"] is True, f"{figures}")
    require(s["version"] == 3 and s["sweeps"] >= 3 and s["stops"] >= 3 and s["frees"] >= 6000, f"{s}")
    require(s["sweep_cpu_ns_total"] > 0 and s["pause_ns_max"] <= s["pause_ns_total"], f"{s}")
    require(0 < s["live_bytes"] <= s["heap_bytes"] <= s["footprint_bytes"] <= s["footprint_max"], f"{s}")
    require(names[4] == f"sub{json.loads((folder / names[4]).read_text())['process']}.json", f"{names}")
    samples = samples_of((folder / "b.prom").read_text())
    require(next(iter(samples.values())) >= 3 and len({key[1] for key in samples}) == 1, f"{samples}")
    lines = (folder / "c.txt").read_text().splitlines()
    require(re.fullmatch(r"nonreuse: outward_busy \(process \d+\), at its end", lines[0]) and len(lines) == 6, f"{lines}")
    # The directory that was current when the program started.
    run(sys.executable, "-c", "import os; os.chdir('/')", cwd=folder, env=protected("stats=d.json"))
    require((folder / "d.json").exists(), "not where the program started")
    run("/bin/true", env=protected("stats=/nowhere/e.json"),
        stderr=r"nonreuse: statistics /nowhere/e.json: cannot be written \(error 2\)\n")
    require(not list(folder.glob("*.new.*")), "a new file is left behind")


@case
def file_is_replaced_whole(folder):
    """Several processes with one name: the last one wins, and what is no ordinary file stays what it is."""
    target = folder / "one.json"
    target.write_text("old")
    with open(target, encoding="ascii") as reader:  # whoever has it open goes on reading what it was
        run("/bin/sh", "-c", "/bin/true; /bin/true; /bin/ls >/dev/null; :", env=protected(f"stats={target}"))
        require(reader.read() == "old", "the file that was there is written to")
    require(json.loads(target.read_text())["command"] == "ls", "ls ended last (this shell ends by _exit)")
    link = folder / "link.json"
    link.symlink_to(target)
    run("/bin/true", env=protected(f"stats={link}"))
    require(link.is_symlink() and json.loads(target.read_text())["command"] == "true", "the link is gone, or stale")
    require("sweep" in run("/bin/true", env=protected("stats=/dev/stdout")), "nothing on standard output")
    output = folder / "output"
    with open(output, "w", encoding="ascii") as file:
        subprocess.run([BUSY], stdin=subprocess.DEVNULL, stdout=file, env=protected("stats=/dev/stdout"), check=True,
                       timeout=60)
    require(output.read_text().startswith("ready\nnonreuse:"), f"{output.read_text()[:99]!r}")
    require(len(list(folder.iterdir())) == 3, f"{list(folder.iterdir())}")


@case
def file_of_strange_names(folder):
    """What a process calls itself is quoted in both forms."""
    name = b'a"b\\c\n\xff\xc3\xa9'
    for target in ("x.json", "x.prom"):
        code = (f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0)")
        run(sys.executable, "-c", code, env=protected(f"stats={folder / target}"))
    require(json.loads((folder / "x.json").read_text())["command"] == 'a"b\\c\n\ufffd\u00e9', "JSON")
    text = (folder / "x.prom").read_text()
    require('command="a\\"b\\\\c\\n\ufffd\u00e9"' in text, text[:300])
    samples_of(text)


@case
def stats_option(folder):
    """stats=1 and stats=0 stay what they were; what looks like neither a number nor a file is refused."""
    for options, lines in (("stats=1", 5), ("stats=0", 0), ("stats=1:stats=0", 0), (f"stats={folder}/a.txt:stats=1", 5)):
        done = subprocess.run(["/bin/true"], env=protected(options), capture_output=True, text=True, timeout=60, check=True)
        require(len(done.stderr.splitlines()) == lines, f"{options}: {done.stderr}")
    require(not (folder / "a.txt").exists(), "the later one counts")
    run("/bin/true", env=protected("stats=yes"), stderr="nonreuse: option stats=yes is not 0, 1 or the name of a file .*\n")
    nonreuse("run", "--no-summary", f"--stats={folder}/b.json", "--", "/bin/true")
    require(json.loads((folder / "b.json").read_text())["command"] == "true", "the launcher's option")


@case
def stats_to_a_pipe(folder):
    """A pipe that is read has them; one that nobody reads, or that is full, does not keep the process from ending."""
    pipe = folder / "pipe.json"
    os.mkfifo(pipe)

    def ends(file):
        return subprocess.run(["/bin/true"], env=protected(f"stats={file}"), capture_output=True, text=True, timeout=60,
                              check=True)

    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        time.sleep(0.3)
        ends(pipe)
        require(json.loads(reader.stdout.read())["command"] == "true", "a pipe that is read has no statistics")
    done = ends(pipe)
    require("pipe.json" in done.stderr and done.stderr.count("\n") == 1, f"a pipe that nobody reads: {done.stderr!r}")
    kept = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            os.write(kept, b"x" * 4096)
    except BlockingIOError:
        pass
    done = ends(pipe)
    os.close(kept)
    require("pipe.json" in done.stderr, f"a pipe that is full: {done.stderr!r}")


# ---- from outside ----------------------------------------------------------------------------------------


@case
def stats_of_running(folder):
    with Busy(2) as one, Busy() as other:
        figures = json.loads(nonreuse("stats", one.pid, "--json"))
        s = figures["statistics"]
        require(figures["process"] == one.pid and figures["finished"] is False, f"{figures}")
        require(s["sweeps"] == s["stops"] >= 3 and s["live_bytes"] >= 300000 and s["frees"] >= 6000, f"{s}")
        samples = samples_of(nonreuse("stats", one.pid, other.pid, "--prometheus"))
        require({key[1] for key in samples} == {one.pid, other.pid}, f"{samples}")
        require_same(figures, samples, one.pid)
        both = json.loads(nonreuse("stats", "--json", one.pid, other.pid))
        require([p["process"] for p in both] == [one.pid, other.pid] and both[0] == figures, f"{both}")
        found = {p["process"] for p in json.loads(nonreuse("stats", "--all", "--json"))}
        require({one.pid, other.pid} <= found, f"{found}")
        require(nonreuse("stats", one.pid).startswith(f"nonreuse: outward_busy (process {one.pid})\n"), "text")
        state = pathlib.Path(f"/proc/{one.pid}/status").read_text()
        require("TracerPid:\t0" in state and "State:\tS" in state, "it was stopped or traced")
    nonreuse("stats", os.getpid(), status=1, stderr=r"nonreuse: process \d+: is not protected .*\n")
    nonreuse("stats", one.pid, status=1, stderr=r"nonreuse: process \d+: there is no such process\n")
    nonreuse("stats", status=2, stderr=r"nonreuse: no process given .*\n")


@case
def stats_of_a_folder(folder):
    """What processes leave by the option stats_dir, also those that ended without exit handlers."""
    nonreuse("stats", "--dir", folder, status=1, stderr=r"nonreuse: folder .*: holds no statistics page\n")
    ended = subprocess.Popen([BUSY], env=protected(f"stats_dir={folder}"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    require(ended.stdout.readline() == b"ready\n", "not ready")
    ended.kill()
    ended.communicate()
    run("/bin/true", env=protected(f"stats_dir={folder}"))
    found = {p["command"]: p for p in json.loads(nonreuse("stats", "--dir", folder, "--json"))}
    require(set(found) == {"outward_busy", "true"}, f"{found}")
    require(found["outward_busy"]["finished"] is False and found["true"]["finished"] is True, f"{found}")
    require(found["outward_busy"]["statistics"]["sweeps"] >= 3, f"{found}")


@case
def gauges_between_sweeps(folder):
    """A program that never frees has figures, too."""
    code = "import os, sys; keep = [bytearray(5000) for _ in range(2000)]; print('ready', flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], env=protected("", PYTHONMALLOC="malloc"),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        require(child.stdout.readline() == b"ready\n", "not ready")
        s = json.loads(nonreuse("stats", child.pid, "--json"))["statistics"]
        require(s["live_bytes"] > 10_000_000 and s["footprint_bytes"] >= s["heap_bytes"] >= s["live_bytes"], f"{s}")
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait(30)


@case
def fork_and_exec(folder):
    """A fork's child counts from its own beginning; exec begins anew, or ends protection."""
    code = ("import os, sys, time\n"
            "junk = [bytearray(2000) for _ in range(20000)]; del junk\n"
            "child = os.fork()\n"
            "if child == 0: os.execve('/bin/sleep', ['sleep', '60'], os.environ if sys.argv[1] == 'kept' else {})\n"
            "other = os.fork()\n"
            "if other == 0: time.sleep(60)\n"
            "print(child, other, flush=True); sys.stdin.read()\n")
    for kept in ("kept", "lost"):
        parent = subprocess.Popen([sys.executable, "-c", code, kept], env=protected("", PYTHONMALLOC="malloc"),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        execed, forked = map(int, parent.stdout.readline().split())
        try:
            deadline = time.monotonic() + 20
            while pathlib.Path(f"/proc/{execed}/comm").read_text() != "sleep\n" and time.monotonic() < deadline:
                time.sleep(0.01)
            of_parent = json.loads(nonreuse("stats", parent.pid, "--json"))["statistics"]
            of_child = json.loads(nonreuse("stats", forked, "--json"))
            require(of_parent["freed_bytes"] > 40_000_000, f"{of_parent}")
            require(of_child["process"] == forked and of_child["statistics"]["freed_bytes"] < 1_000_000, f"{of_child}")
            require(of_child["statistics"]["live_bytes"] > 0, f"{of_child}")
            if kept == "kept":
                while time.monotonic() < deadline:  # until the library has started
                    text = nonreuse("stats", execed, "--json", status=None, stderr=None)
                    if text:
                        break
                require(json.loads(text)["command"] == "sleep", text)
            else:
                nonreuse("stats", execed, status=1, stderr=r"nonreuse: process \d+: is not protected .*\n")
        finally:
            os.kill(execed, signal.SIGKILL)
            os.kill(forked, signal.SIGKILL)
            parent.stdin.close()
            parent.stdout.close()
            parent.wait(30)


@case
def embedded(folder):
    """A program that is linked with the library, and stripped, is found as well."""
    source = folder / "embedded.c"
    source.write_text("#include <stdlib.h>\n#include <unistd.h>\nint main(void) { char c; void* volatile p = malloc(9);"
                      " free(p); return write(1, \"ready\\n\", 6) == 6 && read(0, &c, 1) == 0 ? 0 : 1; }\n")
    archive = pathlib.Path(os.environ["NONREUSE_BUILD_DIR"], "libdlmalloc_nonreuse.a")
    run(os.environ["NONREUSE_CC"], "-s", "-Wl,--gc-sections", "-o", folder / "embedded", source, archive, "-lpthread", stderr=None)
    child = subprocess.Popen([folder / "embedded"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    try:
        require(child.stdout.readline() == b"ready\n", "not ready")
        figures = json.loads(nonreuse("stats", child.pid, "--json"))
        require(figures["command"] == "embedded" and figures["statistics"]["live_bytes"] > 0, f"{figures}")
    finally:
        child.stdin.close()
        child.stdout.close()
        require(child.wait(30) == 0, "it failed")


@case
def not_permitted(folder):
    """Another user's process: one line that says why, and status 1."""
    if os.geteuid() != 0:
        raise Skip("needs root, to be another user")
    shutil.copy(os.environ["NONREUSE_LAUNCHER"], folder / "nonreuse")
    for path in (folder, folder / "nonreuse"):
        path.chmod(0o755)
    def nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    with Busy() as one:
        run(folder / "nonreuse", "stats", one.pid, status=1, preexec_fn=nobody, cwd="/",
            stderr=rf"nonreuse: process {one.pid}: its memory may not be read .*; root may\n")
        run(folder / "nonreuse", "top", "--once", status=1, preexec_fn=nobody, cwd="/",
            stderr=r"nonreuse: .*(may not be read|may not be looked at).*\n")


@case
def top_once(folder):
    with Busy(3) as one, Busy() as other:
        lines = nonreuse("top", "--once", "--sort", "pid").splitlines()
        require(lines[0].split() == ["PID", "COMMAND", "HEAP", "QUARANT.", "HELD", "FOOTPR.", "SWEEPS", "SWEEP/S",
                                     "%CPU", "P99", "MAX"], f"{lines}")
        rows = {int(line.split()[0]): line for line in lines[1:]}
        require(list(rows) == sorted(rows) and {one.pid, other.pid} <= set(rows), f"{lines}")
        s = json.loads(nonreuse("stats", one.pid, "--json"))["statistics"]
        cells = re.split(r"  +", rows[one.pid].strip())
        require("outward_busy" in cells[0] or cells[1] == "outward_busy", f"{cells}")
        require(f" {s['sweeps']} " in rows[one.pid] and cells[-1] != "-", f"{rows[one.pid]!r}, {s}")
        require(rows[other.pid].split()[-2:] == ["-", "-"], f"one thread is not stopped: {rows[other.pid]!r}")
        by_heap = [int(line.split()[0]) for line in nonreuse("top", "--once").splitlines()[1:]]
        require(set(by_heap) >= {one.pid, other.pid}, f"{by_heap}")
    nonreuse("top", "--once", "--sort", "nothing", status=2, stderr=r"nonreuse: --sort=nothing: .*\(known: pid, .*\)\n")
    nonreuse("top", status=2, stderr=r"nonreuse: top needs a terminal; .*\n")


class Terminal:
    """`nonreuse top` in a terminal; what it has written so far, without the escape sequences."""

    def __init__(self, *words, rows=24, columns=120):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(os.environ["NONREUSE_LAUNCHER"], ["nonreuse", "top", *words], environment(TERM="vt100"))
        self.text = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def keys(self, keys):
        os.write(self.fd, keys.encode())

    def read(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                try:
                    part = os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    return
                self.text += re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()][0-9AB]|[=>78])", "", part)

    def expect(self, pattern):
        """Only what has changed is written, so everything is asked for (control-L) until it is as it should be."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.text = ""
            os.write(self.fd, b"\x0c")
            self.read(0.4)
            if re.search(pattern, self.text, re.S):
                return
        raise AssertionError(f"{pattern!r} does not appear: {self.text[-1500:]!r}")

    def status(self):
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0)[0]:
                try:
                    os.read(self.fd, 65536)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it does not end")


@case
def top_screen(folder):
    with Busy(2) as one, Busy() as other:
        low, high = sorted((one.pid, other.pid))
        screen = Terminal("--delay", "0.3", rows=40)
        screen.expect(rf"\d+ protected processes.*; every 0.3 s.*PID.*COMMAND.*{one.pid}.*q quit, < > or i:pid.*R reverse")
        screen.keys("i")  # by process id
        screen.expect(rf"(?<!\d){low} *outward_busy.*(?<!\d){high} *outward_busy")
        screen.keys("R")
        screen.expect(rf"(?<!\d){high} *outward_busy.*(?<!\d){low} *outward_busy")
        screen.resize(45, 60)  # cut to the width
        screen.expect(r"^((?!SWEEPS).)*outward_busy((?!SWEEPS).)*$")
        screen.resize(45, 130)
        with Busy() as third:  # one more appears by itself
            screen.expect(rf"SWEEP/S.*(?<!\d){third.pid} *outward_busy")
        screen.keys("q")
        require(screen.status() == 0, "q does not end it well")


# ---- probes -------------------------------------------------------------------------------------------

PROBES = {"malloc": 2, "free": 1, "realloc": 3, "sweep_begin": 2, "sweep_end": 4, "stop_begin": 0, "stop_end": 1, "release": 1}


@case
def probes_are_there(folder):
    text = run("readelf", "-nW", os.environ["NONREUSE_LIBRARY"])
    if "stapsdt" not in text and not pathlib.Path("/usr/include/x86_64-linux-gnu/sys/sdt.h").exists():
        raise Skip("built without sys/sdt.h (Debian: systemtap-sdt-dev): the library has no probes")
    found = {}
    for part in text.split("Provider: nonreuse")[1:]:
        name = re.search(r"Name: (\w+)", part)[1]
        semaphore = int(re.search(r"Semaphore: (0x[0-9a-f]+)", part)[1], 16)
        arguments = re.search(r"Arguments: ?([^\n]*)", part)[1].split()
        require(semaphore != 0, f"{name} has no semaphore")
        found.setdefault(name, set()).add(len(arguments))
    require(found == {name: {count} for name, count in PROBES.items()}, f"{found}")
    require("semaphore" not in run("nm", "-D", os.environ["NONREUSE_LIBRARY"]), "semaphores are shown to programs")


@case
def probes_can_be_traced(folder):
    """A debugger attaches to each, and reads the arguments."""
    if "stapsdt" not in run("readelf", "-nW", os.environ["NONREUSE_LIBRARY"]):
        raise Skip("the library was built without probes")
    if not shutil.which("gdb"):
        raise Skip("gdb is missing (scripts/setup --test installs it)")
    commands = ["set pagination off", "set breakpoint pending on", "set startup-with-shell off", "handle SIGURG nostop noprint",
                f"set environment LD_PRELOAD {os.environ['NONREUSE_LIBRARY']}", "set environment NONREUSE_OPTIONS stop=signal",
                "break main", "run 1 < /dev/null > /dev/null"]
    for name, count in PROBES.items():
        if name == "realloc":
            continue
        values = ", ".join(f"$_probe_arg{i}" for i in range(count))
        formats = " ".join(["%llu"] * count)
        shown = f'printf "PROBE {name} {formats}\\n"' + (f", {values}" if values else "")
        commands += [f"tbreak -probe-stap nonreuse:{name}", f"commands\nsilent\n{shown}\ncontinue\nend"]
        if name == "malloc":
            commands += ["condition $bpnum $_probe_arg0 == 300000"]
    script = folder / "commands"
    script.write_text("\n".join(commands + ["continue", "quit", ""]))
    text = run("gdb", "-q", "-nx", "-batch", "-x", script, BUSY, stderr=None, status=None)
    hits = {name: list(map(int, values.split())) for name, values in re.findall(r"PROBE (\w+)((?: \d+)*)", text)}
    require(set(hits) == set(PROBES) - {"realloc"}, f"{sorted(hits)}\n{text[-3000:]}")
    require(hits["malloc"][0] == 300000 and hits["malloc"][1] % 16 == 0 != hits["malloc"][1], f"{hits}")
    require(hits["sweep_begin"][0] > 1_000_000 and hits["sweep_end"][0] == 1, f"{hits}")
    require(hits["sweep_end"][3] > hits["stop_end"][0] > 0 and hits["release"][0] > 1_000_000, f"{hits}")


# ---- timelines -------------------------------------------------------------------------------------------


@case
def timeline(folder):
    trace, out = folder / "busy.trace", folder / "busy.json"
    nonreuse("run", "--no-summary", f"--trace={trace}", "--", "/bin/sh", "-c", f"'{BUSY}' 2 </dev/null; exec '{BUSY}' </dev/null")
    nonreuse("trace", "timeline", trace, "-o", out)
    events = json.loads(out.read_text())["traceEvents"]
    stats = json.loads(nonreuse("trace", "stats", "--json", trace))
    allowed = {"M": {"name", "args"}, "X": {"name", "cat", "ts", "dur", "args"}, "C": {"name", "ts", "args"}}
    for event in events:
        require(event["ph"] in allowed and isinstance(event["pid"], int), f"{event}")
        require(set(event) - {"ph", "pid", "tid"} == allowed[event["ph"]], f"{event}")
        require(event.get("ts", 0) >= 0 and event.get("dur", 0) >= 0, f"{event}")
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    require(len(names) == len(stats["processes"]) == 3, f"{names}")
    require({e["pid"] for e in events} == set(names), "events of a process without a name")
    sweeps = [e for e in events if e["name"] == "sweep"]
    stops = [e for e in events if e["name"] == "stop"]
    require(len(sweeps) == stats["sweeps"] >= 6 and stats["sweeps_abandoned"] == 0, f"{len(sweeps)} sweeps, {stats}")
    require(sum(e["args"]["released_bytes"] for e in sweeps) == stats["released_bytes"], "released")
    paused = sum(e["dur"] for e in stops)
    require(len(stops) >= 3 and abs(paused - stats["pause_ns_total"] / 1e3) < 0.01, f"{paused} us, {stats}")
    for stop in stops:
        require(stop["args"]["begin"] == "recorded", f"{stop}")
        inside = [s for s in sweeps if s["pid"] == stop["pid"] and s["ts"] <= stop["ts"] and
                  stop["ts"] + stop["dur"] <= s["ts"] + s["dur"]]
        require(len(inside) == 1, f"a stop outside of its sweep: {stop}")
    last = {}
    for event in events:
        if event["ph"] == "C":
            require(event["ts"] >= last.get((event["pid"], event["name"]), (0, 0))[0], f"back in time: {event}")
            last[event["pid"], event["name"]] = (event["ts"], event["args"]["bytes"])
    live = sorted(value for (_, name), (_, value) in last.items() if name == "live")
    require(live == sorted(p["live_bytes"] for p in stats["processes"]), f"{live}, {stats['processes']}")
    require({name for _, name in last} == {"live", "quarantined", "held", "footprint"}, f"{last}")
    nonreuse("trace", "timeline", trace, "-o", "/nowhere/x", status=1, stderr="nonreuse: timeline /nowhere/x: No such .*\n")
    (folder / "empty").write_bytes(b"")
    nonreuse("trace", "timeline", folder / "empty", status=1, stderr="nonreuse: trace .*: it is empty\n")


@case
def timeline_of_version_1(folder):
    """A trace of the version before, which has no record of stops."""
    trace, out = folder / "old.trace", folder / "old.json"
    run(BUSY, env=protected(f"trace={trace}"))
    content = bytearray(trace.read_bytes())
    require(content[8:12] == struct.pack("<I", 2), "the version that is written")
    content[8:12] = struct.pack("<I", 1)
    trace.write_bytes(content)
    nonreuse("trace", "timeline", trace, "-o", out)
    require(any(e["name"] == "sweep" for e in json.loads(out.read_text())["traceEvents"]), "no sweeps")
    content[8:12] = struct.pack("<I", 3)
    trace.write_bytes(content)
    nonreuse("trace", "timeline", trace, "-o", out, status=1, stderr="nonreuse: trace .*: it is a trace of another version\n")


def begin(program):
    global BUSY
    BUSY = program


if __name__ == "__main__":
    sys.exit(main(begin))
