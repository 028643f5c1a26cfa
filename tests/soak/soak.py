#!/usr/bin/python3
"""Real programs under load for a long time: no failure, no growth.

  soak.py [--minutes M (30)] [--options NONREUSE_OPTIONS (pause=1000)] [--launcher PATH]

At once: redis-server with redis-benchmark's load, values that are read back, and a child that saves every
half minute; python3 with four threads that hand objects on, and forks; a C++ program that churns. Each runs
under `nonreuse run`; each resident set is read every five seconds (tests/support/growth.py says what growth is).
Exit status: 0 nothing failed and nothing grew, 1 something did, 2 could not be run.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "support"))
import growth  # noqa: E402

COMMANDS = "set,get,incr,lpush,rpop,sadd,hset,spop,zadd,zpopmin"


class Program:
    """A program under the launcher, and what its resident set was."""

    def __init__(self, name: str, launcher: list[str], argv: list[str], folder: pathlib.Path) -> None:
        self.name, self.folder = name, folder
        self.summary = folder / f"{name}.summary"
        self.samples: list[tuple[float, int]] = []
        env = dict(os.environ, PYTHONMALLOC="malloc", PYTHONHASHSEED="0")
        self.output = (folder / f"{name}.out").open("w+")
        self.launcher = subprocess.Popen(
            [*launcher, "--summary-file", str(self.summary), "--", *argv],
            cwd=folder, env=env, stdout=self.output, stderr=subprocess.STDOUT,
        )

    def process(self) -> int:
        """The program's process id: the launcher's only child."""
        listed = pathlib.Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children")
        try:
            return int((listed.read_text().split() or ["0"])[0])
        except OSError:
            return 0

    def sample(self, now: float) -> None:
        if amount := growth.resident(self.process()):
            self.samples.append((now, amount))

    def end(self) -> None:
        """Ends it, whatever it does."""
        for process in (self.process(), self.launcher.pid):
            if process and self.launcher.poll() is None:
                os.kill(process, signal.SIGKILL)

    def finish(self, seconds: float) -> bool:
        """True if it ended well and is as large as it was. Prints a line for it."""
        try:
            status = self.launcher.wait(120)
        except subprocess.TimeoutExpired:
            self.end()
            status = self.launcher.wait()
        steady, line = growth.verdict([s for s in self.samples if s[0] < seconds], seconds)
        good = status == 0 and steady is True
        print(f"{'ok  ' if good else 'FAIL'} {self.name}: ended with {status}; {line}")
        if self.summary.exists():
            print(*(f"       {text}" for text in self.summary.read_text().splitlines()[1:6]), sep="\n")
        if not good:
            self.output.seek(0)
            print(self.output.read()[-2000:])
        return good


class Redis:
    """Load for a redis-server, with values that must come back as they were sent."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.client = ["redis-cli", "-s", str(folder / "redis")]
        self.draw = random.Random(7)
        self.sent: dict[str, str] = {}
        self.failures: list[str] = []
        self.rounds = self.saves = 0
        self.benchmark: subprocess.Popen | None = None
        self.saved = time.monotonic()

    def ask(self, *words: str) -> str:
        try:
            done = subprocess.run([*self.client, *words], capture_output=True, text=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            self.failures.append(f"no answer to {words[0]} within a minute")
            return ""
        return done.stdout.strip()

    def start_load(self) -> None:
        self.benchmark = subprocess.Popen(
            ["redis-benchmark", "-s", self.client[2], "-t", COMMANDS, "-n", "10000", "-r", "4000", "-d", "300",
             "-c", "20", "-q"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def step(self) -> None:
        key = f"soak:{self.draw.randrange(500)}"
        if key in self.sent and self.ask("GET", key) != self.sent[key]:
            self.failures.append(f"{key} is not what it was")
        self.sent[key] = str(self.draw.getrandbits(64)) * self.draw.randint(1, 200)
        if self.ask("SET", key, self.sent[key]) != "OK":
            self.failures.append(f"{key} could not be set")
        if time.monotonic() - self.saved > 30:
            self.saved = time.monotonic()
            self.saves += "saving" in self.ask("BGSAVE").lower()
        if self.benchmark is None or self.benchmark.poll() is not None:
            if self.benchmark is not None and self.benchmark.returncode != 0:
                self.failures.append(f"redis-benchmark ended with {self.benchmark.returncode}")
            self.rounds += 1
            # Lists are as long as chance has made them: each round begins without.
            self.ask("DEL", "mylist")
            self.start_load()

    def finish(self) -> bool:
        if self.benchmark is not None:
            try:
                self.benchmark.wait(120)
            except subprocess.TimeoutExpired:
                self.benchmark.kill()
                self.failures.append("redis-benchmark does not end")
        if self.ask("INFO", "persistence").find("rdb_last_bgsave_status:ok") < 0:
            self.failures.append("the last child that saved failed")
        self.ask("SHUTDOWN", "NOSAVE")
        good = not self.failures and self.rounds > 0 and self.saves > 0
        print(f"{'ok  ' if good else 'FAIL'} load: {self.rounds} rounds, {self.saves} saves by children")
        print(*(f"       {failure}" for failure in self.failures[:10]), sep="\n", end="\n" if self.failures else "")
        return good


def run(seconds: float, launcher: list[str], folder: pathlib.Path) -> bool:
    churn = folder / "churn"
    subprocess.run(
        ["g++", "-std=c++20", "-O2", "-g", "-pthread", "-o", str(churn), str(HERE.parent / "perf" / "soak.cpp")],
        check=True,
    )
    programs = [
        Program("redis-server", launcher, ["redis-server", "--port", "0", "--unixsocket", str(folder / "redis"),
                                           "--save", "", "--dir", str(folder)], folder),
        Program("python3", launcher, ["python3", str(HERE / "threads_and_forks.py"), str(seconds)], folder),
        Program("churn", launcher, [str(churn), str(int(seconds)), "2"], folder),
    ]
    try:
        return watch(seconds, programs, Redis(folder))
    finally:
        for program in programs:
            program.end()


def watch(seconds: float, programs: list[Program], redis: Redis) -> bool:
    """Gives redis its load and samples all until the time is over. True if all is well."""
    while not (programs[0].folder / "redis").exists():
        time.sleep(0.1)
        if programs[0].launcher.poll() is not None:
            return programs[0].finish(seconds)
    begin = time.monotonic()
    sampled = 0.0
    while (now := time.monotonic() - begin) < seconds:
        redis.step()
        if now - sampled >= 5:
            sampled = now
            for program in programs:
                program.sample(now)
        if any(program.launcher.poll() is not None for program in programs) and now < seconds - 5:
            redis.failures.append("a program ended early")
            break
        if len(redis.failures) >= 10:
            break
        time.sleep(0.2)
    results = [redis.finish()] + [program.finish(seconds) for program in programs]
    return all(results)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--options", default="pause=1000")
    parser.add_argument("--launcher", type=pathlib.Path, default=ROOT / "nonreuse")
    options = parser.parse_args(argv)
    if options.minutes < 2:
        print(f"soak: {options.minutes} minutes say nothing; give it 2 or more", file=sys.stderr)
        return 2
    missing = [tool for tool in ("redis-server", "redis-benchmark", "redis-cli", "g++") if not shutil.which(tool)]
    if missing or not options.launcher.exists():
        print(f"soak: {' '.join(missing) or options.launcher} is missing (scripts/soak sets all up)", file=sys.stderr)
        return 2
    launcher = [str(options.launcher.resolve()), "run", "--options", options.options]
    with tempfile.TemporaryDirectory(prefix="nonreuse-soak-") as folder:
        good = run(options.minutes * 60, launcher, pathlib.Path(folder))
    print("soak: nothing failed, nothing grew" if good else "soak: FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
