"""What the benchmarks share: their options, and real programs run in turn with and without an option of the library."""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent / "tests" / "real"))
import measure  # noqa: E402
import workloads  # noqa: E402


def resolved(path: str) -> pathlib.Path:
    return pathlib.Path(path).resolve()


def parser(text: str, library: type = pathlib.Path) -> argparse.ArgumentParser:
    """With --library (of type `library`) and --build."""
    result = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = os.environ.get("NONREUSE_LIBRARY", str(measure.ROOT / "libdlmalloc_nonreuse.so"))
    result.add_argument("--library", type=library, default=given)
    result.add_argument(
        "--build", type=resolved, default=measure.ROOT / "build" / "bench", help="folder to work in"
    )
    return result


def is_built(library: str | pathlib.Path) -> bool:
    """Says so where it is not."""
    if os.path.exists(library):
        return True
    print(f"{library} is missing: build it first", file=sys.stderr)
    return False


def cost_parser(text: str, rounds: int, scale: str) -> argparse.ArgumentParser:
    """The options of programs that are run with and without an option of the library, with these defaults."""
    result = parser(text)
    result.add_argument("--rounds", type=int, default=rounds)
    result.add_argument("--scale", default=scale, choices=workloads.SCALES)
    result.add_argument("--only", default="^(python3|sqlite3|redis)$")
    return result


def prepared(options: argparse.Namespace) -> Iterator[tuple[workloads.Workload, pathlib.Path]]:
    """Each program that is asked for and can be run, with the folder to run it in."""
    for work in workloads.WORKLOADS:
        if not re.search(options.only, work.name) or options.scale not in work.scales:
            continue
        if missing := work.missing():
            print(f"{work.name:<12} not run: package {missing} is missing")
            continue
        folder = options.build / pathlib.Path(sys.argv[0]).stem / work.name
        work.prepare(workloads.fresh(folder / "inputs"), options.scale)
        yield work, folder


def in_turn(
    work: workloads.Workload,
    folder: pathlib.Path,
    options: argparse.Namespace,
    preloads: dict[str, dict[str, str]],
    before: Callable[[str], None] = lambda name: None,
) -> dict[str, list[measure.Usage]]:
    """Runs a program with each of the named environments in every round, in changing order; before(name) precedes
    each run. Returns what each run used. Ends the process where outputs differ."""
    usages: dict[str, list[measure.Usage]] = {name: [] for name in preloads}
    tool = measure.measure_tool(options.build)
    expected = None
    for round_number in range(options.rounds):
        for name in sorted(usages, reverse=round_number % 2 == 1):
            before(name)
            one = workloads.Run(
                tool, workloads.fresh(folder / "work"), folder / "inputs", options.scale, preloads[name], 600.0
            )
            work.run(one)
            expected = expected or one.outputs
            if one.outputs != expected:
                differing = [key for key in one.outputs if one.outputs[key] != expected.get(key)]
                sys.exit(f"{work.name}: the {name} run differs in {differing}")
            usages[name].append(one.usage)
    return usages


def processor() -> str:
    """What the machine's processor is called."""
    names = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return names[0] if names else os.uname().machine


def pyplot(salt: str):
    """matplotlib's, for files alone; the same results give the same SVG. ImportError without python3-matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = salt
    from matplotlib import pyplot as made

    return made


def draw(chart: Callable[[pathlib.Path], None], targets: list[pathlib.Path]) -> bool:
    """chart(target) for every target (.svg or .png). False: matplotlib is missing, which is said."""
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            chart(target)
        except ImportError:
            print("no chart: matplotlib is missing (package python3-matplotlib)", file=sys.stderr)
            return False
        print(f"chart: {target}", file=sys.stderr)
    return True


def save(figure, target: pathlib.Path) -> None:
    figure.tight_layout()
    figure.savefig(target, dpi=110, metadata={"Date": None} if target.suffix == ".svg" else None)
