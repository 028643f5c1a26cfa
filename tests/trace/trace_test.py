#!/usr/bin/env python3
"""Traces: recording, printing, replaying; one case a function.

  trace_test.py PROGRAM CASE     runs one; exit status 0 passed, 1 failed, 77 skipped (and says why)
  trace_test.py --list           prints the cases

PROGRAM is traced.c. The environment gives NONREUSE_LAUNCHER and NONREUSE_LIBRARY.
"""
import collections
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import Skip, case, environment, execute, main, require  # noqa: E402

PROGRAM = None
LINE = re.compile(r" *(\d+) +(\d+) (.{8,}?) USER  (.*)")


def run(*command, stderr="", **more):
    return execute(*command, stderr=stderr, **more).stdout


def nonreuse(*words, **more):
    return run(os.environ["NONREUSE_LAUNCHER"], *words, **more)


def record(folder, *words, pack=False, **more):
    """Runs traced.c (or, with several words that begin with a path, that) and returns the trace."""
    trace = folder / "file.trace"
    command = words if str(words[0]).startswith("/") else (PROGRAM, *words)
    if pack:
        nonreuse("run", "--no-summary", f"--trace={trace}", "--", *command, **more)
    else:
        env = more.pop("env", environment())
        env.update(LD_PRELOAD=os.environ["NONREUSE_LIBRARY"], NONREUSE_OPTIONS=f"trace={trace}")
        run(*command, env=env, **more)
    return trace


def lines(trace, *flags, **more):
    """(process, thread, text) of each printed line."""
    found = []
    for line in nonreuse("trace", "print", *flags, trace, **more).splitlines():
        match = LINE.fullmatch(line)
        require(match, f"not a line of kdump: {line!r}")
        found.append((int(match[1]), int(match[2]), match[4]))
    return found


def count(found, pattern):
    return sum(1 for _, _, text in found if re.fullmatch(pattern, text))


def stats(trace, **more):
    return json.loads(nonreuse("trace", "stats", "--json", trace, **more))


def require_complete(trace, processes=1):
    result = stats(trace)
    require(len(result["processes"]) == processes, f"expected {processes} processes: {result['processes']}")
    require(result["not_recorded"] == 0, f"{result['not_recorded']} calls were not recorded")
    for process in result["processes"]:
        if process["record"] != "did not end by exit()":
            require(process["record"] == "complete", f"{process}")
    return result


def replay(trace, *words):
    return json.loads(nonreuse("replay", "--json", *words, trace))


# ---- recording and printing -------------------------------------------------------------------------


@case
def every_call(folder):
    trace = record(folder, "calls")
    found = lines(trace, "--calls")
    require(found[0][2] == "malloc_init()", f"begins with {found[0]}")
    texts = [text for _, _, text in found]
    at = next(i for i, text in enumerate(texts) if text.endswith("= malloc(1001)"))
    names = {}

    def named(match):  # addresses by the order in which they appear
        return names.setdefault(match[0], "ABCDEFG"[len(names)]) if match[0] != "0x0" else "0x0"

    shown = [re.sub(r"0x[0-9a-f]+", named, text) for text in texts[at:at + 12]]
    grown = shown[2][0]
    kept = shown[3][0]
    expected = ["A = malloc(1001)", "B = malloc(1002)", f"{grown} = realloc(A, 2003)", f"{kept} = realloc(B, 1002)"]
    require(shown[:4] == expected, f"{shown}")
    rest = shown[4:]
    require(re.fullmatch(r". = malloc\(1003\)", rest[0]), f"{rest}")
    require(re.fullmatch(r". = malloc\(1004\)", rest[1]), f"{rest}")
    require(rest[2] == f"free({rest[1][0]})", f"{rest}")
    require(rest[3] == f"0x0 = malloc({1 << 62})", f"{rest}")
    require(rest[4:7] == [f"free({grown})", f"free({kept})", f"free({rest[0][0]})"], f"{rest}")
    require(count(lines(trace), r"0x[0-9a-f]+00 = aligned_alloc\(256, 1003\)") == 1, "no aligned_alloc")
    require_complete(trace)


@case
def threads(folder):
    trace = record(folder, "threads")
    found = lines(trace, "--calls")
    require(count(found, r"0x[0-9a-f]+ = malloc\(3000\)") == 80000, "not every malloc is there")
    by = collections.Counter(thread for _, thread, text in found if text.endswith("malloc(3000)"))
    require(sorted(by.values()) == [20000] * 4, f"threads: {by}")
    require_complete(trace)


