#!/usr/bin/env python3
"""Checks the model of the concurrent sweep (sweep.pml) with spin, and that each planted bug is found.

    run_model.py                 all runs: the right model, what must be reachable, each planted bug
    run_model.py --only NAME     this run; may be given again
    run_model.py --trail NAME    the shortest way to a planted bug's failure, step by step
    run_model.py --list          names of the runs, and what each plants
    run_model.py --keep          leaves the generated verifiers, and says where

One line a run: name, ok or FAILED, states, seconds. Exit status 0 if all is as it should be, 1 if not, 2 if spin
or the C compiler (cc, or what NONREUSE_CC names) is missing. docs/concurrency.md explains the model.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

MODEL = pathlib.Path(__file__).resolve().with_name("sweep.pml")
RUN_LIMIT_S = 240
PAN_ARGUMENTS = ["-m400000", "-w20"]  # depth of the search and size of its hash table (2^20 slots)
COMPILER_ARGUMENTS = ["-w", "-DSAFETY", "-DNOFAIR", "-DMEMLIM=2000"]  # MiB

# Parts of the whole; see the head of sweep.pml.
PLACES = ["-DPLACES", "-DBUFFERS=1"]
CONTENT = ["-DBUFFERS=0"]
PROTECT = ["-DPLACES", "-DBUFFERS=0", "-DNO_FORK", "-DPROTECT"]
# What a planted bug does not need is left out.
BUFFERED = ["-DPLACES", "-DBUFFERS=1", "-DNO_FORK"]
PLAIN = ["-DPLACES", "-DBUFFERS=0", "-DNO_FORK"]
FORKED = ["-DPLACES", "-DBUFFERS=0"]
INSIDE = ["-DBUFFERS=0", "-DNO_FORK"]

UNREACHABLE = "released_only_if_unreachable"
IN_TIME = "released_only_if_painted_in_time"
PRECISE = "released_if_nothing_pointed_to_it"

RIGHT = {"places": PLACES, "content": CONTENT, "protect": PROTECT}

# Something must be released at all, by a sweep and after a past that the bits of REACH describe.
REACHABLE = {
    "release": (FORKED, 31, "a chunk is released that was released before, then freed during a sweep, held by one, left "
                            "by one that failed, in the child of a fork"),
    "release-held-inside": (INSIDE, 32, "a chunk is released that only the content of a held chunk had held"),
}

# name: (part of the model, the property that must fail, what is planted); BUG_NAME in sweep.pml.
BUGS = {
    "written-not-reread": (PLAIN, UNREACHABLE, "pages written since they were armed are not read in the stop"),
    "paint-after-read": (PLAIN, UNREACHABLE, "chunks are painted after the rounds"),
    "read-before-arm": (PLAIN, UNREACHABLE, "the first round reads a page, then arms it"),
    "no-fence": (BUFFERED, UNREACHABLE, "arming leaves stores in the processors' buffers"),
    "no-flush": (PLAIN, UNREACHABLE, "arming leaves old translations in the processors"),
    "batch-sealed-late": (PLAIN, UNREACHABLE, "what was freed meanwhile is painted after the rounds, too"),
    "waiting-released": (PLAIN, IN_TIME, "what was freed after the painting is released with the rest"),
    "registers-not-read": (PLAIN, UNREACHABLE, "registers are not read in the stop"),
    "stacks-not-read": (PLAIN, UNREACHABLE, "stacks are not read in the stop"),
    "unarmed-not-read": (PLAIN, UNREACHABLE, "mappings that are not armed are not read in the stop"),
    "one-runs-on": (PLAIN, UNREACHABLE, "one thread runs while the rest is read"),
    "time-out-ignored": (PLAIN, UNREACHABLE, "a thread did not stop in time, and the sweep goes on"),
    "lost-not-asked": (PLAIN, UNREACHABLE, "the threads did not stay stopped, and chunks are released"),
    "content-not-read": (INSIDE, UNREACHABLE, "the content of hit chunks is not read"),
    "round-order": (PLAIN, UNREACHABLE, "further rounds read what they collected, then arm it"),
    "arms-uncollected": (PLAIN, UNREACHABLE, "further rounds arm pages that they did not collect"),
    "tracked-by-address": (PLAIN, UNREACHABLE, "an address once armed counts as armed after mremap"),
    "skipped-is-read": (PROTECT, UNREACHABLE, "a page that could not be read in its round counts as read"),
    "free-bits-early": (INSIDE, UNREACHABLE, "what is free was noted before arming, and is not read"),
    "fork-keeps-tracking": (FORKED, UNREACHABLE, "the child of a fork goes on with its parent's tracking"),
    "not-cleansed": (INSIDE, UNREACHABLE, "memory is handed out with what was stored in it while freed"),
    "hits-kept": (PLAIN, PRECISE, "a sweep that failed leaves its hits to the next"),
}

TRUNCATED = ("max search depth too small", "out of memory", "memory exhausted", "hashtable full", "VECTORSZ",
             "aborting", "bitstate", "hash-compact")


class Unexpected(Exception):
    """The run did not end as it must; the text says how."""


def defines_of(name):
    if name in BUGS:
        return BUGS[name][0] + ["-DBUG_" + name.upper().replace("-", "_")]
    if name in REACHABLE:
        return REACHABLE[name][0] + [f"-DREACH={REACHABLE[name][1]}"]
    return RIGHT[name]


def call(command, folder):
    """Output of a command that must not fail for its own reasons (pan ends with 0 also if it finds errors)."""
    try:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=RUN_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Unexpected(f"{command[0]} took longer than {RUN_LIMIT_S} s") from None
    if done.returncode != 0:
        raise Unexpected(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout


def verify(name, folder, compiler, more=()):
    """Generates, compiles and runs the verifier in `folder`; its output."""
    shutil.copy(MODEL, folder)
    said = call(["spin", "-a", *defines_of(name), MODEL.name], folder)
    if said.strip():
        raise Unexpected(f"spin -a said: {said.strip()}")
    optimize = "-O1" if name in RIGHT else "-O0"  # what takes longer: to compile, or to run
    call([*compiler, optimize, *COMPILER_ARGUMENTS, *more, "-o", "pan", "pan.c"], folder)
    return call(["./pan", *PAN_ARGUMENTS], folder)


def understand(output):
    """(number of errors, states, failed assertion or "", unreached lines) of pan's output."""
    for sign in TRUNCATED:
        if sign in output:
            raise Unexpected(f"the search was not complete ({sign}):\n{output}")
    head = re.search(r"^State-vector \d+ byte, depth reached \d+, errors: (\d+)$", output, re.M)
    states = re.search(r"^\s*([\d.e+]+) states, stored", output, re.M)
    if not head or not states or not re.search(r"^Full statespace search for:$", output, re.M):
        raise Unexpected(f"pan's output is not understood:\n{output}")
    failed = re.search(r"^pan:\d+: (?:assertion violated (\S+)|(.*)) \(at depth \d+\)$", output, re.M)
    text = (failed.group(1) or failed.group(2)) if failed else ""
    errors = int(head.group(1))
    if (errors > 0) != bool(failed):
        raise Unexpected(f"pan's output contradicts itself:\n{output}")
    if errors == 0 and "Search not completed" in output:
        raise Unexpected(f"the search was not complete:\n{output}")
    unreached = re.findall(r"^\s+sweep\.pml:\d+, state \d+, .*$", output, re.M)
    return errors, int(float(states.group(1))), text, [line for line in unreached if '"-end-"' not in line]


