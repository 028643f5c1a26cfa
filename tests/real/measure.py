"""Measured runs of programs: what they print, how they end, what they cost.

The work is done by the small static program measure.cpp, which is compiled at need; its head says why it
exists.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass
class Usage:
    """Cost of one or more programs. Times in seconds, memory in KiB."""

    user: float = 0.0
    system: float = 0.0
    wall: float = 0.0
    max_rss_kib: int = 0
    minor_faults: int = 0

    @property
    def cpu(self) -> float:
        """Processor time, user and system, of the programs and the children they waited for."""
        return self.user + self.system

    def add(self, other: "Usage") -> None:
        """Adds a run that followed this one: times add up, the peak is the higher of both."""
        self.user += other.user
        self.system += other.system
        self.wall += other.wall
        self.minor_faults += other.minor_faults
        self.max_rss_kib = max(self.max_rss_kib, other.max_rss_kib)


@dataclass
class Completed:
    """One program that has ended. `ended` is 'exit N', 'signal NAME' or 'time-out'."""

    ended: str
    stdout: bytes
    stderr: bytes
    usage: Usage = field(default_factory=Usage)


def build_tool(source: pathlib.Path, target: pathlib.Path, flags: list[str]) -> pathlib.Path:
    """Compiles `source` to `target` unless that is newer. Safe beside others doing the same."""
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    compiler = next(
        (c for c in (os.environ.get("CXX"), "/usr/bin/g++", "/usr/bin/clang++") if c and shutil.which(c)),
        None,
    )
    if compiler is None:
        raise SystemExit("no C++ compiler: install the package g++")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    subprocess.run(
        [compiler, "-std=c++20", "-O2", "-Wall", "-Wextra", *flags, "-o", str(partial), str(source)],
        check=True,
    )
    partial.rename(target)
    return target


def measure_tool(build: pathlib.Path) -> pathlib.Path:
    """The compiled measure program, kept in the folder `build`."""
    return build_tool(HERE / "measure.cpp", build / "measure", ["-static"])


class Running:
    """A program that was started and will be waited for; see start()."""

    def __init__(self, process: subprocess.Popen, stem: pathlib.Path):
        self.process = process
        self.stem = stem

    def wait(self) -> Completed:
        """Waits for the end. The time limit given to start() bounds it."""
        if self.process.wait() != 0:
            raise RuntimeError(f"measure failed: {self.stem}: {self.stem.with_suffix('.err').read_text()}")
        result = json.loads(self.stem.with_suffix(".json").read_text())
        if result["timed_out"]:
            ended = "time-out"
        elif result["signal"]:
            ended = f"signal {signal.Signals(result['signal']).name}"
        else:
            ended = f"exit {result['exit']}"
        usage = Usage(*(result[key] for key in ("user", "system", "wall", "max_rss_kib", "minor_faults")))
        return Completed(
            ended,
            self.stem.with_suffix(".out").read_bytes(),
            self.stem.with_suffix(".err").read_bytes(),
            usage,
        )


def start(
    tool: pathlib.Path,
    argv: list[str],
    *,
    stem: pathlib.Path,
    cwd: pathlib.Path,
    env: dict[str, str],
    stdin: pathlib.Path | None,
    timeout: float,
) -> Running:
    """Starts argv. Its output goes to files named stem.out and stem.err, its cost to stem.json."""
    with (
        open(stdin or os.devnull, "rb") as source,
        open(stem.with_suffix(".out"), "wb") as out,
        open(stem.with_suffix(".err"), "wb") as err,
    ):
        process = subprocess.Popen(
            [str(tool), str(stem.with_suffix(".json")), str(timeout), "--", *argv],
            stdin=source,
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=env,
        )
    return Running(process, stem)
