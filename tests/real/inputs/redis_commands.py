"""Commands for redis-server in its wire format, to be sent through `redis-cli --pipe`."""
from .draw import Draw


def make(count: int) -> bytes:
    """`count` writing commands on keys of every type; what they leave behind is the same every time."""
    draw = Draw(23)
    out = bytearray()

    def send(*words: str) -> None:
        out.extend(b"*%d\r\n" % len(words))
        for word in words:
            data = word.encode()
            out.extend(b"$%d\r\n%s\r\n" % (len(data), data))

    text = [draw.word(1, 14) * (1 + draw(24)) for _ in range(997)]

    def value() -> str:
        return text[draw(997)]

    for step in range(count):
        key = draw(1 + count // 8)
        kind = draw(12)
        if kind < 3:
            send("SET", f"s:{key}", value())
        elif kind == 3:
            send("APPEND", f"s:{key}", value())
        elif kind == 4:
            send("DEL", f"s:{draw(1 + count // 8)}", f"h:{draw(50)}x")
        elif kind == 5:
            send("HSET", f"h:{key % 300}", f"f{draw(200)}", value(), f"f{draw(200)}", str(draw(10000)))
        elif kind == 6:
            send("RPUSH", f"l:{key % 200}", value(), value())
        elif kind == 7:
            send("LPOP" if draw(3) else "RPOP", f"l:{key % 200}")
        elif kind == 8:
            send("SADD", f"m:{key % 200}", *(str(draw(100000)) for _ in range(3)))
        elif kind == 9:
            send("ZADD", f"z:{key % 150}", str(draw(1000)), draw.word(), str(draw(1000)), draw.word())
        elif kind == 10:
            send("XADD", f"x:{key % 40}", "MAXLEN", "~", "200", f"{step + 1}-1", "field", value())
        else:
            send("SETRANGE", f"s:{key}", str(draw(300)), value())
    send("ZUNIONSTORE", "z:all", "20", *(f"z:{i}" for i in range(20)))
    send("SUNIONSTORE", "m:all", *(f"m:{i}" for i in range(20)))
    send("EVAL", "for i = 1, 2000 do redis.call('SET', 'lua:' .. i, string.rep('v', i % 97)) end", "0")
    return bytes(out)
