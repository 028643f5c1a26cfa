#!/usr/bin/env python3
"""Runs `hold` for one place: under the library nothing may overlap a freed chunk while the place points to it,
and the memory must come back once the place is cleared. Then the same program runs on the system's malloc,
where it must find that memory pointed to is reused: a check that could not fail would prove nothing.
"""
import argparse
import os
import re
import resource
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from target import for_target, of_the_program  # noqa: E402

# The system's malloc maps chunks above this size one by one: whether their addresses come back is up to the
# kernel, so only the sizes up to it are asked of the control.
CONTROL_SIZE = 40000
SIZES = 7  # of hold's victims: a line for each
LINE = re.compile(r"^size=(\d+) victims=(\d+) overlapped=(\d+) reused=(\d+)$", re.MULTILINE)


def run(command, environment, timeout):
    command, environment = for_target(command, environment)
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=timeout, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--plugin", required=True)
    parser.add_argument("--options", default="", help="NONREUSE_OPTIONS")
    parser.add_argument("--threads", help="threads that churn; 0: the main thread")
    parser.add_argument("--fork", action="store_true", help="churn in the child of a fork")
    parser.add_argument("--beside", action="store_true", help="sweeps must have read beside the threads")
    parser.add_argument("--ballast", help="MiB that live all the time")
    parser.add_argument("--timeout", type=float, default=1800)
    parser.add_argument("place")
    arguments = parser.parse_args()

    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NONREUSE_OPTIONS", "MALLOC_"))}
    environment["NONREUSE_TEST_PLUGIN"] = os.path.abspath(arguments.plugin)
    # One of the places is the array of the environment: let it be of some size.
    environment.update({f"HOLD_{i}": "" for i in range(64)})
    command = [arguments.program, arguments.place]
    if arguments.threads:
        command += ["--threads", arguments.threads]
    if arguments.fork:
        command += ["--fork"]
    if arguments.beside:
        command += ["--beside"]
    if arguments.ballast:
        command += ["--ballast", arguments.ballast]

    preloaded = dict(environment, LD_PRELOAD=os.path.abspath(arguments.library))
    if arguments.options:
        preloaded["NONREUSE_OPTIONS"] = arguments.options
    result = run(command, preloaded, arguments.timeout)
    if result.returncode == 77:
        print(result.stdout)
        return 77
    if result.returncode != 0 or of_the_program(result.stderr) or len(LINE.findall(result.stdout)) != SIZES:
        print(f"{' '.join(command)}: ended with {result.returncode}\n{result.stdout}{result.stderr}")
        return 1

    if not arguments.threads and not arguments.fork:
        control = run([arguments.program, arguments.place, "--hold-only"], environment, arguments.timeout)
        # Some places write into freed chunks, which may kill the system's malloc: caught all the same.
        missed = [size for size, _, overlapped, _ in LINE.findall(control.stdout)
                  if int(size) <= CONTROL_SIZE and overlapped == "0"]
        if control.returncode in (0, 3, 77) or missed:
            print(f"the control on the system's malloc ended with {control.returncode} and found no reuse of "
                  f"{missed or 'anything'}\n{control.stdout}{control.stderr}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
