"""The real programs: what each runs on, and what of it must be the same under every heap.

A workload is prepared once (its inputs are made, outside any measurement) and then run as often as wanted,
each time in an empty folder of its own, with or without a preloaded library. Every run records named
outputs; two runs agree if all of them are equal byte by byte. The programs are Debian's, named by their
full paths.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree
from dataclasses import dataclass, field
from typing import Callable

import measure
from inputs import cplusplus, page, redis_commands, repository, smt, sql

INPUTS = pathlib.Path(__file__).resolve().parent / "inputs"
PYTHON = "/usr/bin/python3"
PYTHON_TESTS = "/usr/lib/python3.11/test/test_json/__init__.py"
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"

# How much of it: `quick` while developing, `normal` in the test run, `full` by hand, `bench` for measuring.
SCALES = ("quick", "normal", "full", "bench")


class Failed(Exception):
    """A workload could not be run to its end; the text says why."""


@dataclass
class Run:
    """One run of a workload: where it works, and what it has printed and cost so far."""

    tool: pathlib.Path  # the compiled measure program
    folder: pathlib.Path  # an empty folder, the programs' working directory
    inputs: pathlib.Path  # what prepare() made; only read
    scale: str
    preload: dict[str, str]  # LD_PRELOAD and the like, for the measured programs alone
    timeout: float = 600.0
    outputs: dict[str, bytes] = field(default_factory=dict)
    usage: measure.Usage = field(default_factory=measure.Usage)
    extra: dict[str, str] = field(default_factory=dict)  # environment of the workload, measured or not

    def environment(self, measured: bool) -> dict[str, str]:
        """A small fixed environment, with the preload if the program is a measured one."""
        env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": "0",
            "PERL_HASH_SEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            **self.extra,
        }
        return {**env, **self.preload} if measured else env

    def start(self, argv: list[str], name: str, stdin: pathlib.Path | None = None) -> measure.Running:
        """Starts a measured program that runs beside what follows; see finish()."""
        logs = self.folder / ".logs"
        logs.mkdir(exist_ok=True)
        return measure.start(
            self.tool,
            argv,
            stem=logs / name,
            cwd=self.folder,
            env=self.environment(True),
            stdin=stdin,
            timeout=self.timeout,
        )

    def finish(self, running: measure.Running, name: str, stdout: bool = True, stderr: bool = True) -> None:
        """Waits for a started program and records how it ended and, where told, what it printed."""
        done = running.wait()
        self.usage.add(done.usage)
        self.outputs[f"{name}: end"] = done.ended.encode()
        messages = re.findall(
            rb"^nonreuse: .*$", done.stdout + done.stderr, re.M
        )  # by default the library is silent
        if messages and not stderr:
            self.outputs[f"{name}: messages"] = b"\n".join(messages)
        if stdout:
            self.outputs[f"{name}: stdout"] = done.stdout
        if stderr or done.ended != "exit 0":
            self.outputs[f"{name}: stderr"] = done.stderr

    def program(
        self,
        argv: list[str],
        name: str,
        stdin: pathlib.Path | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> None:
        """Runs a measured program to its end."""
        self.finish(self.start(argv, name, stdin), name, stdout, stderr)

    def helper(self, argv: list[str], stdin: pathlib.Path | None = None) -> bytes:
        """Runs a program that is no part of what is measured, without the preload. Returns its output."""
        with open(stdin or os.devnull, "rb") as source:
            done = subprocess.run(
                argv,
                stdin=source,
                capture_output=True,
                cwd=self.folder,
                env=self.environment(False),
                timeout=self.timeout,
                check=False,
            )
        if done.returncode:
            raise Failed(
                f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-300:].decode()}"
            )
        return done.stdout

    def keep(self, *patterns: str) -> None:
        """Records the files that match, by name."""
        for pattern in patterns:
            found = sorted(self.folder.glob(pattern))
            self.outputs[f"files {pattern}"] = " ".join(path.name for path in found).encode()
            for path in found:
                self.outputs[f"file {path.name}"] = path.read_bytes()


@dataclass
class Workload:
    """A real program and its work."""

    name: str
    needs: dict[str, str]  # file that must be there → Debian package that has it
    run: Callable[[Run], None]
    prepare: Callable[[pathlib.Path, str], None] = lambda inputs, scale: None
    scales: tuple[str, ...] = SCALES  # where it takes part
    reference_preload: str | None = None  # preloaded in place of the library in the run to compare with
    why_not: str = "not part of this scale"  # said where it does not take part

    def missing(self) -> str | None:
        """The package that is missing, or None."""
        return next((package for path, package in self.needs.items() if not os.path.exists(path)), None)


def sized(scale: str, quick: int, normal: int, full: int, bench: int) -> int:
    """The size that belongs to a scale."""
    return dict(zip(SCALES, (quick, normal, full, bench)))[scale]


# ---- interpreters ---------------------------------------------------------------------------------


def run_python_malloc(run: Run) -> None:
    run.extra = {"PYTHONMALLOC": "malloc"}
    run.program([PYTHON, str(INPUTS / "churn.py"), str(sized(run.scale, 3, 12, 60, 24))], "python3")


def run_perl(run: Run) -> None:
    run.program(["/usr/bin/perl", str(INPUTS / "churn.pl"), str(sized(run.scale, 8, 25, 120, 40))], "perl")


def run_lua(run: Run) -> None:
    run.program(
        ["/usr/bin/lua5.4", str(INPUTS / "churn.lua"), str(sized(run.scale, 15, 40, 200, 60))], "lua5.4"
    )


def run_node(run: Run) -> None:
    run.program(["/usr/bin/node", str(INPUTS / "churn.js"), str(sized(run.scale, 8, 24, 100, 40))], "node")


def python_test(test: str) -> Callable[[Run], None]:
    """Runs one module of python3's own test package; what each of its tests came to must agree."""

    def work(run: Run) -> None:
        report = run.folder / "report.xml"
        run.program(
            [PYTHON, "-m", "test", "--junit-xml", str(report), test], test, stdout=False, stderr=False
        )
        cases = []
        if report.exists():
            for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
                kinds = sorted(child.tag for child in case if child.tag not in ("system-out", "system-err"))
                cases.append(f"{case.get('name')} {case.get('result')} {' '.join(kinds)}".rstrip())
        run.outputs["cases"] = "\n".join(sorted(cases)).encode()
        out = (run.folder / ".logs" / f"{test}.out").read_text(errors="replace")
        ends = re.findall(r"^(?:Tests r|R)esult: .*$", out, re.M)
        run.outputs["result"] = "\n".join(ends).encode()
        if ends != ["Tests result: SUCCESS"]:
            err = (run.folder / ".logs" / f"{test}.err").read_text(errors="replace")
            run.outputs["log"] = (out[-8000:] + err[-4000:]).encode()

    return work