@case
def threads_hand_over(folder):
    """Each block is made before it is freed, though by different threads."""
    trace = record(folder, "hand")
    made = set()
    wrong = 0
    for _, _, text in lines(trace, "--calls"):
        if match := re.fullmatch(r"(0x[0-9a-f]+) = malloc\(500\)", text):
            made.add(match[1])
        elif match := re.fullmatch(r"free\((0x[0-9a-f]+)\)", text):
            wrong += match[1] not in made
            made.discard(match[1])
    require(wrong <= 3, f"{wrong} frees before their malloc")  # of the C library, before the trace began
    require(require_complete(trace)["processes"][0]["live_blocks"] < 20, "blocks are left")
    require(replay(trace)["as_recorded"], "the replay differs")


@case
def thread_churn(folder):
    """Short threads leave their windows to others: the file stays small."""
    trace = record(folder, "churn")
    require_complete(trace)
    require(count(lines(trace), r"0x[0-9a-f]+ = malloc\(3001\)") == 400, "not every thread is there")
    require(trace.stat().st_size < 2_000_000, f"{trace.stat().st_size} bytes for 400 threads")


def fork_of(folder, mode):
    trace = record(folder, mode)
    found = lines(trace)
    parent = next(process for process, _, text in found if text.endswith("malloc(2001)"))
    require(count(found, r".* = malloc\(2001\)") == 1, "what was recorded before the fork is there twice")
    require(count(found, r"malloc_init\(\)") == 1, "a fork's child does not begin anew")
    for size, of_parent in ((2003, True), (2004, False)):
        of = [process for process, _, text in found if text.endswith(f"malloc({size})")]
        require(len(of) == 1000, f"{len(of)} of 1000 calls")
        require(all((process == parent) == of_parent for process in of), "calls of the wrong process")
    result = require_complete(trace, 2)
    child = next(process for process in result["processes"] if process["forked"])
    require(child["older_than_the_trace"] == 0, "the child does not know its parent's blocks")
    for process in result["processes"]:
        again = replay(trace, "--process", process["process"])
        require(again["live_bytes"] == process["live_bytes"] and again["as_recorded"], f"{process} {again}")


@case
def fork(folder):
    fork_of(folder, "fork")


@case
def fork_behind_the_back(folder):
    fork_of(folder, "raw-fork")


@case
def execs(folder):
    trace = record(folder, "exec")
    found = lines(trace, "--calls")
    require(count(found, r"malloc_init\(\)") == 2, "two programs begin")
    require(len({process for process, _, _ in found}) == 1, "of one process")
    require(count(found, r".* = malloc\(2001\)") == 1 and count(found, r".* = malloc\(1001\)") == 1, "calls are missing")


@case
def killed(folder):
    trace = record(folder, "kill", status=-9)
    require(count(lines(trace), r".* = malloc\(3000\)") == 1000, "calls before SIGKILL are lost")


@case
def ends_by_misuse(folder):
    trace = record(folder, "free-twice", status=-6, stderr="nonreuse: double free: .*\n")
    block = next(text.split()[0] for _, _, text in lines(trace) if text.endswith("malloc(1001)"))
    found = [text for _, _, text in lines(trace)]
    require(found[-2:] == [f"free({block})"] * 2, f"ends with {found[-3:]}")


@case
def closed_descriptors(folder):
    other = folder / "of the program"
    trace = record(folder, "closed", other)
    require(other.stat().st_size == 0, "wrote to a file of the program")
    require(count(lines(trace), r".* = malloc\(3000\)") == 61000, "calls are missing")
    require_complete(trace)


@case
def sweeps(folder):
    trace = record(folder, "pairs")
    found = lines(trace)
    for name in ("quarantine", "sweep_begin", "sweep_end", "release", "heap"):
        require(count(found, rf"{name}\(.*\)") > 5, f"no {name}")
    require(stats(trace)["sweeps"] == count(found, r"sweep_end\(done,.*"), "sweeps")


# ---- what goes wrong ---------------------------------------------------------------------------------


def stopped(trace, reason):
    name = re.escape(str(trace))
    return (rf"nonreuse: trace {name}: {reason}; what process \d+ does from now on is counted, not recorded\n"
            rf"nonreuse: trace {name}: \d+ calls of process \d+ are not recorded\n")


def require_counted(trace, calls):
    result = stats(trace)
    (process,) = result["processes"]
    require(result["not_recorded"] > 0, "nothing was dropped")
    total = process["calls"] + result["not_recorded"]
    require(calls <= total < calls + 200, f"{process['calls']} recorded, {result['not_recorded']} dropped, {calls} made")


