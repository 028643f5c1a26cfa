#!/usr/bin/python3
"""What recording a trace costs: CPU time of real programs on this heap with and without the option trace.

  bench/trace_cost.py [--rounds 5] [--scale normal] [--only 'python3|redis']
                      [--library ./libdlmalloc_nonreuse.so] [--launcher ./nonreuse]

Each round runs every program plain and traced, one after the other, in changing order; the outputs of both must
agree. Prints medians, the records, and the bytes of a record as written and as packed with zstd.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "real"))
import measure  # noqa: E402
import workloads  # noqa: E402


def run(work, options, trace):
    folder = options.build / "trace_cost" / work.name
    trace.unlink(missing_ok=True)
    preload = {"LD_PRELOAD": str(options.library)}
    if trace.name == "traced":
        preload["NONREUSE_OPTIONS"] = f"trace={trace}"
    one = workloads.Run(
        options.tool, workloads.fresh(folder / "work"), folder / "inputs", options.scale, preload, 600.0
    )
    work.run(one)
    return one.outputs, one.usage.cpu


def statistics_of(options, trace):
    text = subprocess.run(
        [options.launcher, "trace", "stats", "--json", trace], capture_output=True, text=True, check=True
    ).stdout
    return json.loads(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", default="normal", choices=workloads.SCALES)
    parser.add_argument("--only", default="^(python3|sqlite3|redis)$")
    parser.add_argument("--library", type=pathlib.Path, default=measure.ROOT / "libdlmalloc_nonreuse.so")
    parser.add_argument("--launcher", type=pathlib.Path, default=measure.ROOT / "nonreuse")
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build" / "bench")
    options = parser.parse_args()
    options.library, options.launcher = options.library.resolve(), options.launcher.resolve()
    options.tool = measure.measure_tool(options.build)
    print(f"{'program':<12}{'plain':>9}{'traced':>9}{'ratio':>7}{'spread':>8}{'records':>12}{'bytes':>7}{'zstd':>7}")
    worst = 0.0
    for work in workloads.WORKLOADS:
        if not re.search(options.only, work.name) or options.scale not in work.scales:
            continue
        if missing := work.missing():
            print(f"{work.name:<12} not run: package {missing} is missing")
            continue
        folder = options.build / "trace_cost" / work.name
        work.prepare(workloads.fresh(folder / "inputs"), options.scale)
        figures = {"plain": [], "traced": []}
        expected = None
        for round_number in range(options.rounds):
            for name in sorted(figures, reverse=round_number % 2 == 1):
                outputs, cpu = run(work, options, folder / name)
                expected = expected or outputs
                if outputs != expected:
                    differing = [key for key in outputs if outputs[key] != expected.get(key)]
                    sys.exit(f"{work.name}: the {name} run differs in {differing}")
                figures[name].append(cpu)
            if round_number % 2 == 0:
                trace = folder / "traced"
                if trace.exists():
                    trace.rename(folder / "kept")
        ratios = [traced / plain for plain, traced in zip(figures["plain"], figures["traced"])]
        ratio = statistics.median(figures["traced"]) / statistics.median(figures["plain"])
        worst = max(worst, ratio)
        raw = statistics_of(options, folder / "kept")
        subprocess.run([options.launcher, "trace", "pack", folder / "kept"], check=True)
        packed = (folder / "kept").stat().st_size
        print(
            f"{work.name:<12}{statistics.median(figures['plain']):>8.2f}s{statistics.median(figures['traced']):>8.2f}s"
            f"{ratio:>7.3f}{max(ratios) - min(ratios):>8.3f}{raw['records']:>12}"
            f"{raw['record_bytes'] / max(raw['records'], 1):>7.2f}{packed / max(raw['records'], 1):>7.2f}",
            flush=True,
        )
    print(f"worst ratio {worst:.3f}")


if __name__ == "__main__":
    main()