# ---- compilers, a solver, a renderer ---------------------------------------------------------------


def prepare_cplusplus(inputs: pathlib.Path, scale: str) -> None:
    heavy = scale == "full"
    (inputs / "ranges.cpp").write_bytes(cplusplus.make(sized(scale, 1, 1, 3, 2), True, heavy))
    (inputs / "plain.cpp").write_bytes(cplusplus.make(sized(scale, 1, 1, 3, 2), False, heavy))


def run_gcc(run: Run) -> None:
    level = {"quick": "-O0", "bench": "-O2"}.get(run.scale, "-O2")
    run.program(
        ["/usr/bin/g++", "-std=c++20", level, "-c", str(run.inputs / "ranges.cpp"), "-o", "out.o"], "g++"
    )
    run.keep("out.o")


def run_clang(run: Run) -> None:
    level = {"quick": "-O0", "bench": "-O2"}.get(run.scale, "-O2")
    run.program(
        ["/usr/bin/clang++", "-std=c++20", level, "-c", str(run.inputs / "plain.cpp"), "-o", "out.o"],
        "clang++",
    )
    run.keep("out.o")


def prepare_z3(inputs: pathlib.Path, scale: str) -> None:
    (inputs / "problems.smt2").write_bytes(smt.make(6, 9, sized(scale, 1, 3, 20, 5)))


def run_z3(run: Run) -> None:
    run.program(["/usr/bin/z3", "-smt2", str(run.inputs / "problems.smt2")], "z3")


def prepare_pages(inputs: pathlib.Path, scale: str) -> None:
    pages = sized(scale, 3, 6, 30, 5)
    (inputs / "pages.ps").write_bytes(page.postscript(pages))
    (inputs / "pages.pdf").write_bytes(page.pdf(pages))


