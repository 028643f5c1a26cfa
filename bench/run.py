#!/usr/bin/python3
"""Measures programs under several heaps, interleaved, and compares what they print.

  bench/run.py                                       every program, every installed allocator, 5 rounds
  bench/run.py --quick                               small inputs, one round
  bench/run.py --only 'larson|redis' --rounds 9
  bench/run.py --allocators glibc,nonreuse           some of the known allocators only
  bench/run.py --allocator old=/some/lib.so,NAME=VALUE   one more, with its environment

Figures are medians over the rounds, with the median absolute deviation as spread, and their ratios to
glibc; beside them ratios of the fastest runs, for machines whose speed changes under the measurement. CPU is
user and system time of the program and its children (wait4(2)); peak RSS is the highest of any one process
among them. Writes results.json, results.md and results.svg to --output. A run whose output
differs from glibc's is no result: it is reported and the exit status is 1.
"""

from __future__ import annotations

import argparse
import glob
import json
import math
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import report
import shared
from shared import measure, workloads

HERE = pathlib.Path(__file__).resolve().parent

# The own programs: name → source, arguments of normal and of quick runs. bench/README.md describes them.
OWN = {
    "factoring": ("factoring", ["6"], ["5"]),
    "minimise": ("minimise", ["3"], ["2"]),
    "nbody-tree": ("nbody_tree", ["40000", "8"], ["20000", "3"]),
    "random-live-1": ("random_live", ["1", "10000000"], ["1", "2000000"]),
    "random-live-2": ("random_live", ["2", "6000000"], ["2", "1000000"]),
    "larson": ("larson", ["2", "80"], ["2", "15"]),
    "hand-over": ("hand_over", ["1", "50000"], ["1", "8000"]),
    "false-sharing-active": ("false_sharing", ["active", "2", "400000"], ["active", "2", "80000"]),
    "false-sharing-passive": ("false_sharing", ["passive", "2", "400000"], ["passive", "2", "80000"]),
    "large-blocks": ("large_blocks", ["4000"], ["800"]),
    "mixed-life": ("mixed_life", ["2", "25"], ["2", "5"]),
    "thread-churn": ("thread_churn", ["4", "5000"], ["4", "800"]),
    "ping-pong-1": ("ping_pong", ["1", "60"], ["1", "15"]),
    "ping-pong-2": ("ping_pong", ["2", "40"], ["2", "8"]),
    "text-index": ("text_index", ["15"], ["3"]),
}

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
SCUDO = "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.scudo_standalone-x86_64.so"
SCUDO_QUARANTINE = (
    "quarantine_size_kb=8192:thread_local_quarantine_size_kb=256:quarantine_max_chunk_size=65536"
)


@dataclass
class Allocator:
    """A heap to measure: nothing preloaded (glibc), or a library and its environment."""

    name: str
    library: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def preload(self) -> dict[str, str]:
        return {**({"LD_PRELOAD": self.library} if self.library else {}), **self.environment}


def known_allocators(library: pathlib.Path) -> tuple[list[Allocator], list[str]]:
    """glibc, this library, and the peers that are installed; and a line for each that is not."""
    found, absent = [Allocator("glibc")], []
    peers = [
        ("nonreuse", str(library), {}, "build the library first"),
        ("jemalloc", f"{LIBRARIES}/libjemalloc.so.2", {}, "package libjemalloc2"),
        ("mimalloc", f"{LIBRARIES}/libmimalloc.so.2*", {}, "package libmimalloc2.0"),
        ("tcmalloc", f"{LIBRARIES}/libtcmalloc_minimal.so.4", {}, "package libtcmalloc-minimal4"),
        ("scudo", SCUDO, {}, "package libclang-rt-14-dev"),
        ("scudo-quarantine", SCUDO, {"SCUDO_OPTIONS": SCUDO_QUARANTINE}, "package libclang-rt-14-dev"),
    ]
    for name, pattern, environment, package in peers:
        paths = sorted(glob.glob(pattern))
        if paths:
            found.append(Allocator(name, paths[-1], environment))
        else:
            absent.append(f"{name}: not there ({package})")
    return found, absent


def given_allocator(text: str) -> Allocator:
    """NAME=PATH[,ENV=VALUE...] of the command line."""
    name, _, rest = text.partition("=")
    path, *environment = rest.split(",")
    if not name or any("=" not in item for item in environment) or (path and not os.path.exists(path)):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=PATH[,ENV=VALUE...] with an existing PATH")
    return Allocator(
        name,
        str(pathlib.Path(path).resolve()) if path else None,
        dict(item.split("=", 1) for item in environment),
    )


