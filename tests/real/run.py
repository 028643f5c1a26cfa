#!/usr/bin/python3
"""Real programs with and without the library: same output, same exit status; and what it costs.

  tests/real/run.py [--library PATH] [--quick | --full] [name ...]

Each program runs once on the system's malloc and once with the library preloaded, on inputs that are made
here. A program whose package is not installed is skipped, and the line says which package. The ratios of
processor time and peak memory are of single runs: bench/run.py measures properly. Exit status: 0 all
passed, 1 some failed, 77 nothing could be run.
"""

from __future__ import annotations

import argparse
import difflib
import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import measure  # noqa: E402
import workloads  # noqa: E402

SKIPPED = 77


def differences(expected: dict[str, bytes], got: dict[str, bytes]) -> list[str]:
    """What differs, in a few lines a person can read; empty if nothing does."""
    lines = []
    names = [*expected, *(name for name in got if name not in expected)]
    names.sort(
        key=lambda name: not name.endswith((": end", "problem", "messages"))
    )  # how it ended comes first
    for name in names:
        if expected.get(name) == got.get(name):
            continue
        if name not in got:
            lines.append(f"  {name}: missing with the library")
            continue
        if name not in expected:
            lines += [
                f"  {name}: only with the library",
                *(f"    {line}" for line in got[name].decode(errors="replace").splitlines()[-40:]),
            ]
            continue
        lines.append(f"  {name} differs ({len(expected[name])} and {len(got[name])} bytes):")
        old, new = (
            data[:400_000].decode(errors="replace").splitlines() for data in (expected[name], got[name])
        )
        shown = [line[:300] for line in difflib.unified_diff(old, new, "without", "with", lineterm="", n=0)][
            2:14
        ]
        lines += [f"    {line}" for line in shown] or ["    (not in the first lines)"]
    return lines


def run_once(
    workload: workloads.Workload,
    options: argparse.Namespace,
    inputs: pathlib.Path,
    which: str,
    preload: dict[str, str],
) -> workloads.Run:
    folder = workloads.fresh(options.build / f"{workload.name}.{os.getpid()}" / which)
    run = workloads.Run(options.tool, folder, inputs, options.scale, preload, options.timeout)
    workload.run(run)
    return run


def check(workload: workloads.Workload, options: argparse.Namespace) -> tuple[str, list[str]]:
    """Runs one workload. Returns its line and, if it failed, what differs."""
    base = options.build / f"{workload.name}.{os.getpid()}"
    inputs = workloads.fresh(base / "inputs")
    workload.prepare(inputs, options.scale)
    reference = {"LD_PRELOAD": workload.reference_preload} if workload.reference_preload else {}
    preload = {"LD_PRELOAD": str(options.library), **dict(item.split("=", 1) for item in options.env)}
    problems = []
    without = run_once(workload, options, inputs, "without", reference)
    broken = [
        f"  {name}: {value.decode(errors='replace')}"
        for name, value in without.outputs.items()
        if name.endswith(": end") and value != b"exit 0" or name == "problem"
    ]
    if broken:
        return "", ["  it fails without the library, too:", *broken]
    with_it = run_once(workload, options, inputs, "with", preload)
    problems = differences(without.outputs, with_it.outputs)
    if not problems and not options.keep:
        shutil.rmtree(base, ignore_errors=True)
    elif problems:
        problems.append(f"  kept: {base}")
    old, new = without.usage, with_it.usage
    line = (
        f"CPU {old.cpu:7.2f} s -> {new.cpu:7.2f} s ({new.cpu / max(old.cpu, 1e-3):5.2f} x)   "
        f"peak RSS {old.max_rss_kib / 1024:6.1f} MiB -> {new.max_rss_kib / 1024:6.1f} MiB "
        f"({new.max_rss_kib / max(old.max_rss_kib, 1):5.2f} x)   {len(without.outputs)} outputs"
    )
    return line, problems


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--library",
        type=pathlib.Path,
        default=os.environ.get("NONREUSE_LIBRARY", measure.ROOT / "libdlmalloc_nonreuse.so"),
    )
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick", help="small inputs")
    parser.add_argument("--full", dest="scale", action="store_const", const="full", help="large inputs")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set with the library only"
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one program (default 600)")
    parser.add_argument(
        "--build", type=pathlib.Path, default=measure.ROOT / "build" / "real", help="folder to work in"
    )
    parser.add_argument("--keep", action="store_true", help="keep inputs and outputs")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("name", nargs="*", help="programs to run (default: all)")
    options = parser.parse_args(argv)
    options.scale = options.scale or "normal"
    options.build, options.library = options.build.resolve(), options.library.resolve()
    return options


def main(argv: list[str]) -> int:
    options = parse(argv)
    table = {workload.name: workload for workload in workloads.WORKLOADS}
    if options.list:
        print("\n".join(table))
        return 0
    unknown = [name for name in options.name if name not in table]
    if unknown:
        print(f"unknown: {' '.join(unknown)} (known: {' '.join(table)})", file=sys.stderr)
        return 2
    if not options.library.exists():
        print(f"{options.library} is missing: build it first", file=sys.stderr)
        return 2
    options.tool = measure.measure_tool(options.build)
    passed = failed = skipped = 0
    for name in options.name or table:
        workload = table[name]
        missing = workload.missing()
        if missing or options.scale not in workload.scales:
            print(
                f"skip {name:24} {f'package {missing} is not installed' if missing else workload.why_not}",
                flush=True,
            )
            skipped += 1
            continue
        try:
            line, problems = check(workload, options)
        except (workloads.Failed, RuntimeError) as problem:
            line, problems = "", [f"  {problem}"]
        print(
            "\n".join([f"{'FAIL' if problems else 'ok  '} {name:24} {line}".rstrip(), *problems]), flush=True
        )
        passed, failed = passed + (not problems), failed + bool(problems)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0 if passed else SKIPPED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
