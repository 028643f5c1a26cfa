"""Does a process grow? Its resident set over time, and a verdict that single peaks do not move."""

from __future__ import annotations

import os
import pathlib
import statistics

MIB = 1 << 20
ALLOWED_BYTES, ALLOWED_SHARE = 4 * MIB, 0.05
FEWEST = 10  # samples; fewer say nothing


def resident(process: int) -> int:
    """Resident bytes of a process, 0 if it has ended (proc(5), statm)."""
    try:
        return int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def trend(samples: list[tuple[float, int]]) -> float:
    """Bytes a second: the median slope over all pairs of at most 400 evenly chosen samples (Theil and Sen)."""
    chosen = samples[:: max(1, len(samples) // 400)]
    return statistics.median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for place, earlier in enumerate(chosen)
        for later in chosen[place + 1 :]
    )


def verdict(samples: list[tuple[float, int]], seconds: float) -> tuple[bool | None, str]:
    """Whether the resident set is steady, and a line that says how it was; None: too few (time, bytes) samples.

    The first fifth (at least 5 seconds) is warm-up. Growth is the trend carried over the measured time.
    """
    warm = [sample for sample in samples if sample[0] >= max(5, seconds / 5)]
    if len(warm) < FEWEST:
        return None, f"too few samples ({len(warm)}): give it more time"
    amounts = [amount for _, amount in warm]
    middle, span = statistics.median(amounts), warm[-1][0] - warm[0][0]
    growth = trend(warm) * span
    allowed = max(ALLOWED_BYTES, ALLOWED_SHARE * middle)
    return growth <= allowed, (
        f"resident set after warm-up: median {middle / MIB:.1f} MiB, lowest {min(amounts) / MIB:.1f}, "
        f"highest {max(amounts) / MIB:.1f}; trend {growth / MIB:+.2f} MiB in {span:.0f} s "
        f"(allowed: {allowed / MIB:.1f})"
    )
