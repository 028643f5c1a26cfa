#!/usr/bin/python3
"""Start-up: the time and memory of a trivial program with and without the library, starts interleaved.

  bench/startup.py [--library PATH] [--count 500] [--program /bin/true] [--allocator NAME=PATH[,ENV=VALUE...]]

Measures only; it asserts nothing but that every start succeeds.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import subprocess
import sys

import shared
from run import Allocator, given_allocator
from shared import measure

HERE = pathlib.Path(__file__).resolve().parent


def main(argv: list[str]) -> int:
    parser = shared.parser(__doc__)
    parser.add_argument("--count", type=int, default=500, help="starts under each allocator")
    parser.add_argument("--program", default="/bin/true")
    parser.add_argument("--allocator", type=given_allocator, action="append", default=[])
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there, too")
    options = parser.parse_args(argv)
    if not shared.is_built(options.library):
        return 2
    allocators = [
        Allocator("glibc"),
        Allocator("nonreuse", str(options.library.resolve())),
        *options.allocator,
    ]
    tool = measure.build_tool(
        HERE / "programs" / "spawn_time.cpp", options.build / "programs" / "spawn_time", ["-static"]
    )
    environments = [
        ",".join(f"{key}={value}" for key, value in a.preload().items()) or "-" for a in allocators
    ]
    done = subprocess.run(
        [str(tool), str(options.count), options.program, *environments],
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )
    if done.returncode:
        return 1
    times: list[list[float]] = [[] for _ in allocators]
    memory: list[list[int]] = [[] for _ in allocators]
    for line in done.stdout.splitlines():
        which, nanoseconds, kib = map(int, line.split())
        times[which].append(nanoseconds / 1e6)
        memory[which].append(kib)
    base, base_memory = statistics.median(times[0]), statistics.median(memory[0])
    print(f"{options.program}, {options.count} starts each, interleaved; milliseconds and MiB, medians")
    print(
        "| allocator | ms | 10 % | 90 % | + ms | peak RSS | + MiB |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    figures = {}
    for allocator, values, sizes in zip(allocators, times, memory):
        middle, tenths, size = (
            statistics.median(values),
            statistics.quantiles(values, n=10),
            statistics.median(sizes),
        )
        print(
            f"| {allocator.name} | {middle:.3f} | {tenths[0]:.3f} | {tenths[-1]:.3f} | {middle - base:+.3f} | "
            f"{size / 1024:.2f} | {(size - base_memory) / 1024:+.2f} |"
        )
        figures[allocator.name] = {
            "ms": middle,
            "more_ms": middle - base,
            "rss_kib": size,
            "more_rss_kib": size - base_memory,
        }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
