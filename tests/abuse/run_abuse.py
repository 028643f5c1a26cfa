#!/usr/bin/env python3
"""Runs one misuse program under the library and compares its end with what the table says.

A program that is to be stopped must die of SIGABRT and have written exactly one line to standard error: the
one in the table, with the very addresses that the program announced. A program that is to survive must exit
with 0 and have written nothing.
"""
import argparse
import os
import re
import resource
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from target import for_target, of_the_program  # noqa: E402

DOUBLE = "double free: {function}({given}): chunk {chunk} of {size} bytes is freed already"
LIVE = "invalid free: {function}({given}): points {offset} bytes into the live chunk {chunk} of {size} bytes"
FREED = "invalid free: {function}({given}): points {offset} bytes into the freed chunk {chunk} of {size} bytes"
UNALIGNED = "invalid free: {function}({given}): is not aligned to 16 bytes"
FOREIGN = "invalid free: {function}({given}): is not an address of this heap"
UNALLOCATED = "invalid free: {function}({given}): is heap memory that is not allocated"

# program: (message, the function named in it, the size of the chunk or None for "as announced", repetitions)
STOPPED = {
    "double_free_at_once": (DOUBLE, "free", 32, 1),
    "double_free_late": (DOUBLE, "free", 1008, 1),
    "double_free_released": (UNALLOCATED, "free", 3008, 1),
    "double_free_other_thread": (DOUBLE, "free", 48, 1),
    "double_free_in_thread": (DOUBLE, "free", 48, 1),
    "double_free_race": (DOUBLE, "free", 32, 50),
    "double_free_race_large": (DOUBLE, "free", None, 50),
    "double_free_forked": (DOUBLE, "free", 32, 1),
    "realloc_freed": (DOUBLE, "realloc", 32, 1),
    "realloc_freed_shrink": (DOUBLE, "realloc", 1008, 1),
    "free_after_realloc": (DOUBLE, "free", 32, 1),
    "free_after_realloc_large": (DOUBLE, "free", None, 1),
    "free_after_realloc_zero": (DOUBLE, "free", 32, 1),
    "realloc_interior": (LIVE, "realloc", 112, 1),
    "free_interior": (LIVE, "free", 112, 1),
    "free_interior_freed": (FREED, "free", 112, 1),
    "free_unaligned": (UNALIGNED, "free", 112, 1),
    "free_half_granule": (UNALIGNED, "free", 112, 1),
    "free_past_end": (LIVE, "free", 48, 1),
    "free_stack": (FOREIGN, "free", 0, 1),
    "free_stack_unaligned": (FOREIGN, "free", 0, 1),
    "free_thread_stack": (FOREIGN, "free", 0, 1),
    "free_static": (FOREIGN, "free", 0, 1),
    "free_static_first": (FOREIGN, "free", 0, 1),
    "free_function": (FOREIGN, "free", 0, 1),
    "free_string_literal": (FOREIGN, "free", 0, 1),
    "free_mmap": (FOREIGN, "free", 0, 1),
    "free_small_integer": (FOREIGN, "free", 0, 1),
    "free_minus_one": (FOREIGN, "free", 0, 1),
    "free_non_canonical": (FOREIGN, "free", 0, 1),
    "free_never_allocated": (UNALLOCATED, "free", 112, 1),
    "free_large_interior": (LIVE, "free", None, 1),
    "free_large_interior_far": (LIVE, "free", None, 1),
    "free_large_interior_freed": (FREED, "free", None, 1),
    "free_large_twice": (DOUBLE, "free", None, 1),
    "free_large_twice_late": (DOUBLE, "free", None, 1),
    "free_aligned_twice": (DOUBLE, "free", None, 1),
    "usable_size_freed": (DOUBLE, "malloc_usable_size", 32, 1),
    "usable_size_interior": (LIVE, "malloc_usable_size", 112, 1),
    "usable_size_stack": (FOREIGN, "malloc_usable_size", 0, 1),
    "delete_malloced_twice": (DOUBLE, "free", 32, 1),
    "delete_sized_twice": (DOUBLE, "free", 32, 1),
    "delete_array_twice": (DOUBLE, "free", 112, 1),
    "delete_aligned_twice": (DOUBLE, "free", None, 1),
    "delete_stack": (FOREIGN, "free", 0, 1),
}

# program: signals that it may die of instead of exiting with 0
SURVIVES = {
    "overflow_padding": (),
    "overflow_neighbour": (),
    "write_after_free": (),
    "read_after_free": (),
    "read_after_free_large": (signal.SIGSEGV,),
}

ANNOUNCED = re.compile(r"^given=(0x[0-9a-f]+) chunk=(0x[0-9a-f]+) size=(\d+) offset=(-?\d+)$", re.MULTILINE)


def run(program, library):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NONREUSE_", "MALLOC_"))}
    if library:
        environment["LD_PRELOAD"] = os.path.abspath(library)
    command, environment = for_target([program], environment)
    result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            timeout=60, check=False,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    result.stderr = of_the_program(result.stderr)
    return result


def expected_line(result, message, function, size):
    announced = ANNOUNCED.search(result.stdout)
    if announced is None:
        return None
    return "nonreuse: " + message.format(function=function, given=announced[1], chunk=announced[2],
                                         size=announced[3] if size is None else size, offset=announced[4])


def check_stopped(name, result):
    message, function, size, _ = STOPPED[name]
    line = expected_line(result, message, function, size)
    if line is None:
        return f"announced nothing; standard error: {result.stderr!r}"
    problems = []
    if result.returncode != -signal.SIGABRT:
        problems.append(f"ended with {result.returncode}, not by SIGABRT")
    if result.stderr != line + "\n":
        problems.append(f"standard error was {result.stderr!r}, not {line!r}")
    return "; ".join(problems)


def check_survived(name, result):
    if result.stderr:
        return f"ended with {result.returncode}; standard error was {result.stderr!r}"
    if result.returncode == 0 or -result.returncode in SURVIVES[name]:
        return ""
    return f"ended with {result.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", default="", help="preloaded into the program; empty: the system's malloc")
    parser.add_argument("--list", action="store_true", help="print the names of all programs and end")
    parser.add_argument("program", nargs="?", help="path of the program; its file name is looked up in the table")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(list(STOPPED) + list(SURVIVES)))
        return 0
    name = os.path.basename(arguments.program)
    rounds = STOPPED[name][3] if name in STOPPED else 1
    for number in range(rounds):
        result = run(arguments.program, arguments.library)
        problem = check_stopped(name, result) if name in STOPPED else check_survived(name, result)
        if problem:
            print(f"{name}, round {number + 1} of {rounds}: {problem}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
