"""Objects of many kinds made, linked, sorted, encoded and dropped. Usage: churn.py ROUNDS. Prints digests."""
import collections
import gc
import hashlib
import json
import pickle
import random
import re
import sys
import threading
import zlib


class Node:
    """A tree node with a cycle to its parent, so that the collector has work."""

    def __init__(self, key, parent=None):
        self.key, self.parent, self.children, self.note = (
            key,
            parent,
            [],
            {"depth": parent.note["depth"] + 1 if parent else 0},
        )


def tree(source, depth, parent=None):
    node = Node(source.randrange(1 << 30), parent)
    if depth:
        node.children = [tree(source, depth - 1, node) for _ in range(3)]
    return node


def total(node):
    return (node.key * (node.note["depth"] + 1) + sum(map(total, node.children))) & 0xFFFFFFFF


def words(source, count):
    letters = "abcdefghijklmnopqrstuvwxyz"
    return ["".join(source.choices(letters, k=source.randrange(2, 14))) for _ in range(count)]


def one_round(seed):
    source = random.Random(seed)
    text = words(source, 4000)
    index = collections.defaultdict(list)
    for place, word in enumerate(text):
        index[word[:2]].append((place, word))
    document = {
        key: [{"place": place, "word": word, "weight": place / 7} for place, word in value]
        for key, value in sorted(index.items())
    }
    encoded = json.dumps(document)
    again = json.loads(encoded)
    pickled = pickle.loads(pickle.dumps(again, protocol=4))
    page = " ".join(text)
    page = re.sub(r"\b(\w)(\w*)(\w)\b", r"\3\2\1", page)
    numbers = [source.getrandbits(source.randrange(8, 400)) for _ in range(2000)]
    product = 1
    for number in numbers[:120]:
        product = product * (number | 1) % ((1 << 4096) - 3)
    queue = collections.deque(maxlen=500)
    for number in numbers:
        queue.append(bytearray(str(number), "ascii"))
    check = hashlib.sha256()
    for part in (
        encoded,
        repr(pickled == document),
        page,
        hex(product),
        b"|".join(queue).decode(),
        str(total(tree(source, 6))),
    ):
        check.update(part.encode())
    check.update(zlib.compress(page.encode(), 6))
    return check.hexdigest()


def main():
    rounds = int(sys.argv[1])
    digests = [one_round(seed) for seed in range(rounds)]
    print("\n".join(digests))
    results = {}

    def work(name):
        results[name] = one_round(1000 + name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(hashlib.sha256(repr(sorted(results.items())).encode()).hexdigest())
    gc.collect()
    print("garbage", len(gc.garbage))


main()
