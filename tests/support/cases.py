"""A test script whose cases are functions, each a CTest entry (nonreuse_script_cases in cmake/NonreuseTests.cmake).

    SCRIPT [WORD...] CASE     runs one; exit status 0 passed, 1 failed, 77 skipped (and says why)
    SCRIPT --list             prints the cases
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SKIPPED = 77
CASES = {}


class Skip(Exception):
    """The machine cannot run this case."""


def case(function):
    """Marks a case: a function of an empty folder (pathlib.Path) that is removed after it."""
    CASES[function.__name__] = function
    return function


def require(condition, text):
    if not condition:
        raise AssertionError(text)


def environment(**changes):
    """This process's environment without what would change a heap, and with `changes`."""
    result = {name: value for name, value in os.environ.items()
              if not name.startswith(("NONREUSE_", "MALLOC_")) and name != "LD_PRELOAD"}
    result.update(changes)
    return result


def _shown(text):
    return "".join(f"\n  {line!r}" for line in text[-3000:].splitlines(keepends=True)) or " ''"


def execute(*command, status=0, stderr=None, timeout=100, **more):
    """Runs a command, which must end within `timeout` seconds and with `status` (None: with any). `stderr` is a
    regular expression for the whole of its standard error (None: anything). `more` is for subprocess.run, `env`
    is environment() unless it is there. Returns the CompletedProcess, whose output is text."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout, check=False,
                          env=more.pop("env", environment()), **more)
    shown = f"\n{command}\nstatus {done.returncode}\noutput:{_shown(done.stdout)}\nerrors:{_shown(done.stderr)}"
    require(status is None or done.returncode == status, f"expected status {status}{shown}")
    require(stderr is None or re.fullmatch(stderr, done.stderr), f"errors do not match {stderr!r}{shown}")
    return done


def main(begin=None):
    """The script's exit status. `begin` is called first with the words before the case's name."""
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CASES))
        return 0
    *words, name = sys.argv[1:]
    if begin:
        begin(*words)
    with tempfile.TemporaryDirectory(prefix=f"{pathlib.Path(sys.argv[0]).stem}.") as folder:
        try:
            CASES[name](pathlib.Path(folder))
        except Skip as reason:
            print(f"{name}: skipped: {reason}")
            return SKIPPED
        except AssertionError as failure:
            print(f"FAILED: {failure}")
            return 1
    return 0