def judge(name, output):
    """The states of a run that ended as it must."""
    errors, states, failed, unreached = understand(output)
    if name in RIGHT:
        if errors:
            raise Unexpected(f"{failed} fails; --trail {name} shows how")
        if unreached:
            raise Unexpected("statements are never reached:\n" + "\n".join(unreached))
        if states < 100000:
            raise Unexpected(f"only {states} states: threads are stuck")
    elif name in REACHABLE:
        if failed != "0":
            raise Unexpected(f"never happens ({failed or 'no error'})")
    elif failed != BUGS[name][1]:
        raise Unexpected(f"the planted bug is not found: expected {BUGS[name][1]} to fail, got "
                         f"{failed or 'no error'}")
    return states


def describe(name):
    if name in RIGHT:
        return "no error, all states"
    if name in REACHABLE:
        return "happens: " + REACHABLE[name][2]
    return "found: " + BUGS[name][2]


def run(name, work, compiler):
    """True if the run ended as it must; prints its line."""
    begin = time.monotonic()
    folder = work / name
    folder.mkdir()
    try:
        states = judge(name, verify(name, folder, compiler))
        word, figure, text = "ok", f"{states:9}", describe(name)
    except Unexpected as problem:
        word, figure, text = "FAILED", " " * 9, str(problem)
    print(f"{name:22} {word:6} {figure} states {time.monotonic() - begin:5.1f} s  {text}", flush=True)
    return word == "ok"


