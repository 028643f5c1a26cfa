#!/usr/bin/python3
"""The trade of CPU time against memory: every program of bench/run.py with the option percent at several values.

  bench/trade.py                                  percent 5 to 200, 5 rounds (about 3 hours)
  bench/trade.py --quick --rounds 3               small inputs (about 20 minutes)
  bench/trade.py --percents 25,100 --only 'redis|node'
  bench/trade.py --with min=8M                    further options for every value of percent
  bench/trade.py --draw build/bench/trade/trade.json --chart trade.svg    draws again, measures nothing

Other arguments are those of bench/run.py (--rounds, --only, --timeout, --library, --build, --output). glibc's malloc, the
library as it is (with nothing set, it adapts) and every value take their turns at one program before the next. CPU is the
fastest run's, memory the median; ratios to glibc, and their geometric means. Writes trade.json, trade.md and trade.svg
to --output (build/bench/trade); --chart writes the drawing to one more place. A run whose output differs from
glibc's is no result: it is reported and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import sys

import run
import shared
from shared import measure

GROUPS = {"real": "ten real programs", "all": "all programs"}
DEFAULT = "default"  # nothing is set


def allocator_name(percent: int) -> str:
    return f"{percent} %"


def table(results: dict) -> str:
    """Geometric means for each percent, then CPU and memory of each program, as Markdown."""
    machine, names = results["machine"], [*map(allocator_name, results["percents"]), DEFAULT]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {results['date']}; inputs: "
        f"{results['scale']}; rounds: {results['rounds']}; load average at the end: {results['load_average'][0]:.1f}. "
        "CPU of the fastest runs, median memory; ratios to glibc's malloc.",
        "",
        "| percent | CPU real | CPU all | worst real CPU | peak RSS real | peak RSS all |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        means = results["geomeans"][name]
        fastest = {group: means[group]["fastest"] for group in ("real", "all")}
        cells = [
            fastest["real"]["cpu"], fastest["all"]["cpu"], fastest["real"]["worst_cpu"], means["real"]["rss_kib"],
            means["all"]["rss_kib"],
        ]
        shown = f"**{name}**" if name == DEFAULT else name
        lines.append(f"| {shown} | " + " | ".join("–" if c is None else f"{c:.3f}" for c in cells) + " |")
    for kind, title in (("cpu", "CPU"), ("rss_kib", "Peak RSS")):
        lines += ["", f"{title}:", "", "| program | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
        for row in results["programs"]:
            cells = []
            for name in names:
                figures = row["allocators"].get(name)
                ratio = "fastest_ratio" if kind == "cpu" else "ratio"
                cells.append(f"{figures[kind][ratio]:.2f}" if figures else "wrong")
            lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    if results["absent"]:
        lines += ["", "Left out: " + "; ".join(results["absent"]) + "."]
    return "\n".join(lines) + "\n"


def chart(results: dict, target: pathlib.Path) -> None:
    """CPU over memory, a point for each percent; the default is the black diamond."""
    pyplot = shared.pyplot("trade")
    shown = [group for group in GROUPS if results["geomeans"]["glibc"][group]["programs"]]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(5.6 * len(shown), 4.4), squeeze=False)
    for axis, group in zip(axes[0], shown):
        points = []
        for name in [*map(allocator_name, results["percents"]), DEFAULT]:
            means = results["geomeans"][name][group]
            if means["cpu"]:
                points.append((name, means["rss_kib"], means["fastest"]["cpu"]))
        line = [(rss, cpu) for name, rss, cpu in points if name != DEFAULT]
        axis.plot([rss for rss, _ in line], [cpu for _, cpu in line], marker="o", color="C0", zorder=2)
        for name, rss, cpu in points:
            if name == DEFAULT:
                axis.scatter([rss], [cpu], marker="D", s=60, color="black", zorder=3)
            axis.annotate(name, (rss, cpu), xytext=(7, 5), textcoords="offset points", fontsize=9)
        axis.scatter([1], [1], marker="s", s=40, color="grey", label="glibc")
        axis.annotate("glibc", (1, 1), xytext=(6, 5), textcoords="offset points", fontsize=9, color="grey")
        axis.set(
            title=f"{GROUPS[group]} ({results['geomeans']['glibc'][group]['programs']})",
            xlabel="peak resident set, ratio to glibc", ylabel="CPU (user + system), ratio to glibc",
        )
        axis.margins(x=0.18, y=0.12)
        axis.grid(True, alpha=0.4)
    shared.save(figure, target)


def measured(options: argparse.Namespace, rest: list[str]) -> tuple[dict, list[str], pathlib.Path]:
    """Results, a line for each wrong run, and the folder to write to."""
    common = run.parse(rest)
    if common.output == common.build:
        common.output = common.build / "trade"
    if not shared.is_built(common.library):
        raise SystemExit(2)
    given = "".join(f":{text}" for text in options.more)
    library = str(common.library)
    allocators = [
        run.Allocator("glibc"),
        run.Allocator(DEFAULT, library, {"NONREUSE_OPTIONS": given[1:]} if given else {}),
        *(
            run.Allocator(allocator_name(percent), library, {"NONREUSE_OPTIONS": f"percent={percent}{given}"})
            for percent in options.percents
        ),
    ]
    common.tool = measure.measure_tool(common.build)
    chosen, absent = run.programs(common)
    if not chosen:
        raise SystemExit("no program matches")
    print("\n".join(f"left out: {line}" for line in absent), file=sys.stderr)
    run.all_rounds(chosen, allocators, common)
    results = run.evaluate(chosen, allocators, common, absent)
    results |= {"percents": options.percents, "with": options.more}
    shutil.rmtree(common.build / "runs", ignore_errors=True)
    wrong = [f"{p.name} at {name}: {why}" for p in chosen for name, why in p.wrong.items()]
    return results, wrong, common.output


def percents(text: str) -> list[int]:
    values = sorted({int(part) for part in text.split(",")})
    if values[0] < 1 or values[-1] > 10000:
        raise argparse.ArgumentTypeError("percent is 1 to 10000")
    return values


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--percents", type=percents, default="5,10,25,50,100,200", metavar="N,N...",
        help="values to measure, beside the library as it is",
    )
    parser.add_argument("--with", dest="more", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--chart", type=pathlib.Path, help="draw it there, too (.svg or .png)")
    parser.add_argument("--draw", type=pathlib.Path, metavar="TRADE.JSON", help="measure nothing, show these results")
    options, rest = parser.parse_known_args(argv)
    wrong: list[str] = []
    charts = [options.chart] if options.chart else []
    if options.draw:
        results = json.loads(options.draw.read_text())
    else:
        results, wrong, output = measured(options, rest)
        output.mkdir(parents=True, exist_ok=True)
        (output / "trade.json").write_text(json.dumps(results, indent=1) + "\n")
        (output / "trade.md").write_text(table(results))
        charts.append(output / "trade.svg")
    print(table(results))
    print("\n".join(f"WRONG {line}" for line in wrong), file=sys.stderr)
    return 0 if shared.draw(lambda target: chart(results, target), charts) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