def run_ghostscript(run: Run) -> None:
    for source, dpi in (("pages.ps", "100"), ("pages.pdf", "100")):
        run.program(
            [
                "/usr/bin/gs",
                "-q",
                "-dSAFER",
                "-dBATCH",
                "-dNOPAUSE",
                "-sDEVICE=png16m",
                f"-r{dpi}",
                f"-sOutputFile={source}-%d.png",
                str(run.inputs / source),
            ],
            f"gs {source}",
        )
    run.keep("*.png")


# ---- databases ------------------------------------------------------------------------------------


def prepare_sqlite(inputs: pathlib.Path, scale: str) -> None:
    (inputs / "work.sql").write_bytes(sql.make(sized(scale, 8000, 20000, 150000, 50000)))


def run_sqlite(run: Run) -> None:
    for database in (":memory:", "work.db"):
        run.program(["/usr/bin/sqlite3", "-batch", database], f"sqlite3 {database}", run.inputs / "work.sql")
    run.keep("work.db")


def prepare_redis(inputs: pathlib.Path, scale: str) -> None:
    (inputs / "commands.resp").write_bytes(redis_commands.make(sized(scale, 20000, 40000, 200000, 60000)))


def run_redis(run: Run) -> None:
    log = (
        run.folder / "redis.log"
    )  # all names are relative: a socket's path may have 107 bytes at most (unix(7))
    server = run.start(
        [
            "/usr/bin/redis-server",
            "--port",
            "0",
            "--unixsocket",
            "socket",
            "--save",
            "",
            "--appendonly",
            "no",
            "--enable-debug-command",
            "yes",
            "--daemonize",
            "no",
            "--logfile",
            log.name,
            "--dir",
            ".",
        ],
        "redis-server",
    )
    client = ["/usr/bin/redis-cli", "-s", "socket"]
    try:
        work_on_redis(run, server, client)
    except (Failed, subprocess.TimeoutExpired) as problem:
        server.process.terminate()  # the measure program ends the server's process group
        run.finish(server, "redis-server")
        run.outputs["problem"] = f"{problem}\n{log.read_text()[-3000:] if log.exists() else ''}".encode()
        return
    run.finish(server, "redis-server")


def work_on_redis(run: Run, server: measure.Running, client: list[str]) -> None:
    """What is done with the server: loads, benchmark loads, saves, and a look at what it holds then."""
    limit = time.monotonic() + 30
    while not (run.folder / "socket").exists():
        if server.process.poll() is not None or time.monotonic() > limit:
            raise Failed("redis-server did not start")
        time.sleep(0.02)
    run.outputs["load"] = run.helper([*client, "--pipe"], run.inputs / "commands.resp").splitlines()[-1]
    run.outputs["digest of the load"] = run.helper([*client, "DEBUG", "DIGEST"])
    count = str(sized(run.scale, 20000, 60000, 400000, 40000))
    # Every key of the random range is met for certain, and every value written to it is the same.
    for tests in (
        ["-r", "500", "-t", "set,get,hset,sadd"],
        ["-t", "incr,lpush,rpush,lpop,rpop,lrange_100,mset"],
        ["-P", "16", "-d", "300", "-r", "500", "-t", "set,get"],
    ):
        run.helper(["/usr/bin/redis-benchmark", "-s", "socket", "-n", count, "-c", "20", "-q", *tests])
    for name, command in (
        ("digest", ["DEBUG", "DIGEST"]),
        ("DBSIZE", ["DBSIZE"]),
        ("INFO", ["INFO", "keyspace"]),
        ("list", ["LRANGE", "l:1", "0", "-1"]),
        ("lua", ["EVAL", "return redis.call('GET','lua:50')", "0"]),
    ):
        run.outputs[name] = run.helper([*client, *command])
    run.outputs["keys"] = b"\n".join(sorted(run.helper([*client, "KEYS", "*"]).splitlines()))
    if run.scale != "bench":
        run.outputs["saved and loaded"] = run.helper([*client, "DEBUG", "RELOAD"])
        run.helper([*client, "BGSAVE"])
        while b"rdb_bgsave_in_progress:1" in run.helper([*client, "INFO", "persistence"]):
            if time.monotonic() > limit + 60:
                raise Failed("BGSAVE did not end")
            time.sleep(0.05)
        state = run.helper([*client, "INFO", "persistence"])
        run.outputs["saved by the child"] = b"\n".join(re.findall(rb"rdb_last_bgsave_status:\w+", state))
        run.outputs["digest after loading"] = run.helper([*client, "DEBUG", "DIGEST"])
    subprocess.run(
        [*client, "SHUTDOWN", "NOSAVE"],
        cwd=run.folder,
        env=run.environment(False),
        capture_output=True,
        timeout=60,
        check=False,
    )


