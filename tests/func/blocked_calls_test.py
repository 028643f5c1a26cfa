#!/usr/bin/env python3
"""What happens to a thread that is blocked in a system call while another one sweeps.

Runs `blocked_calls` without the library and under both ways to stop threads, and holds the results against the
table in docs/stopping.md: what is "as without" there must be so; what is not, may be so on another kernel. Prints
the table of this machine.

    blocked_calls_test.py PROGRAM LIBRARY DOCUMENT
"""
import os
import re
import subprocess
import sys

RUNS = {
    "without": ([], None, False),
    "ptrace": ([], "stop=ptrace", True),
    "signal": ([], "stop=signal", True),
    "deaf": (["deaf"], None, True),  # the threads block every signal: only ptrace can stop them
}
KEPT = "as without"
LATE = r"(nonreuse: a thread did not stop in time for a sweep\. [^\n]*\n)?"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]*?) \| ([^|]*?) \|$", re.MULTILINE)


def start(program, library, arguments, options, preload):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NONREUSE_OPTIONS", "LD_PRELOAD"))}
    if preload:
        environment["LD_PRELOAD"] = os.path.abspath(library)
    if options:
        environment["NONREUSE_OPTIONS"] = options
    return subprocess.Popen([program, *arguments], env=environment, stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def main():
    program, library, document = sys.argv[1:4]
    running = {name: start(program, library, *how) for name, how in RUNS.items()}
    results, problems, skipped = {}, [], []
    for name, process in running.items():
        out, err = process.communicate(timeout=150)
        if process.returncode == 77:
            skipped.append(f"{name}: {out.strip()}")
            continue
        if process.returncode != 0 or not re.fullmatch(LATE, err):
            problems.append(f"{name}: ended with {process.returncode}\n{out}{err}")
            continue
        results[name] = dict(line.rsplit(": ", 1) for line in out.splitlines())
        sweeps = int(results[name].pop("sweeps"))
        if (sweeps > 0) != RUNS[name][2] and not (name == "deaf" and skipped):
            problems.append(f"{name}: {sweeps} sweeps")
    with open(document, encoding="utf-8") as file:
        expected = {row[0]: row[1:] for row in ROW.findall(file.read())}
    names = list(results.get("without", {}))
    if list(expected) != names:
        problems.append(f"the calls in {document} are others: {sorted(set(expected) ^ set(names))}")

    print("| call | stop=ptrace | stop=signal |\n| --- | --- | --- |")
    for name in names:
        print(f"| `{name}` | {results.get('ptrace', {}).get(name, '?')} | {results.get('signal', {}).get(name, '?')} |")
    if skipped:
        results.pop("deaf", None)
    for run, calls in results.items():
        for name, result in calls.items():
            documented = expected.get(name, ("", ""))
            allowed = {KEPT, "not here"}
            if run in ("ptrace", "deaf"):
                allowed.add(documented[0])
            elif run == "signal":
                allowed.add(documented[1])
            if result not in allowed:
                problems.append(f"{run}: {name}: {result}; allowed: {', '.join(sorted(allowed))}")
    for problem in problems:
        print("FAILED:", problem)
    if problems:
        return 1
    if skipped:
        print("skipped in part:", *skipped, sep="\n")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
