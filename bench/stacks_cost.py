#!/usr/bin/python3
"""What recording stacks costs: CPU time and peak memory of real programs on this heap with and without the option
stacks.

  bench/stacks_cost.py [--rounds 3] [--scale quick] [--only 'python3|redis'] [--library ./libdlmalloc_nonreuse.so]

Each round runs every program three times, in changing order: without the option, with it, and with the companion
library loaded but the option off. The outputs of all must agree. Prints medians.
"""
from __future__ import annotations

import argparse
import pathlib
import re
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "real"))
import measure  # noqa: E402
import workloads  # noqa: E402


def run(work, options, name):
    folder = options.build / "stacks_cost" / work.name
    libraries = [options.library] + ([options.companion] if name != "plain" else [])
    preload = {"LD_PRELOAD": ":".join(map(str, libraries))}
    if name == "stacks":
        preload["NONREUSE_OPTIONS"] = "stacks=1"
    one = workloads.Run(
        options.tool, workloads.fresh(folder / "work"), folder / "inputs", options.scale, preload, 600.0
    )
    work.run(one)
    return one.outputs, one.usage


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", default="quick", choices=workloads.SCALES)
    parser.add_argument("--only", default="^(python3|sqlite3|redis)$")
    parser.add_argument("--library", type=pathlib.Path, default=measure.ROOT / "libdlmalloc_nonreuse.so")
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build" / "bench")
    options = parser.parse_args()
    options.library = options.library.resolve()
    options.companion = options.library.parent / "libnonreuse_stacks.so"
    if not options.companion.exists():
        sys.exit(f"{options.companion} is missing: built without libunwind?")
    options.tool = measure.measure_tool(options.build)
    print(f"{'program':<12}{'plain':>9}{'loaded':>9}{'stacks':>9}{'ratio':>7}{'RSS':>10}{'RSS':>10}{'ratio':>7}")
    for work in workloads.WORKLOADS:
        if not re.search(options.only, work.name) or options.scale not in work.scales:
            continue
        if missing := work.missing():
            print(f"{work.name:<12} not run: package {missing} is missing")
            continue
        work.prepare(workloads.fresh(options.build / "stacks_cost" / work.name / "inputs"), options.scale)
        figures = {"plain": [], "loaded": [], "stacks": []}
        expected = None
        for round_number in range(options.rounds):
            for name in sorted(figures, reverse=round_number % 2 == 1):
                outputs, usage = run(work, options, name)
                expected = expected or outputs
                if outputs != expected:
                    differing = [key for key in outputs if outputs[key] != expected.get(key)]
                    sys.exit(f"{work.name}: the {name} run differs in {differing}")
                figures[name].append(usage)
        cpu = {name: statistics.median(usage.cpu for usage in usages) for name, usages in figures.items()}
        peak = {name: statistics.median(usage.max_rss_kib for usage in usages) for name, usages in figures.items()}
        print(
            f"{work.name:<12}{cpu['plain']:>8.2f}s{cpu['loaded']:>8.2f}s{cpu['stacks']:>8.2f}s"
            f"{cpu['stacks'] / cpu['plain']:>7.2f}{peak['plain'] / 1024:>7.1f}MiB{peak['stacks'] / 1024:>7.1f}MiB"
            f"{peak['stacks'] / peak['plain']:>7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
