#!/usr/bin/python3
"""The parts one by one: builds the Google Benchmark programs of bench/micro, runs them all, and makes tables.

  bench/micro.py                       everything (about seven minutes)
  bench/micro.py --quick               short measurements (about two minutes)
  bench/micro.py --only 'scan|malloc'  parts: malloc, scan, quarantine, roots, startup

malloc, free, calloc, realloc by size, of this library and glibc's malloc, by the same program, in turns; the scan
kernels that the machine has, over images of memory, against a plain read of the same memory; painting, releasing
and making memory zero; finding roots; the start of a trivial program. Figures are medians over --rounds, of CPU
time. Writes micro.json and micro.md to --output (build/bench). Measures only; it asserts nothing but that every
program ends well.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import shared
from shared import measure

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ("malloc", "scan", "quarantine", "roots", "startup")


def build(folder: pathlib.Path) -> pathlib.Path:
    """Where the benchmark programs are, built."""
    if not (folder / "build.ninja").exists():
        subprocess.run(
            ["cmake", "-S", str(measure.ROOT), "-B", str(folder), "-G", "Ninja", "-DNONREUSE_TESTS=OFF",
             "-DNONREUSE_LAUNCHER=OFF", "-DNONREUSE_BENCH=ON"],
            check=True, stdout=subprocess.DEVNULL,
        )
    done = subprocess.run(
        ["cmake", "--build", str(folder), "--target", "micro"], check=False, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit("micro: not built; Google Benchmark comes with libbenchmark-dev (scripts/setup --bench)")
    return folder / "bench"


def measured(program: pathlib.Path, arguments: list[str], preload: str | None = None) -> list[dict]:
    """Every repetition of every benchmark of a program. Times in nanoseconds, as `ns`, for one operation."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    if preload:
        environment["LD_PRELOAD"] = preload
    done = subprocess.run(
        [str(program), "--benchmark_format=json", *arguments],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True,
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(f"micro: {program.name} ended with {done.returncode}")
    factor = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
    runs = [run for run in json.loads(done.stdout)["benchmarks"] if run["run_type"] == "iteration"]
    runs.sort(key=lambda run: (run["family_index"], run["per_family_instance_index"]))
    for run in runs:
        if run.get("error_occurred"):
            raise SystemExit(f"micro: {run['name']}: {run['error_message']}")
        kind = "real_time" if "manual_time" in run["name"] else "cpu_time"
        run["ns"] = run[kind] * factor[run["time_unit"]] / run.get("operations", 1)
        run["name"] = re.sub(r"/(manual_time|real_time|(threads|iterations):\d+)", "", run["name"])
    return runs


def medians(runs: list[dict], figure: str) -> dict[str, float]:
    """By name, in the order in which they came first."""
    values: dict[str, list[float]] = {}
    for run in runs:
        values.setdefault(run["name"], []).append(run[figure])
    return {name: statistics.median(found) for name, found in values.items()}


def size_name(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB" if size >= 1 << 12 else f"{size} B"


def rows(head: list[str], lines: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]


def malloc_part(programs: pathlib.Path, options: argparse.Namespace) -> tuple[dict, list[str]]:
    own, glibc = [], []
    for turn in range(options.rounds):
        for runs, preload in ((own, str(options.library)), (glibc, None)) if turn % 2 else (
            (glibc, None), (own, str(options.library))):
            runs += measured(programs / "malloc_bench", options.arguments, preload)
    mine, theirs = medians(own, "ns"), medians(glibc, "ns")
    figures = {name: {"ns": mine[name], "glibc_ns": theirs[name], "ratio": mine[name] / theirs[name]} for name in mine}
    lines = []
    for name, figure in figures.items():
        call, size = name.rsplit("/", 1)
        lines.append(
            [call, size_name(int(size)), f"{figure['ns']:.1f}", f"{figure['glibc_ns']:.1f}", f"{figure['ratio']:.2f}"]
        )
    return figures, rows(["call", "size", "ns", "glibc's malloc, ns", "ratio"], lines)


def repeated(programs: pathlib.Path, name: str, options: argparse.Namespace) -> list[dict]:
    """All benchmarks of a program, their repetitions in random order."""
    return measured(
        programs / name,
        [*options.arguments, f"--benchmark_repetitions={options.rounds}",
         "--benchmark_enable_random_interleaving=true"],
    )


def scan_part(programs: pathlib.Path, options: argparse.Namespace) -> tuple[dict, list[str]]:
    rates = medians(repeated(programs, "scan_bench", options), "bytes_per_second")
    figures, lines = {}, []
    for name, rate in rates.items():
        kind, *which, memory, mib = name.split("/")
        if kind not in ("scan", "live"):
            continue
        plain = rates[f"read/plain/{memory}/{mib}"]
        figures[name] = {"bytes_per_second": rate, "plain_bytes_per_second": plain, "share": rate / plain}
        kernel = which[0] + (", live lines" if kind == "live" else "")
        lines.append(
            [kernel, memory, f"{mib} MiB", f"{rate / 2**30:.1f}", f"{plain / 2**30:.1f}", f"{rate / plain:.2f}"]
        )
    head = ["kernel", "memory", "size", "GiB/s", "plain read, GiB/s", "share of the plain read"]
    return figures, rows(head, lines)


def quarantine_part(programs: pathlib.Path, options: argparse.Namespace) -> tuple[dict, list[str]]:
    runs = repeated(programs, "quarantine_bench", options)
    each, rates = medians(runs, "ns"), medians(runs, "bytes_per_second")
    labels = {run["name"]: run["label"] for run in runs}
    figures, lines = {}, []
    for name, ns in each.items():
        what, size, _ = name.split("/")
        figures[name] = {"ns": ns, "bytes_per_second": rates[name], "label": labels[name]}
        lines.append([what, size_name(int(size)), labels[name], f"{ns:.1f}", f"{rates[name] / 2**30:.1f}"])
    return figures, rows(["what", "chunk or block", "how", "ns each", "GiB/s"], lines)


def roots_part(programs: pathlib.Path, options: argparse.Namespace) -> tuple[dict, list[str]]:
    runs = repeated(programs, "roots_bench", options)
    each = medians(runs, "ns")
    about = {run["name"]: run for run in runs}
    figures, lines = {}, []
    for name, ns in each.items():
        run = about[name]
        figures[name] = {key: run[key] for key in ("mappings", "ranges", "KiB", "label")} | {"ns": ns}
        lines.append(
            [name.replace("walk_", "").replace("/", " "), run["label"], f"{run['mappings']:.0f}",
             f"{run['ranges']:.0f}", f"{run['KiB'] / 1024:.1f}", f"{ns / 1e3:.0f}"]
        )
    return figures, rows(["case", "pages found by", "mappings", "ranges", "MiB to read", "us"], lines)


def startup_part(_: pathlib.Path, options: argparse.Namespace) -> tuple[dict, list[str]]:
    target = options.output / "startup.json"
    done = subprocess.run(
        [str(HERE / "startup.py"), "--library", str(options.library), "--json", str(target),
         "--count", "100" if options.quick else "500"],
        check=False, stdout=subprocess.PIPE, text=True,
    )
    if done.returncode:
        raise SystemExit("micro: startup.py failed")
    figures = json.loads(target.read_text())
    target.unlink()
    return figures, [line for line in done.stdout.splitlines() if line.startswith("|")]


TITLES = {
    "malloc": (malloc_part, "Calls, by size (a pair: free at once)"),
    "scan": (scan_part, "Scan kernels against a plain read of the same memory"),
    "quarantine": (quarantine_part, "Painting, releasing, making zero"),
    "roots": (roots_part, "Finding roots (arguments: see bench/micro/roots_bench.cpp)"),
    "startup": (startup_part, "Start of /bin/true, wall time"),
}


def main(argv: list[str]) -> int:
    parser = shared.parser(__doc__)
    parser.add_argument("--only", default="", metavar="REGEX", help=f"parts: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="repetitions (default 5; 3 if quick)")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--output", type=shared.resolved, help="folder for the results (default: --build)")
    options = parser.parse_args(argv)
    if not shared.is_built(options.library):
        return 2
    if not shutil.which("cmake") or not shutil.which("ninja"):
        print("cmake and ninja are needed: scripts/setup", file=sys.stderr)
        return 2
    options.library = options.library.resolve()
    options.output = options.output or options.build
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.arguments = [f"--benchmark_min_time={0.02 if options.quick else 0.1}"]
    chosen = [part for part in PARTS if re.search(options.only, part)]
    if not chosen:
        print(f"no part matches; they are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    programs = build(options.build / "micro")
    options.output.mkdir(parents=True, exist_ok=True)
    results = {"date": time.strftime("%Y-%m-%d"), "processor": shared.processor()}
    text = [f"{results['processor']}; {results['date']}; medians of {options.rounds}; CPU times."]
    for part in chosen:
        measure_part, title = TITLES[part]
        print(f"micro: {part}", file=sys.stderr, flush=True)
        results[part], table = measure_part(programs, options)
        text += ["", f"{title}:", "", *table]
        print("\n".join(["", f"{title}:", "", *table]), flush=True)
    results["load_average"] = os.getloadavg()
    (options.output / "micro.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.output / "micro.md").write_text("\n".join(text) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
