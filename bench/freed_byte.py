#!/usr/bin/python3
"""What it costs to free a byte, over the size of the live heap; predicted by the cost model, and measured.

  bench/freed_byte.py                        16 MiB to 8 GiB live, three rounds (about six minutes)
  bench/freed_byte.py --largest 1024         up to 1 GiB
  bench/freed_byte.py --options percent=100 --chart freed.svg

A program holds so much of linked 64-byte nodes and replaces other nodes all the time (bench/programs/freed_byte.cpp).
Measured is all its CPU time for each byte of the chunks that it frees, malloc and the program's own work included, over
whole sweeps; and of that the sweeps. The model: a freed byte costs 1 / (percent x scan rate), with the rate of the same
sweeps, what they read for each nanosecond of their CPU time. glibc's malloc does the same work for comparison. Sizes
that the machine has no room for are skipped, which is said. Writes freed_byte.json, freed_byte.md and freed_byte.svg to
--output (build/bench). The bar, the largest size against the smallest, is shown; the exit status does not depend on it.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import shared
from shared import measure

HERE = pathlib.Path(__file__).resolve().parent
BAR = 1.5  # of 8 GiB live against 16 MiB


def default_percent() -> int:
    """What the library is built with unless told otherwise."""
    header = (measure.ROOT / "include" / "dlmalloc_nonreuse.h").read_text()
    return int(re.search(r"#define DEFAULT_FREEBUF_PERCENT (\d+)", header).group(1))


def available_mib() -> int:
    """Memory that programs can still have without swapping (proc(5)), within the control group's limit."""
    text = pathlib.Path("/proc/meminfo").read_text()
    available = int(re.search(r"MemAvailable:\s+(\d+) kB", text).group(1)) >> 10
    group = pathlib.Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            available = min(available, (int(limit) - int((group / "memory.current").read_text())) >> 20)
    except OSError:
        pass
    return available


def needed_mib(live: int, percent: int) -> int:
    """Live nodes, quarantine up to twice its threshold or the policy's minimum, tables, and some air."""
    return int(live * (1 + max(2 * percent / 100, 0.4) + 0.1) * 1.05) + 64


def one_run(tool: pathlib.Path, live: int, options: argparse.Namespace, library: pathlib.Path | None) -> dict:
    environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "NONREUSE_OPTIONS")}
    if library:
        environment |= {"LD_PRELOAD": str(library), "NONREUSE_OPTIONS": options.options}
    done = subprocess.run(
        [str(tool), str(live), str(options.sweeps), str(options.churn)],
        stdout=subprocess.PIPE, check=False, text=True, env=environment, timeout=options.timeout,
    )
    if done.returncode:
        raise SystemExit(f"freed_byte: ended with {done.returncode} at {live} MiB")
    return json.loads(done.stdout)


def figures(runs: list[dict], plain: list[dict], percent: int) -> dict:
    """Medians; times in nanoseconds a freed byte, rates in bytes a nanosecond."""
    median = statistics.median
    rate = median(run["scanned_bytes"] / max(run["sweep_cpu_ns"], 1) for run in runs)
    freed = [run["freed_bytes"] for run in runs]
    return {
        "live_mib": runs[0]["live_mib"],
        "all": median(run["cpu_ns"] / run["freed_bytes"] for run in runs),
        "spread": max(run["cpu_ns"] / run["freed_bytes"] for run in runs)
        - min(run["cpu_ns"] / run["freed_bytes"] for run in runs),
        "glibc": median(run["cpu_ns"] / run["freed_bytes"] for run in plain),
        "sweeps": median(run["sweep_cpu_ns"] / run["freed_bytes"] for run in runs),
        "rate": rate,
        "scanned_of_freed": median(run["scanned_bytes"] / n for run, n in zip(runs, freed)),
        "predicted": 100 / percent / rate,
        "sweep_count": median(run["sweeps"] for run in runs),
        "runs": runs,
        "glibc_runs": plain,
    }


