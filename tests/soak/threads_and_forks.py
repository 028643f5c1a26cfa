"""Threads that build, hand over and drop objects, and a thread that forks; checks itself, for so many seconds.

  PYTHONMALLOC=malloc threads_and_forks.py SECONDS

Each worker keeps a table whose values are sums over their own content, and passes some on to the next worker.
A fork's child looks through all tables, which nothing changes behind its back, makes objects of its own, and
ends with 0 if all was as it should be. Any mistake ends the program with 1 and a line on standard error.
"""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import time
import zlib

WORKERS, KEYS = 4, 4000


class Item:
    """Text, parts of it in a list, and their checksum, by which it is told whether they are still the same."""

    __slots__ = ("parts", "check")

    def __init__(self, draw: random.Random) -> None:
        self.parts = [str(draw.getrandbits(60)) * draw.randint(1, 12) for _ in range(draw.randint(1, 8))]
        self.check = self.sum()

    def sum(self) -> int:
        return zlib.crc32("".join(self.parts).encode())


def fail(what: str) -> None:
    sys.stderr.write(f"threads_and_forks: {what}\n")
    sys.stderr.flush()
    os._exit(1)


def look_through(tables: list[dict[int, Item]], what: str) -> int:
    looked = 0
    for table in tables:
        for item in list(table.values()):
            if item.check != item.sum():
                fail(f"{what}: an object changed")
            looked += 1
    return looked


def work(number: int, tables: list, mailboxes: list, until: float, done: list[int]) -> None:
    draw, table = random.Random(number), tables[number]
    while time.monotonic() < until:
        for _ in range(200):
            key = draw.randrange(KEYS)
            old = table.pop(key, None)
            if old is not None and old.check != old.sum():
                fail("an object changed in its table")
            table[key] = Item(draw)
            if old is not None and key % 16 == 0:
                mailboxes[(number + 1) % WORKERS].put(old)
        while True:
            try:
                item = mailboxes[number].get_nowait()
            except queue.Empty:
                break
            if item.check != item.sum():
                fail("an object changed on its way")
            table[draw.randrange(KEYS)] = item
        done[number] += 1


def child(tables: list) -> None:
    """In a fork's child, where only this thread is."""
    draw = random.Random(os.getpid())
    if look_through(tables, "in a fork's child") == 0:
        fail("a fork's child saw nothing")
    own = [{key: Item(draw) for key in range(300)} for _ in range(3)]
    look_through(own, "a fork's own objects")
    os._exit(0)


def main(seconds: float) -> int:
    until = time.monotonic() + seconds
    tables: list[dict[int, Item]] = [{} for _ in range(WORKERS)]
    mailboxes: list[queue.SimpleQueue] = [queue.SimpleQueue() for _ in range(WORKERS)]
    done = [0] * WORKERS
    threads = [
        threading.Thread(target=work, args=(number, tables, mailboxes, until, done)) for number in range(WORKERS)
    ]
    for thread in threads:
        thread.start()
    forks = 0
    time.sleep(1)
    while time.monotonic() < until:
        process = os.fork()
        if process == 0:
            child(tables)
        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0:
            fail("a fork's child failed")
        forks += 1
        time.sleep(0.5)
    for thread in threads:
        thread.join()
    look_through(tables, "at the end")
    print(f"rounds={sum(done)} forks={forks}")
    return 0 if forks and all(done) else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
