#!/usr/bin/python3
"""Tables and a chart of what bench/run.py has found.

  bench/report.py results.json              prints the Markdown tables
  bench/report.py results.json chart.svg    draws the chart (.svg or .png; package python3-matplotlib)
"""
from __future__ import annotations

import json
import sys

KINDS = {"cpu": "CPU", "wall": "wall", "rss_kib": "peak RSS"}


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def geomean_table(results: dict) -> list[str]:
    lines = [
        "| allocator | CPU real | CPU own | CPU all | worst real CPU | wall all | peak RSS real | peak RSS all |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, groups in results["geomeans"].items():
        cells = [
            groups["real"]["cpu"],
            groups["own"]["cpu"],
            groups["all"]["cpu"],
            groups["real"]["worst_cpu"],
            groups["all"]["wall"],
            groups["real"]["rss_kib"],
            groups["all"]["rss_kib"],
        ]
        lines.append(f"| {name} | " + " | ".join(map(number, cells)) + " |")
    return lines


def fastest_tables(results: dict) -> list[str]:
    """What is least disturbed by a machine whose speed changes: each heap's fastest run over glibc's."""
    names = [name for name in results["geomeans"] if name != "glibc"]
    lines = [
        "| allocator | CPU real | CPU own | CPU all | worst real CPU | wall all |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        groups = {group: means["fastest"] for group, means in results["geomeans"][name].items()}
        cells = [groups["real"]["cpu"], groups["own"]["cpu"], groups["all"]["cpu"], groups["real"]["worst_cpu"]]
        lines.append(f"| {name} | " + " | ".join(map(number, [*cells, groups["all"]["wall"]])) + " |")
    lines += ["", "| program | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for row in results["programs"]:
        figures = [row["allocators"].get(name) for name in names]
        cells = [number(each["cpu"]["fastest_ratio"]) if each else "–" for each in figures]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return lines


def program_table(results: dict, kind: str) -> list[str]:
    names = list(results["geomeans"])
    unit = "MiB" if kind == "rss_kib" else "s"
    lines = [
        f"| program | glibc ({unit}) | " + " | ".join(name for name in names if name != "glibc") + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for row in results["programs"]:
        base = row["allocators"]["glibc"][kind]
        scale = 1024 if kind == "rss_kib" else 1
        cells = [f"{base['median'] / scale:.2f} ± {base['mad'] / scale:.2f}"]
        for name in names:
            if name == "glibc":
                continue
            if name in row["wrong"]:
                cells.append("wrong")
            elif name in row["allocators"]:
                figure = row["allocators"][name][kind]
                cells.append(f"{figure['ratio']:.2f} ± {figure['ratio_mad']:.2f}")
            else:
                cells.append("–")
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return lines


def markdown(results: dict) -> str:
    """The tables as Markdown: geomeans first, then every program."""
    machine = results["machine"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, {machine['libc']}; {results['date']}; "
        f"inputs: {results['scale']}; rounds: {results['rounds']}; load average at the end: "
        f"{results['load_average'][0]:.1f}. Medians; ± is the median absolute deviation; all but the glibc columns "
        "are ratios to glibc.",
        "",
        "Geometric means of the ratios to glibc:",
        "",
        *geomean_table(results),
    ]
    lines += ["", "CPU of the fastest runs, ratios to glibc's:", "", *fastest_tables(results)]
    for kind, title in KINDS.items():
        lines += ["", f"{title[0].upper()}{title[1:]}:", "", *program_table(results, kind)]
    if results["absent"]:
        lines += ["", "Left out: " + "; ".join(results["absent"]) + "."]
    return "\n".join(lines) + "\n"


def chart(results: dict, target: str) -> None:
    """CPU and memory ratios of every program, one mark an allocator, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "bench"
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    names = [name for name in results["geomeans"] if name != "glibc"]
    rows = [
        (row["name"], {name: row["allocators"].get(name) for name in names}) for row in results["programs"]
    ]
    labels = [label for label, _ in rows] + ["geomean, real", "geomean, own", "geomean, all"]
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 0.32 * len(labels) + 2), sharey=True)
    for axis, kind, title in (
        (axes[0], "cpu", "CPU (user + system)"),
        (axes[1], "rss_kib", "peak resident set"),
    ):
        highest = lowest = 1.0
        for index, name in enumerate(names):
            values = [
                (place, figures[name][kind]["ratio"])
                for place, (_, figures) in enumerate(rows)
                if figures[name]
            ]
            for place, group in enumerate(("real", "own", "all"), len(rows)):
                mean = results["geomeans"][name][group][kind]
                if mean:
                    values.append((place, mean))
            if not values:
                continue
            own = name == "nonreuse"
            axis.scatter(
                [value for _, value in values],
                [place for place, _ in values],
                label=name,
                s=46 if own else 22,
                marker="D" if own else "osv^P*Xd<>"[index % 10],
                zorder=3 if own else 2,
                color="black" if own else f"C{index}",
            )
            highest = max([highest, *(value for _, value in values)])
            lowest = min([lowest, *(value for _, value in values)])
        axis.set_xscale("log")
        ticks = [
            tick
            for tick in (0.25, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10, 20, 50)
            if lowest * 0.7 <= tick <= highest * 1.4
        ]
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.axvline(1, color="grey", linewidth=1)
        axis.axhline(len(rows) - 0.5, color="grey", linewidth=0.6)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(f"{title}, ratio to glibc")
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    handles, shown = axes[0].get_legend_handles_labels()
    figure.legend(handles, shown, loc="lower center", ncol=max(len(shown), 1), frameon=False)
    figure.tight_layout(rect=(0, 0.9 / (0.32 * len(labels) + 2), 1, 1))
    figure.savefig(target, dpi=110, metadata={"Date": None} if target.endswith(".svg") else None)


def main(argv: list[str]) -> int:
    if not 1 <= len(argv) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(argv[0], encoding="utf-8") as source:
        results = json.load(source)
    if len(argv) == 1:
        print(markdown(results))
        return 0
    try:
        chart(results, argv[1])
    except ImportError:
        print(f"no chart: matplotlib is missing (package python3-matplotlib)", file=sys.stderr)
        return 1
    print(f"chart: {argv[1]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