# ---- git ------------------------------------------------------------------------------------------


def prepare_git(inputs: pathlib.Path, scale: str) -> None:
    (inputs / "history").write_bytes(repository.make(sized(scale, 150, 300, 1500, 500)))


def run_git(run: Run) -> None:
    git = ["/usr/bin/git", "-C", "repository", "-c", "gc.auto=0", "-c", "pack.threads=2"]
    run.helper(["/usr/bin/git", "init", "-q", "-b", "main", "repository"])
    run.program([*git, "fast-import", "--quiet", "--done"], "fast-import", run.inputs / "history")
    run.program([*git, "reset", "-q", "--hard"], "reset")
    run.program([*git, "log", "-p", "--stat", "--all", "-M"], "log")
    run.program([*git, "log", "--graph", "--oneline", "--all", "-S", "abc"], "log -S")
    biggest = max(
        (run.folder / "repository").glob("*/*.txt"), key=lambda path: (path.stat().st_size, path.name)
    )
    run.program([*git, "blame", "-C", str(biggest.relative_to(run.folder / "repository"))], "blame")
    run.program([*git, "repack", "-adfq", "--depth=50", "--window=20"], "repack")
    run.program([*git, "gc", "-q", "--prune=now"], "gc")
    run.program([*git, "fsck", "--full", "--strict", "--no-progress"], "fsck")
    run.outputs["objects"] = b"\n".join(
        sorted(run.helper([*git, "rev-list", "--objects", "--all"]).splitlines())
    )
    run.outputs["status"] = run.helper([*git, "status", "--porcelain"])


# ---- the table ------------------------------------------------------------------------------------


def _python_tests() -> list[Workload]:
    needs = {PYTHON: "python3", PYTHON_TESTS: "libpython3.11-testsuite"}
    short = ["test_json", "test_dict", "test_list", "test_gc"]
    long = ["test_threading", "test_subprocess"]
    return [
        Workload(f"python3-{test}", needs, python_test(test), scales=("quick", "normal", "full"))
        for test in short
    ] + [
        Workload(
            f"python3-{test}",
            needs,
            python_test(test),
            scales=("normal", "full"),
            why_not="takes half a minute, run it without --quick",
        )
        for test in long
    ]


WORKLOADS = [
    Workload("python3", {PYTHON: "python3"}, run_python_malloc),
    Workload("perl", {"/usr/bin/perl": "perl"}, run_perl),
    Workload("lua5.4", {"/usr/bin/lua5.4": "lua5.4"}, run_lua),
    Workload("node", {"/usr/bin/node": "nodejs"}, run_node),
    Workload("g++", {"/usr/bin/g++": "g++"}, run_gcc, prepare_cplusplus),
    Workload("clang++", {"/usr/bin/clang++": "clang"}, run_clang, prepare_cplusplus),
    Workload("z3", {"/usr/bin/z3": "z3"}, run_z3, prepare_z3),
    Workload("ghostscript", {"/usr/bin/gs": "ghostscript"}, run_ghostscript, prepare_pages),
    Workload("sqlite3", {"/usr/bin/sqlite3": "sqlite3"}, run_sqlite, prepare_sqlite),
    # Debian's redis-server is linked with jemalloc; preloading the C library brings glibc's malloc back.
    Workload(
        "redis",
        {"/usr/bin/redis-server": "redis-server", "/usr/bin/redis-benchmark": "redis-tools"},
        run_redis,
        prepare_redis,
        reference_preload=LIBC,
    ),
    Workload("git", {"/usr/bin/git": "git"}, run_git, prepare_git, scales=("quick", "normal", "full")),
    *_python_tests(),
]


def fresh(folder: pathlib.Path) -> pathlib.Path:
    """The folder, made anew and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