def show_trail(name, work, compiler):
    """Prints the shortest way to the error: breadth first, then replayed without the steps that say nothing."""
    folder = work / "trail"
    folder.mkdir()
    errors, _, failed, _ = understand(verify(name, folder, compiler, ["-DBFS"]))
    if not errors:
        print(f"{name}: no error, so there is no trail")
        return 1
    done = subprocess.run(["spin", "-t", "-p", *defines_of(name), MODEL.name], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=RUN_LIMIT_S, check=False)
    dull = re.compile(r"\[(sub-sequence|IF|else|\(1\)|\.\(goto\))\]$|unreferenced\[")
    for line in done.stdout.splitlines():
        if dull.search(line):
            continue
        line = re.sub(r"\s+proc\s+(\d) \((\w+):1\) sweep\.pml:(\d+) \(state \d+\)\s*", r" \2 \1, line \3: ", line)
        print(line if len(line) <= 160 else line[:157] + "...")
    print(f"{name}: {failed} fails")
    return 0


def check_table():
    """Bugs in the model and in this file's table must be the same."""
    text = MODEL.read_text()
    in_model = {name.lower().replace("_", "-") for name in re.findall(r"\bBUG_([A-Z0-9_]+)", text)}
    if in_model != set(BUGS):
        sys.exit(f"run_model.py: the model and the table differ in: {sorted(in_model ^ set(BUGS))}")


def find_tools():
    compiler = shlex.split(os.environ.get("NONREUSE_CC") or "cc")
    for tool, package in (("spin", "spin"), (compiler[0], "gcc")):
        if shutil.which(tool) is None:
            print(f"run_model.py: {tool} is missing (Debian package {package}; scripts/setup --test installs it)",
                  file=sys.stderr)
            sys.exit(2)
    return compiler


def main():
    names = [*RIGHT, *REACHABLE, *BUGS]
    parser = argparse.ArgumentParser(description="checks the model of the concurrent sweep")
    parser.add_argument("--only", action="append", metavar="NAME", choices=names)
    parser.add_argument("--trail", metavar="NAME", choices=names)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    check_table()
    if arguments.list:
        for name in names:
            print(f"{name:22} {describe(name)}")
        return 0
    compiler = find_tools()
    work = pathlib.Path(tempfile.mkdtemp(prefix="nonreuse-model-"))
    try:
        if arguments.trail:
            return show_trail(arguments.trail, work, compiler)
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
            results = list(pool.map(lambda name: run(name, work, compiler), arguments.only or names))
        failures = results.count(False)
        print(f"{len(results)} runs, {failures} not as they must be, {time.monotonic() - begin:.1f} s")
        return 1 if failures else 0
    except Unexpected as problem:
        print(f"run_model.py: {problem}", file=sys.stderr)
        return 1
    finally:
        if arguments.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