@case
def file_size_limit(folder):
    trace = record(folder, "limit", stderr=stopped(folder / "file.trace", "the limit for file sizes is reached"))
    require_counted(trace, 400000)


@case
def disk_full(folder):
    if os.geteuid() != 0:
        raise Skip("only root may mount a small file system")
    place = folder / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], check=False, capture_output=True)
    if done.returncode:
        raise Skip(f"no file system can be mounted here: {done.stderr.decode()[:200]}")
    try:
        trace = record(place, "pairs", 100000, stderr=stopped(place / "file.trace", "no space is left there"))
        require_counted(trace, 200000)
    finally:
        subprocess.run(["umount", place], check=True)


@case
def no_place(folder):
    said = "nonreuse: trace {}: {}; nothing is recorded\n"
    foreign = folder / "foreign"
    foreign.write_text("not a trace")
    plans = ((folder / "missing" / "file", "there is no such folder"), (foreign, "it holds something else than a trace"),
             (folder, "it is no regular file"), ("/dev/null", "it is no regular file"))
    for path, reason in plans:
        env = environment(LD_PRELOAD=os.environ["NONREUSE_LIBRARY"], NONREUSE_OPTIONS=f"trace={path}")
        out = run(PROGRAM, "calls", env=env, stderr=re.escape(said.format(path, reason)))
        require(out == "done\n", "the program did not run on")
    require(foreign.read_text() == "not a trace", "the file was written to")
    nonreuse("run", f"--trace={foreign}", "--", PROGRAM, "calls", status=2, stderr=".*a file of another kind is there\n")


@case
def no_descriptors(folder):
    def no_more():
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

    # Numbers above the limit cannot be had: it works with a low one.
    trace = record(folder, "pairs", preexec_fn=no_more)
    require_complete(trace)


@case
def damage(folder):
    """Cut off, or changed anywhere: what is before is shown, one line says where, and nothing crashes."""
    trace = record(folder, "pairs", "9000")
    whole = trace.read_bytes()
    all_lines = nonreuse("trace", "print", trace).splitlines()
    broken = folder / "broken.trace"
    said = r"nonreuse: trace .*: it is (cut off|damaged).* at byte \d+; what was before that is shown\n"
    window = 65536 + 16384
    for size in (65536 + 50, 65536 + 5000, window - 1, window + 3, len(whole) - 16384):
        broken.write_bytes(whole[:size])
        shown = nonreuse("trace", "print", broken, status=1, stderr=said).splitlines()
        require(shown == all_lines[:len(shown)], f"cut at {size}: other lines")
        require(size < 66000 or len(shown) > 1000, f"cut at {size}: only {len(shown)} lines")
    changed = bytearray(whole)
    changed[window + 500] ^= 4
    broken.write_bytes(changed)
    shown = nonreuse("trace", "print", broken, status=1, stderr=said).splitlines()
    require(1000 < len(shown) < len(all_lines) and shown == all_lines[:len(shown)], "not everything before the damage")
    for content, reason in ((b"", "it is empty"), (b"x" * 100000, "it is not a trace of this library"),
                            (whole[:1000], "it is cut off in its header")):
        broken.write_bytes(content)
        out = nonreuse("trace", "print", broken, status=1, stderr=f"nonreuse: trace .*: {reason}; .*\n")
        require(out == "", "something is shown")
    nonreuse("trace", "print", folder / "none", status=2, stderr="nonreuse: trace .*: No such file or directory\n")
    packed = folder / "packed.trace"
    packed.write_bytes(whole)
    nonreuse("trace", "pack", packed)
    require(packed.stat().st_size < len(whole) / 3, "packing does not make it smaller")
    require(nonreuse("trace", "print", packed).splitlines() == all_lines, "packing changed it")
    broken.write_bytes(packed.read_bytes()[:-100])
    nonreuse("trace", "print", broken, status=1, stderr=said)


# ---- the launcher, replay, plots ---------------------------------------------------------------------


@case
def launcher_run(folder):
    trace = folder / "a.trace"
    for _ in range(2):  # the second run replaces the first one's trace
        nonreuse("run", "--trace=a.trace", "--", PROGRAM, "exec", cwd=folder,
                 stderr=r"(nonreuse: .*\n)+nonreuse:   trace +/.*a\.trace, .* \(packed from .*\)\n")
        require(count(lines(trace, "--calls"), r".* = malloc\(1001\)") == 1, "what is in the trace")
    require(trace.read_bytes()[:4] == b"\x28\xb5\x2f\xfd", "is not packed")