@dataclass
class Program:
    """A program to measure and what it gave: figures[allocator] is a list of usages, one a round."""

    name: str
    group: str  # real or own
    work: workloads.Workload
    expected: dict[str, bytes] = field(default_factory=dict)
    figures: dict[str, list[measure.Usage]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)


def own_program(name: str, build: pathlib.Path, quick: bool) -> Program:
    source, normal, small = OWN[name]
    binary = build / "programs" / source
    path = HERE / "programs" / f"{source}.cpp"
    header = HERE / "programs" / "common.hpp"
    if binary.exists() and binary.stat().st_mtime < header.stat().st_mtime:
        binary.unlink()
    measure.build_tool(path, binary, ["-Wshadow", "-pthread"])
    argv = [str(binary), *(small if quick else normal)]
    return Program(name, "own", workloads.Workload(name, {}, lambda run: run.program(argv, name)))


def programs(options: argparse.Namespace) -> tuple[list[Program], list[str]]:
    """What is to be measured, and a line for each that cannot be."""
    chosen, absent = [], []
    for work in workloads.WORKLOADS:
        if "bench" not in work.scales or not re.search(options.only, work.name):
            continue
        if work.missing():
            absent.append(f"{work.name}: package {work.missing()} is not installed")
        else:
            chosen.append(Program(work.name, "real", work))
    chosen += [
        own_program(name, options.build, options.quick) for name in OWN if re.search(options.only, name)
    ]
    return chosen, absent


def run_once(
    program: Program, allocator: Allocator, options: argparse.Namespace
) -> tuple[dict, measure.Usage]:
    folder = workloads.fresh(options.build / "runs" / program.name / "work")
    preload = allocator.preload()
    if not allocator.library and program.work.reference_preload:
        preload = {"LD_PRELOAD": program.work.reference_preload, **preload}
    run = workloads.Run(
        options.tool,
        folder,
        options.build / "runs" / program.name / "inputs",
        options.scale,
        preload,
        options.timeout,
    )
    program.work.run(run)
    return run.outputs, run.usage


def measure_program(program: Program, allocator: Allocator, options: argparse.Namespace) -> None:
    """One run, kept if its output is the expected one."""
    if allocator.name in program.wrong:
        return
    try:
        outputs, usage = run_once(program, allocator, options)
    except (workloads.Failed, RuntimeError) as problem:
        program.wrong[allocator.name] = str(problem)
        return
    differing = [
        name for name in {**program.expected, **outputs} if program.expected.get(name) != outputs.get(name)
    ]
    if not differing:
        program.figures.setdefault(allocator.name, []).append(usage)
        return
    ends = [value.decode() for name, value in outputs.items() if name.endswith(": end") and name in differing]
    errors = [
        value[-300:].decode(errors="replace")
        for name, value in outputs.items()
        if name.endswith(": stderr") and value and name in differing
    ]
    program.wrong[allocator.name] = "; ".join([f"differs in {', '.join(sorted(differing))}", *ends, *errors])
    program.figures.pop(allocator.name, None)


def all_rounds(chosen: list[Program], allocators: list[Allocator], options: argparse.Namespace) -> None:
    """First each program once on glibc, not counted: that gives the output to compare with."""
    for program in chosen:
        program.work.prepare(workloads.fresh(options.build / "runs" / program.name / "inputs"), options.scale)
        program.expected, _ = run_once(program, allocators[0], options)
        broken = [
            f"{name} {value.decode()}"
            for name, value in program.expected.items()
            if name.endswith(": end") and value != b"exit 0" or name == "problem"
        ]
        if broken:
            raise SystemExit(f"{program.name} fails on glibc: {broken}")
    for turn in range(options.rounds):
        for place, program in enumerate(chosen):
            shift = (turn + place) % len(allocators)
            for allocator in allocators[shift:] + allocators[:shift]:
                measure_program(program, allocator, options)
            line = "  ".join(f"{name} {usages[-1].cpu:.2f}" for name, usages in program.figures.items())
            print(
                f"round {turn + 1}/{options.rounds} {program.name:22} CPU s: {line}",
                file=sys.stderr,
                flush=True,
            )


