#!/usr/bin/python3
"""Memory steadiness: a program whose live memory stays the same churns for minutes; its resident set must
not grow.

  bench/steady.py                            ten minutes under the library
  bench/steady.py --seconds 60
  bench/steady.py --library ''               on the system's malloc
  bench/steady.py --seconds 60 --leak 400K   loses memory on purpose: the check must fail

The resident set is read every second. The first fifth (at least 5 seconds) is warm-up. After it the trend
is the median of the slopes between all pairs of samples (Theil and Sen), which single peaks do not move; it
fails if that trend, carried over the measured time, exceeds 4 MiB or 5 % of the median resident set,
whichever is more. Exit status: 0 steady, 1 growing or the program failed, 2 could not be run.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import time

import shared
from shared import measure

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))
import growth  # noqa: E402

def size(text: str) -> int:
    """Bytes from 400K, 2M or a plain number."""
    number, unit = re.fullmatch(r"(\d+)([KM]?)", text).groups()
    return int(number) * {"": 1, "K": 1024, "M": growth.MIB}[unit]


def watch(argv: list[str], env: dict[str, str], seconds: int) -> tuple[list[tuple[float, int]], int]:
    """Samples the resident set of argv every second. Returns (time, bytes) pairs and the exit status."""
    samples = []
    begin = time.monotonic()
    with subprocess.Popen(argv, env=env) as process:
        while process.poll() is None:
            time.sleep(1)
            now, amount = time.monotonic() - begin, growth.resident(process.pid)
            if amount and now < seconds:  # after that it takes its sets down
                samples.append((now, amount))
            if now > seconds + 60:
                print("the program does not end: killed", flush=True)
                process.kill()
    return samples, process.returncode


def main(argv: list[str]) -> int:
    parser = shared.parser(__doc__, library=str)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--leak", type=size, default=0, metavar="BYTES", help="lose so much every second")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(argv)
    if options.library and not shared.is_built(options.library):
        return 2
    program = measure.build_tool(
        HERE / "programs" / "steady.cpp", options.build / "programs" / "steady", ["-pthread"]
    )
    env = {"PATH": "/usr/bin:/bin", **dict(item.split("=", 1) for item in options.env)}
    if options.library:
        env["LD_PRELOAD"] = os.path.abspath(options.library)
    samples, status = watch(
        [str(program), str(options.seconds), str(options.threads), str(options.leak)], env, options.seconds
    )
    if status != 0:
        print(f"FAIL the program ended with {status}")
        return 1
    steady, line = growth.verdict(samples, options.seconds)
    if steady is None:
        print(line, file=sys.stderr)
        return 2
    for place in range(0, len(samples), max(1, len(samples) // 12)):
        print(f"  after {samples[place][0]:5.0f} s: {samples[place][1] / growth.MIB:7.1f} MiB")
    print(f"{'ok  ' if steady else 'FAIL'} {line}")
    return 0 if steady else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
