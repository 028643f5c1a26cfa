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

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "real"))
import measure  # noqa: E402

MIB = 1 << 20
ALLOWED_BYTES, ALLOWED_SHARE = 4 * MIB, 0.05


def size(text: str) -> int:
    """Bytes from 400K, 2M or a plain number."""
    number, unit = re.fullmatch(r"(\d+)([KM]?)", text).groups()
    return int(number) * {"": 1, "K": 1024, "M": MIB}[unit]


def resident(process: int) -> int:
    """Resident bytes of a process, 0 if it has ended (proc(5), statm)."""
    try:
        return int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def trend(samples: list[tuple[float, int]]) -> float:
    """Bytes a second: the median slope over all pairs of at most 400 evenly chosen samples."""
    chosen = samples[:: max(1, len(samples) // 400)]
    return statistics.median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for place, earlier in enumerate(chosen)
        for later in chosen[place + 1 :]
    )


def watch(argv: list[str], env: dict[str, str], seconds: int) -> tuple[list[tuple[float, int]], int]:
    """Samples the resident set of argv every second. Returns (time, bytes) pairs and the exit status."""
    samples = []
    begin = time.monotonic()
    with subprocess.Popen(argv, env=env) as process:
        while process.poll() is None:
            time.sleep(1)
            now, amount = time.monotonic() - begin, resident(process.pid)
            if amount and now < seconds:  # after that it takes its sets down
                samples.append((now, amount))
            if now > seconds + 60:
                print("the program does not end: killed", flush=True)
                process.kill()
    return samples, process.returncode


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--library", default=os.environ.get("NONREUSE_LIBRARY", str(measure.ROOT / "libdlmalloc_nonreuse.so"))
    )
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--leak", type=size, default=0, metavar="BYTES", help="lose so much every second")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build" / "bench")
    options = parser.parse_args(argv)
    if options.library and not os.path.exists(options.library):
        print(f"{options.library} is missing: build it first", file=sys.stderr)
        return 2
    program = measure.build_tool(
        HERE / "programs" / "steady.cpp", options.build.resolve() / "programs" / "steady", ["-pthread"]
    )
    env = {"PATH": "/usr/bin:/bin", **dict(item.split("=", 1) for item in options.env)}
    if options.library:
        env["LD_PRELOAD"] = os.path.abspath(options.library)
    samples, status = watch(
        [str(program), str(options.seconds), str(options.threads), str(options.leak)], env, options.seconds
    )
    warm = [sample for sample in samples if sample[0] >= max(5, options.seconds / 5)]
    if status != 0:
        print(f"FAIL the program ended with {status}")
        return 1
    if len(warm) < 10:
        print(f"too few samples ({len(warm)}): give it more --seconds", file=sys.stderr)
        return 2
    amounts = [amount for _, amount in warm]
    middle, span = statistics.median(amounts), warm[-1][0] - warm[0][0]
    growth = trend(warm) * span
    allowed = max(ALLOWED_BYTES, ALLOWED_SHARE * middle)
    for place in range(0, len(samples), max(1, len(samples) // 12)):
        print(f"  after {samples[place][0]:5.0f} s: {samples[place][1] / MIB:7.1f} MiB")
    print(
        f"{'ok  ' if growth <= allowed else 'FAIL'} resident set after warm-up: median {middle / MIB:.1f} MiB, lowest "
        f"{min(amounts) / MIB:.1f}, highest {max(amounts) / MIB:.1f}; trend {growth / MIB:+.2f} MiB in {span:.0f} s "
        f"(allowed: {allowed / MIB:.1f})"
    )
    return 0 if growth <= allowed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
