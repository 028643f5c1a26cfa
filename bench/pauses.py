#!/usr/bin/python3
"""Pauses and sweep times over the size of the live heap: a server's cache with busy threads.

  bench/pauses.py                                     16 MiB to 1 GiB, default options
  bench/pauses.py --live 1024 --options pause=1000    one size, other options
  bench/pauses.py --live 16,64,256,1024,4096,8192 --seconds 60 --chart pauses.svg
  bench/pauses.py --draw small.json large.json --chart pauses.svg     of runs that wrote --json

From 4 GiB on half a minute may pass without a sweep: such a run has no place in the chart.

Pauses are taken from the inside (the library's own figure for each stop) and from the outside: how late a thread
of real-time priority wakes up that wants to run every 200 us. Its longest delay during each stop, or in the 30 ms
before or after, is the stop's length outside; its longest delay of all has other reasons, too, the machine's own
among them: --bare shows what those are without the library. Operations are lookups of 64 objects and the
replacement of one. Measures only; it asserts nothing but that every run ends.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import shared
from shared import measure

HERE = pathlib.Path(__file__).resolve().parent
BARE = "no library"


def percentile(longest_first: list[int], percent: float) -> float:
    """Of values in descending order; 0 if there are none."""
    if not longest_first:
        return 0
    return longest_first[min(len(longest_first) - 1, int(len(longest_first) * (100 - percent) / 100))]


def figures(result: dict) -> dict:
    """What the table and the chart show; times in milliseconds."""
    return {
        "mean pause": result["pause_ns"] / max(result["stops"], 1) / 1e6,
        "p99 pause": percentile(result["pauses_us"], 99) / 1000,
        "p99 outside": percentile(result.get("outside_us", []), 99) / 1000,
        "longest delay": max(result["latest_us"], default=0) / 1000,
        "mean sweep": result["sweep_ns"] / max(result["sweeps"], 1) / 1e6,
    }


def row(result: dict, name: str) -> str:
    times = figures(result)
    sweeps = f"{result['sweeps']} ({result['sweeps_beside']})"
    pauses = f"{times['mean pause']:.2f} | {times['p99 pause']:.2f} | {times['p99 outside']:.2f}"
    reread = f"{result['reread_bytes'] / max(result['sweeps_beside'], 1) / 2**20:.1f}"
    sweep = f"{times['mean sweep']:.0f} | {reread}"
    if name == BARE:  # nothing of this was measured
        sweeps, pauses, sweep = "", " |  | ", " | "
    return (
        f"| {result['live_mib']} MiB | {name} | {sweeps} | {pauses} | "
        f"{times['longest delay']:.1f} | {sweep} | "
        f"{result['operations'] / result['seconds'] / 1e3:.1f} | "
        f"{result['cpu_seconds'] / max(result['operations'], 1) * 1e6:.1f} |"
    )


def chart(results: list[dict], target: pathlib.Path) -> None:
    """Pauses and sweep times over the live heap, a line for each options."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "pauses"
    from matplotlib import pyplot

    names = ("p99 pause", "p99 outside", "mean sweep")
    figure, axes = pyplot.subplots(1, len(names), figsize=(12, 4), sharex=True)
    for axis, name in zip(axes, names):
        for given in dict.fromkeys(result["options"] for result in results):
            own = [result for result in results if result["options"] == given and result["sweeps"] != 0]
            if not own:
                continue
            axis.plot(
                [result["live_mib"] for result in own], [figures(result)[name] for result in own],
                marker="o", label=given or "default",
            )
        axis.set(xscale="log", yscale="log", title=f"{name}, ms", xlabel="live, MiB")
        axis.set_xscale("log", base=2)
        axis.grid(True, which="major", alpha=0.4)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(target, dpi=110, metadata={"Date": None} if target.suffix == ".svg" else None)


def print_table(results: list[dict]) -> None:
    print("| live | options | sweeps (beside threads) | mean pause, ms | p99 pause, ms | p99 outside, ms | "
          "longest delay of all, ms | mean sweep, ms | read again in the stop, MiB | thousand operations/s | "
          "CPU us an operation |")
    print("| --- " * 11 + "|")
    for result in results:
        print(row(result, result["options"] or "default"))


def main(argv: list[str]) -> int:
    parser = shared.parser(__doc__)
    parser.add_argument("--live", default="16,64,256,1024", help="MiB, separated by commas")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--options", action="append", help="NONREUSE_OPTIONS of a run; may be given again")
    parser.add_argument("--bare", action="store_true", help="also a run without the library, for each size")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there, too")
    parser.add_argument("--chart", type=pathlib.Path, help="draw the results (.svg or .png; needs python3-matplotlib)")
    parser.add_argument("--draw", type=pathlib.Path, nargs="+", metavar="JSON",
                        help="measure nothing; print and draw what runs with --json have written")
    options = parser.parse_args(argv)
    if options.draw:
        results = [result for file in options.draw for result in json.loads(file.read_text())]
        print_table(results)
        if options.chart:
            chart(results, options.chart)
        return 0
    if not shared.is_built(options.library):
        return 2
    tool = measure.build_tool(
        HERE / "programs" / "pauses.cpp",
        options.build / "programs" / "pauses",
        [f"-I{measure.ROOT / 'include'}", "-pthread", "-ldl"],
    )
    print_table([])
    results = []
    for live in options.live.split(","):
        for given in [BARE] * options.bare + (options.options or [""]):
            env = dict(os.environ, LD_PRELOAD=str(options.library.resolve()), NONREUSE_OPTIONS=given)
            if given == BARE:
                del env["LD_PRELOAD"]
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
    if options.chart:
        chart(results, options.chart)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