@case
def replays_are_alike(folder):
    trace = record(folder, "threads", pack=True)
    first, second, glibc = replay(trace), replay(trace), replay(trace, "--allocator", "glibc")
    same = ("calls", "malloc", "realloc", "free", "requested_bytes", "threads", "live_blocks", "live_bytes")
    for name in same:
        require(first[name] == second[name] == glibc[name], f"{name}: {first[name]} {second[name]} {glibc[name]}")
    require(first["as_recorded"] and second["as_recorded"] and glibc["as_recorded"], "not as recorded")
    require(first["sweeps"] > 0 and "sweeps" not in glibc, "sweeps")
    require(first["threads"] == 5, f"{first['threads']} threads")
    wide = replay(trace, "--percent", "1000", "--min", "64M")
    require(wide["sweeps"] < first["sweeps"], "the options have no effect")
    table = json.loads(nonreuse("replay", "--json", "--what-if", "percent=10,400", trace))
    require([one["name"] for one in table] == ["percent=10", "percent=400"], f"{table}")
    nonreuse("replay", "--what-if", "percent=10,x", trace, status=2, stderr="nonreuse: option percent=x is not a number.*\n")
    nonreuse("replay", "--allocator", "glibc", "--percent", "10", trace, status=2, stderr="nonreuse: options .*\n")


@case
def pictures(folder):
    if not shutil.which("gnuplot"):
        raise Skip("gnuplot is missing (package gnuplot-nox)")
    trace = record(folder, "pairs")
    nonreuse("trace", "plot", "-o", folder / "picture.svg", trace)
    text = (folder / "picture.svg").read_text()
    for word in ("footprint", "quarantined", "held", "live", "freed within", "size, up to"):
        require(word in text, f"no {word} in the picture")
    require("http-equiv" not in text and "src=" not in text, "the picture loads something")
    nonreuse("trace", "plot", trace, "-o", folder / "picture.png")
    require((folder / "picture.png").read_bytes()[:4] == b"\x89PNG", "is no PNG")
    nonreuse("replay", "--what-if", "percent=10,50", "--chart", folder / "chart.svg", trace)
    require("percent=50" in (folder / "chart.svg").read_text(), "the chart has no labels")
    nonreuse("trace", "plot", trace, "-o", folder / "x.pdf", status=2, stderr="nonreuse: .*ends in .svg or .png\n")


def real(folder, program, *words, **more):
    if not os.path.exists(program):
        raise Skip(f"{program} is missing")
    trace = record(folder, program, *words, **more)
    result = stats(trace)
    require(result["not_recorded"] == 0, "calls are missing")
    process = max(result["processes"], key=lambda one: one["calls"])
    require(process["record"] == "complete", f"{process}")
    again = replay(trace, "--process", process["process"])
    require(again["live_bytes"] == process["live_bytes"], f"{process} {again}")
    require(again["as_recorded"] and again["left_out"] == process["older_than_the_trace"], f"{again}")


@case
def python3_replayed(folder):
    code = "import json\nfor i in range(30): json.loads(json.dumps([{str(k): [k] * 9} for k in range(500)]))"
    real(folder, "/usr/bin/python3", "-c", code, env=environment(PYTHONMALLOC="malloc"))


@case
def sqlite3_replayed(folder):
    sql = ("create table t(a integer primary key, b text);"
           "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) "
           "insert into t select i, hex(i * 7919) from n; create index x on t(b);"
           "select count(*), max(b) from t where b like '3%';")
    real(folder, "/usr/bin/sqlite3", folder / "database", sql)


@case
def redis_replayed(folder):
    if not os.path.exists("/usr/bin/redis-benchmark"):
        raise Skip("redis-tools is missing")
    socket = folder / "socket"
    script = (f"redis-server --port 0 --unixsocket {socket} --save '' --dir {folder} >/dev/null & "
              f"while ! redis-cli -s {socket} ping >/dev/null 2>&1; do sleep 0.05; done; "
              f"env -u LD_PRELOAD redis-benchmark -s {socket} -q -n 5000 -t set,lpush,lpop,sadd >/dev/null; "
              f"redis-cli -s {socket} shutdown nosave; wait")
    real(folder, "/bin/sh", "-c", script)


def begin(program):
    global PROGRAM
    PROGRAM = program


if __name__ == "__main__":
    sys.exit(main(begin))
