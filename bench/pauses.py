#!/usr/bin/python3
"""Pauses and sweep times over the size of the live heap: a server's cache with busy threads.

  bench/pauses.py                                     16 MiB to 1 GiB, default options
  bench/pauses.py --live 1024 --options pause=1000    one size, other options
  bench/pauses.py --live 16,64,256,1024,4096,8192 --seconds 60 --json pauses.json

Pauses are taken from the inside (the library's histogram, whose buckets are powers of two: the figure is a
bound from above) and from the outside (how late a thread of real-time priority wakes up that wants to run
every 200 us; of as many of its longest delays as there were stops, the 99th percentile). Operations are
lookups of 64 objects and the replacement of one. Measures only; it asserts nothing but that every run ends.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "real"))
import measure  # noqa: E402


def percentile_bound(histogram: list[int], percent: float) -> float:
    """Microseconds: the upper end of the bucket in which the percentile lies; 0 if nothing was counted."""
    wanted = sum(histogram) * percent / 100
    seen = 0
    for bucket, count in enumerate(histogram):
        seen += count
        if count and seen >= wanted:
            return (2 << bucket) / 1000
    return 0.0


def row(result: dict, name: str) -> str:
    sweeps, beside, stops, pause_ns, sweep_ns, reread = result["sweeps_concurrent_stops_pausens_sweepns_reread"]
    outside = sorted(result["latest_us"][: max(stops, 1)])
    p99 = outside[min(len(outside) - 1, int(len(outside) * 0.99))] if outside else 0
    return (
        f"| {result['live_mib']} MiB | {name} | {sweeps} ({beside}) | "
        f"{pause_ns / max(stops, 1) / 1e6:.2f} | {percentile_bound(result['pause_histogram'], 99) / 1000:.2f} | "
        f"{p99 / 1000:.2f} | {sweep_ns / max(sweeps, 1) / 1e6:.0f} | {reread / max(beside, 1) / 2**20:.1f} | "
        f"{result['operations'] / result['seconds'] / 1e3:.1f} |"
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", default="16,64,256,1024", help="MiB, separated by commas")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--options", action="append", help="NONREUSE_OPTIONS of a run; may be given again")
    parser.add_argument(
        "--library",
        type=pathlib.Path,
        default=os.environ.get("NONREUSE_LIBRARY", measure.ROOT / "libdlmalloc_nonreuse.so"),
    )
    parser.add_argument("--json", type=pathlib.Path, help="write the results there, too")
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build" / "bench")
    options = parser.parse_args(argv)
    if not options.library.exists():
        print(f"{options.library} is missing: build it first", file=sys.stderr)
        return 2
    tool = measure.build_tool(
        HERE / "programs" / "pauses.cpp",
        options.build.resolve() / "programs" / "pauses",
        [f"-I{measure.ROOT / 'include'}", "-pthread", "-ldl"],
    )
    print("| live | options | sweeps (beside threads) | mean pause, ms | p99 below, ms | p99 outside, ms | "
          "mean sweep, ms | read again in the stop, MiB | thousand operations/s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    results = []
    for live in options.live.split(","):
        for given in options.options or [""]:
            env = dict(os.environ, LD_PRELOAD=str(options.library.resolve()), NONREUSE_OPTIONS=given)
            done = subprocess.run(
                [str(tool), str(options.threads), live, str(options.seconds)],
                stdout=subprocess.PIPE, check=False, text=True, env=env,
            )
            if done.returncode:
                print(f"pauses: ended with {done.returncode} at {live} MiB", file=sys.stderr)
                return 1
            result = json.loads(done.stdout) | {"options": given}
            results.append(result)
            print(row(result, given or "default"), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
