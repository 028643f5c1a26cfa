#!/usr/bin/env python3
"""The adversary under strace, or with a debugger attached for a while: threads are then stopped by a signal; no
reference is overlooked, and the program ends as always.

    traced_test.py strace PROGRAM
    traced_test.py attached PROGRAM TRACER
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

COUNTS = re.compile(r"adversary hop: .* sweeps=(\d+) .* overlaps=0 .*")
LATE = r"(nonreuse: a thread did not stop in time for a sweep\. [^\n]*\n)?"


def main():
    how, program = sys.argv[1:3]
    library = os.environ["NONREUSE_LIBRARY"]
    command = ["env", f"LD_PRELOAD={library}", program, "hop", "--seconds", "0.7"]
    with tempfile.TemporaryDirectory() as directory:
        log = os.path.join(directory, "log")
        if how == "strace":
            if shutil.which("strace") is None:
                print("skipped: there is no strace")
                return 77
            tracer = ["strace", "-f", "-o", log, "-e", "trace=ptrace"]
            if subprocess.run([*tracer, "true"], check=False, capture_output=True).returncode != 0:
                print("skipped: strace may not trace here")
                return 77
            # Its own variables must not reach strace itself.
            command = [*tracer, "-E", f"LD_PRELOAD={library}", *command[2:]]
        else:
            command = [sys.argv[3], "100", "400", *command]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("NONREUSE_OPTIONS", "LD_PRELOAD"))}
        result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=100, check=False)
        print(result.stdout + result.stderr)
        if result.returncode == 77:
            return 77
        stops = 0
        if how == "strace":
            with open(log, encoding="utf-8", errors="replace") as file:
                stops = sum("--- SIGURG" in line for line in file)
        elif match := re.search(r"traced (\d+) threads, (\d+) stops by SIGURG", result.stdout):
            stops = int(match[2])
    counts = COUNTS.search(result.stdout)
    if result.returncode != 0 or not counts or int(counts[1]) == 0 or not re.fullmatch(LATE, result.stderr):
        print(f"FAILED: ended with {result.returncode}")
        return 1
    print(f"{stops} stops by SIGURG")
    if stops == 0:
        print("FAILED: the tracer saw no thread stopped by a signal")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
