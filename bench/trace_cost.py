#!/usr/bin/python3
"""What recording a trace costs: CPU time of real programs on this heap with and without the option trace.

  bench/trace_cost.py [--rounds 5] [--scale normal] [--only 'python3|redis']
                      [--library ./libdlmalloc_nonreuse.so] [--launcher ./nonreuse]

Each round runs every program plain and traced, one after the other, in changing order; the outputs of both must
agree. Prints medians, the records, and the bytes of a record as written and as packed with zstd.
"""
from __future__ import annotations

import json
import pathlib
import statistics
import subprocess

import shared
from shared import measure


def statistics_of(options, trace):
    text = subprocess.run(
        [options.launcher, "trace", "stats", "--json", trace], capture_output=True, text=True, check=True
    ).stdout
    return json.loads(text)


def main():
    parser = shared.cost_parser(__doc__, rounds=5, scale="normal")
    parser.add_argument("--launcher", type=pathlib.Path, default=measure.ROOT / "nonreuse")
    options = parser.parse_args()
    options.library, options.launcher = options.library.resolve(), options.launcher.resolve()
    print(f"{'program':<12}{'plain':>9}{'traced':>9}{'ratio':>7}{'spread':>8}{'records':>12}{'bytes':>7}{'zstd':>7}")
    worst = 0.0
    for work, folder in shared.prepared(options):
        trace = folder / "trace"
        untraced = {"LD_PRELOAD": str(options.library)}
        usages = shared.in_turn(
            work, folder, options, {"plain": untraced, "traced": {**untraced, "NONREUSE_OPTIONS": f"trace={trace}"}},
            before=lambda name: trace.unlink(missing_ok=True) if name == "traced" else None,
        )
        figures = {name: [usage.cpu for usage in used] for name, used in usages.items()}
        ratios = [traced / plain for plain, traced in zip(figures["plain"], figures["traced"])]
        ratio = statistics.median(figures["traced"]) / statistics.median(figures["plain"])
        worst = max(worst, ratio)
        raw = statistics_of(options, trace)
        subprocess.run([options.launcher, "trace", "pack", trace], check=True)
        packed = trace.stat().st_size
        print(
            f"{work.name:<12}{statistics.median(figures['plain']):>8.2f}s{statistics.median(figures['traced']):>8.2f}s"
            f"{ratio:>7.3f}{max(ratios) - min(ratios):>8.3f}{raw['records']:>12}"
            f"{raw['record_bytes'] / max(raw['records'], 1):>7.2f}{packed / max(raw['records'], 1):>7.2f}",
            flush=True,
        )
    print(f"worst ratio {worst:.3f}")


if __name__ == "__main__":
    main()