def spread(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    return {
        "median": middle,
        "min": min(values),
        "max": max(values),
        "mad": statistics.median(abs(value - middle) for value in values),
        "runs": len(values),
    }


def geomean(values: list[float]) -> float | None:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def evaluate(
    chosen: list[Program], allocators: list[Allocator], options: argparse.Namespace, absent: list[str]
) -> dict:
    """Everything that was found out, ready for JSON."""
    kinds = {
        "cpu": lambda usage: usage.cpu,
        "wall": lambda usage: usage.wall,
        "rss_kib": lambda usage: float(usage.max_rss_kib),
    }
    table = []
    for program in chosen:
        entry = {"name": program.name, "group": program.group, "wrong": program.wrong, "allocators": {}}
        base = program.figures["glibc"]
        for name, usages in program.figures.items():
            figures = {kind: spread([get(usage) for usage in usages]) for kind, get in kinds.items()}
            for kind, get in kinds.items():
                reference = statistics.median(get(usage) for usage in base)
                figures[kind]["ratio"] = figures[kind]["median"] / max(reference, 1e-9)
                figures[kind]["ratio_mad"] = figures[kind]["mad"] / max(reference, 1e-9)
                fastest = min(get(usage) for usage in base)
                figures[kind]["fastest_ratio"] = figures[kind]["min"] / max(fastest, 1e-9)
            entry["allocators"][name] = figures
        table.append(entry)
    means = {}
    for allocator in allocators:
        means[allocator.name] = {}
        for group in ("real", "own", "all"):
            rows = [
                row["allocators"][allocator.name]
                for row in table
                if group in (row["group"], "all") and allocator.name in row["allocators"]
            ]
            means[allocator.name][group] = {
                kind: geomean([max(row[kind]["ratio"], 1e-9) for row in rows]) for kind in kinds
            }
            means[allocator.name][group]["fastest"] = {
                kind: geomean([max(row[kind]["fastest_ratio"], 1e-9) for row in rows]) for kind in kinds
            }
            means[allocator.name][group]["fastest"]["worst_cpu"] = max(
                (row["cpu"]["fastest_ratio"] for row in rows), default=None
            )
            means[allocator.name][group]["programs"] = len(rows)
            means[allocator.name][group]["worst_cpu"] = max(
                (row["cpu"]["ratio"] for row in rows), default=None
            )
    model = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "machine": {
            "processor": model[0] if model else platform.machine(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
            "libc": " ".join(platform.libc_ver()),
        },
        "date": time.strftime("%Y-%m-%d"),
        "scale": options.scale,
        "rounds": options.rounds,
        "absent": absent,
        "allocators": {
            a.name: {"library": os.path.basename(a.library or ""), "environment": a.environment}
            for a in allocators
        },
        "load_average": os.getloadavg(),
        "programs": table,
        "geomeans": means,
    }


def parse(argv: list[str]) -> argparse.Namespace:
    parser = shared.parser(__doc__)
    parser.add_argument(
        "--allocator",
        type=given_allocator,
        action="append",
        default=[],
        metavar="NAME=PATH[,ENV=VALUE...]",
        help="one more allocator; an empty PATH preloads nothing",
    )
    parser.add_argument(
        "--allocators", default="", metavar="NAMES", help="only these of the known ones (comma-separated)"
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="programs whose name matches")
    parser.add_argument(
        "--rounds", type=int, help="runs of each program under each allocator (default 5; 1 if quick)"
    )
    parser.add_argument("--quick", action="store_true", help="small inputs: a look, not a measurement")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one program (default 300)")
    parser.add_argument("--output", type=pathlib.Path, help="folder for the results (default: --build)")
    parser.add_argument("--list", action="store_true", help="print programs and allocators and end")
    options = parser.parse_args(argv)
    options.library = options.library.resolve()
    options.output = (options.output or options.build).resolve()
    options.scale = "quick" if options.quick else "bench"
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def main(argv: list[str]) -> int:
    options = parse(argv)
    allocators, absent = known_allocators(options.library)
    if options.allocators:
        wanted = ["glibc", *options.allocators.split(",")]
        unknown = [name for name in wanted if name not in [a.name for a in allocators]]
        if unknown:
            print(f"not there: {' '.join(unknown)}", file=sys.stderr)
            return 2
        allocators, absent = [a for a in allocators if a.name in wanted], []
    allocators += options.allocator
    options.tool = measure.measure_tool(options.build)
    chosen, missing = programs(options)
    absent += missing
    print("\n".join(f"left out: {line}" for line in absent), file=sys.stderr)
    if options.list:
        print(
            "programs:",
            *(f"  {p.name} ({p.group})" for p in chosen),
            "allocators:",
            *(f"  {a.name} {a.library or ''} {a.environment or ''}" for a in allocators),
            sep="\n",
        )
        return 0
    if not chosen:
        print("no program matches", file=sys.stderr)
        return 2
    all_rounds(chosen, allocators, options)
    results = evaluate(chosen, allocators, options, absent)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.markdown(results)
    (options.output / "results.md").write_text(text)
    print(text)
    subprocess.run(
        [
            "/usr/bin/python3",
            str(HERE / "report.py"),
            str(options.output / "results.json"),
            str(options.output / "results.svg"),
        ],
        check=False,
    )
    shutil.rmtree(options.build / "runs", ignore_errors=True)
    wrong = [f"{p.name} under {name}: {why}" for p in chosen for name, why in p.wrong.items()]
    print("\n".join(f"WRONG {line}" for line in wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