def table(results: dict) -> str:
    lines = [
        f"{results['processor']}; {results['date']}; options: {results['options'] or 'default'}; medians of "
        f"{results['rounds']}. CPU nanoseconds for each freed byte.",
        "",
        "| live | all | glibc's malloc | sweeps, measured | sweeps, predicted | read for a freed byte | scan rate, GB/s "
        "| sweeps in a run |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in results["sizes"]:
        lines.append(
            f"| {size['live_mib']} MiB | {size['all']:.2f} ± {size['spread'] / 2:.2f} | {size['glibc']:.2f} | "
            f"{size['sweeps']:.2f} | {size['predicted']:.2f} | {size['scanned_of_freed']:.1f} | {size['rate']:.1f} | "
            f"{size['sweep_count']:.0f} |"
        )
    first, last = results["sizes"][0], results["sizes"][-1]
    if first is not last:
        lines += [
            "",
            f"{last['live_mib']} MiB against {first['live_mib']} MiB: {last['all'] / first['all']:.2f} in all, "
            f"{last['sweeps'] / max(first['sweeps'], 1e-9):.2f} for sweeps alone"
            + (f" (bar: {BAR})." if (first["live_mib"], last["live_mib"]) == (16, 8192) else "."),
        ]
    return "\n".join(lines + [""] + results["skipped"]).rstrip() + "\n"


def chart(results: dict, target: pathlib.Path) -> None:
    pyplot = shared.pyplot("freed_byte")
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    sizes = [size["live_mib"] for size in results["sizes"]]
    figure, axis = pyplot.subplots(figsize=(7, 4.4))
    for key, label, style in (
        ("all", "all CPU time", "D-k"), ("sweeps", "sweeps, measured", "o-C0"),
        ("predicted", "sweeps, predicted: 1 / (percent × scan rate)", "o--C1"), ("glibc", "glibc's malloc, all", "s-C7"),
    ):
        axis.plot(sizes, [size[key] for size in results["sizes"]], style, label=label)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda mib, _: f"{mib / 1024:g} GiB" if mib >= 1024 else f"{mib:g} MiB"))
    axis.set(xlabel="live heap", ylabel="CPU ns for a freed byte")
    axis.set_ylim(0, 1.35 * max(size["all"] for size in results["sizes"]))
    axis.grid(True, alpha=0.4)
    axis.legend(loc="upper center", ncol=2, fontsize=9)
    shared.save(figure, target)


def measured(options: argparse.Namespace) -> dict:
    found = re.search(r"\bpercent=(\d+)", options.options)
    percent = int(found.group(1)) if found else default_percent()
    tool = measure.build_tool(
        HERE / "programs" / "freed_byte.cpp", options.build / "programs" / "freed_byte",
        [f"-I{measure.ROOT / 'include'}", "-ldl"],
    )
    sizes, skipped = [], []
    for live in options.live:
        if live > options.largest:
            continue
        if needed_mib(live, percent) > available_mib():
            skipped.append(f"Skipped: {live} MiB live needs {needed_mib(live, percent)} MiB; {available_mib()} MiB are "
                           "available.")
            print(skipped[-1], file=sys.stderr)
        else:
            sizes.append(live)
    if not sizes:
        raise SystemExit("freed_byte: no size fits")
    own: dict[int, list[dict]] = {live: [] for live in sizes}
    plain: dict[int, list[dict]] = {live: [] for live in sizes}
    for turn in range(options.rounds):
        for live in sizes:
            own[live].append(one_run(tool, live, options, options.library.resolve()))
            plain[live].append(one_run(tool, live, options, None))
            last = own[live][-1]
            print(
                f"round {turn + 1}/{options.rounds} {live} MiB: {last['cpu_ns'] / last['freed_bytes']:.2f} ns a byte, "
                f"{last['sweeps']} sweeps", file=sys.stderr, flush=True,
            )
    return {
        "processor": shared.processor(),
        "date": time.strftime("%Y-%m-%d"),
        "options": options.options,
        "percent": percent,
        "rounds": options.rounds,
        "load_average": os.getloadavg(),
        "skipped": skipped,
        "sizes": [figures(own[live], plain[live], percent) for live in sizes],
    }


def main(argv: list[str]) -> int:
    parser = shared.parser(__doc__)
    parser.add_argument(
        "--live", type=lambda text: [int(part) for part in text.split(",")], default=[16, 64, 256, 1024, 4096, 8192],
        metavar="MIB,MIB...", help="sizes (default 16 to 8192)",
    )
    parser.add_argument("--largest", type=int, default=8192, metavar="MIB", help="leave out larger ones")
    parser.add_argument("--sweeps", type=int, default=3, help="sweeps to measure over, at least (default 3)")
    parser.add_argument("--churn", type=int, default=512, metavar="MIB", help="and at least so much freed (default 512)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", default="", help="NONREUSE_OPTIONS")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one run")
    parser.add_argument("--output", type=shared.resolved, help="folder for the results (default: --build)")
    parser.add_argument("--chart", type=pathlib.Path, help="draw it there, too (.svg or .png)")
    parser.add_argument("--draw", type=pathlib.Path, metavar="JSON", help="measure nothing, show these results")
    options = parser.parse_args(argv)
    charts = [options.chart] if options.chart else []
    if options.draw:
        results = json.loads(options.draw.read_text())
    else:
        if not shared.is_built(options.library):
            return 2
        results = measured(options)
        output = options.output or options.build
        output.mkdir(parents=True, exist_ok=True)
        (output / "freed_byte.json").write_text(json.dumps(results, indent=1) + "\n")
        (output / "freed_byte.md").write_text(table(results))
        charts.append(output / "freed_byte.svg")
    print(table(results))
    return 0 if shared.draw(lambda target: chart(results, target), charts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
