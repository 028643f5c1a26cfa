"""A git history for `git fast-import`: files that grow, change, move and merge, with fixed dates."""
from .draw import Draw


def make(commits: int) -> bytes:
    """A stream of `commits` commits on two branches that are merged now and then."""
    draw = Draw(19)
    out = bytearray()
    files: dict[str, list[str]] = {}
    marks = {"main": 0, "side": 0}
    number = 0

    def commit(branch: str, changed: dict[str, list[str] | None], other: int = 0) -> None:
        nonlocal number
        number += 1
        message = (
            f"change {number}: {draw.word()} {draw.word()}\n\n"
            + " ".join(draw.word() for _ in range(20))
            + "\n"
        )
        out.extend(b"commit refs/heads/%s\nmark :%d\n" % (branch.encode(), number))
        out.extend(
            b"author A Writer <writer@example.org> %d +0000\ncommitter A Writer <writer@example.org> %d +0000\n"
            % (1600000000 + number * 60, 1600000000 + number * 60)
        )
        out.extend(b"data %d\n%s\n" % (len(message), message.encode()))
        parent = marks[branch] or marks["main"]
        if parent:
            out.extend(b"from :%d\n" % parent)
        if other:
            out.extend(b"merge :%d\n" % other)
        for name, lines in changed.items():
            if lines is None:
                out.extend(b"D %s\n" % name.encode())
            else:
                text = "\n".join(lines).encode() + b"\n"
                out.extend(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(text), text))
        marks[branch] = number

    def line() -> str:
        return " ".join(draw.word() for _ in range(8))

    for step in range(commits):
        changed: dict[str, list[str] | None] = {}
        if not files or draw(5) == 0:
            name = f"{draw.word(3, 5)}{len(files) % 7}/{draw.word()}.txt"
            files[name] = [line() for _ in range(20 + draw(200))]
            changed[name] = files[name]
        names = sorted(files)
        for _ in range(1 + draw(4)):
            name = names[draw(len(names))]
            lines = files[name]
            for _ in range(1 + draw(6)):
                lines[draw(len(lines))] = line()
            lines.insert(draw(len(lines)), line())
            changed[name] = lines
        if step % 41 == 40:
            name = names[draw(len(names))]
            if changed.get(name, 0) == 0:
                del files[name]
                changed[name] = None
        if step % 29 == 28:
            commit("side", changed)
        elif step % 29 == 5 and marks["side"]:
            commit("main", changed, marks["side"])
        else:
            commit("main", changed)
    out.extend(b"done\n")
    return bytes(out)
