#!/usr/bin/env python3
"""Runs one program, as a rule with the library preloaded, and checks how it ends and what it prints.

The program must end by itself with the expected exit status or signal. Its standard error must match the
given regular expression as a whole; without one it must be empty, because the library promises silence.
"""
import argparse
import os
import re
import resource
import signal
import subprocess
import sys

from target import for_target, of_the_program


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preload", help="library for LD_PRELOAD")
    parser.add_argument("--options", help="value of NONREUSE_OPTIONS")
    parser.add_argument("--exit", type=int, default=0, help="expected exit status")
    parser.add_argument("--signal", help="expected signal, as ABRT")
    parser.add_argument("--stderr", help="regular expression for the whole of standard error")
    parser.add_argument("--stdout", help="regular expression for the whole of standard output")
    parser.add_argument("--timeout", type=float, default=100)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def describe(code):
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def main():
    arguments = parse_arguments()
    environment = dict(os.environ)
    environment.pop("NONREUSE_OPTIONS", None)
    if arguments.preload:
        environment["LD_PRELOAD"] = arguments.preload
    if arguments.options is not None:
        environment["NONREUSE_OPTIONS"] = arguments.options
    command, environment = for_target(arguments.command, environment)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=arguments.timeout)
    except subprocess.TimeoutExpired as expired:
        print(f"FAILED: still running after {arguments.timeout} s; standard error so far:\n"
              f"{(expired.stderr or b'').decode(errors='replace')}")
        return 1
    out = result.stdout.decode(errors="replace")
    err = of_the_program(result.stderr).decode(errors="replace")
    if result.returncode == 77 and arguments.exit != 77:
        print(out + err)
        return 77

    problems = []
    expected = arguments.exit
    if arguments.signal:
        expected = -getattr(signal, "SIG" + arguments.signal.removeprefix("SIG"))
    if result.returncode != expected:
        problems.append(f"ended with {describe(result.returncode)}, expected {describe(expected)}")
    if not re.fullmatch(arguments.stderr or "", err.rstrip("\n"), re.DOTALL):
        problems.append(f"standard error does not match {arguments.stderr or '(nothing)'!r}")
    if arguments.stdout is not None and not re.fullmatch(arguments.stdout, out.rstrip("\n"), re.DOTALL):
        problems.append(f"standard output does not match {arguments.stdout!r}")
    for problem in problems:
        print("FAILED:", problem)
    if out:
        print("standard output:\n" + out)
    if err:
        print("standard error:\n" + err)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
