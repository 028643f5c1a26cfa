#!/usr/bin/python3
"""What recording stacks costs: CPU time and peak memory of real programs on this heap with and without the option
stacks.

  bench/stacks_cost.py [--rounds 3] [--scale quick] [--only 'python3|redis'] [--library ./libdlmalloc_nonreuse.so]

Each round runs every program three times, in changing order: without the option, with it, and with the companion
library loaded but the option off. The outputs of all must agree. Prints medians.
"""
from __future__ import annotations

import pathlib
import statistics
import sys

import shared


def preloads(library: pathlib.Path) -> dict[str, dict[str, str]]:
    companion = library.parent / "libnonreuse_stacks.so"
    if not companion.exists():
        sys.exit(f"{companion} is missing: built without libunwind?")
    loaded = {"LD_PRELOAD": f"{library}:{companion}"}
    return {
        "plain": {"LD_PRELOAD": str(library)}, "loaded": loaded, "stacks": {**loaded, "NONREUSE_OPTIONS": "stacks=1"}
    }


def main():
    options = shared.cost_parser(__doc__, rounds=3, scale="quick").parse_args()
    environments = preloads(options.library.resolve())
    print(f"{'program':<12}{'plain':>9}{'loaded':>9}{'stacks':>9}{'ratio':>7}{'RSS':>10}{'RSS':>10}{'ratio':>7}")
    for work, folder in shared.prepared(options):
        figures = shared.in_turn(work, folder, options, environments)
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
