#!/usr/bin/env python3
"""Reports: dangling pointers, misuse and faults with their history; one case a function.

  report_test.py PROGRAM CASE    runs one; exit status 0 passed, 1 failed, 77 skipped (and says why)
  report_test.py --list          prints the cases

PROGRAM is planted.c. The environment gives NONREUSE_LAUNCHER and NONREUSE_LIBRARY.
"""
import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import Skip, case, environment, execute, main, require  # noqa: E402

PROGRAM = None
SOURCE = (pathlib.Path(__file__).parent / "planted.c").read_text(encoding="utf-8").splitlines()


def nonreuse(*words, **more):
    return execute(os.environ["NONREUSE_LAUNCHER"], *words, **more)


def companion():
    return pathlib.Path(os.environ["NONREUSE_LIBRARY"]).parent / "libnonreuse_stacks.so"


def need_stacks():
    if not companion().exists():
        raise Skip("built without libunwind: no stacks are recorded")


def reports(folder, *words):
    """The reports of a run, one for each process."""
    need_stacks()
    file = folder / "report.json"
    nonreuse("run", "--no-summary", "--report=dangling", f"--report-file={file}", "--", PROGRAM, *words)
    result = json.loads(file.read_text(encoding="utf-8"))
    return result if isinstance(result, list) else [result]


def only_chunk(report, size=208):
    require(report["chunks_dangling"] == 1, f"expected one chunk: {json.dumps(report, indent=1)}")
    require(report["bytes_dangling"] == size, f"expected {size} bytes: {report['bytes_dangling']}")
    (group,) = report["groups"]
    (chunk,) = group["chunks"]
    require(chunk["size"] == size == group["bytes"] == group["size_min"] == group["size_max"], f"sizes: {group}")
    return group, chunk


def line_of(function, text, more=0):
    """Number of the first line with `text` inside `function` of planted.c."""
    start = next(i for i, line in enumerate(SOURCE) if re.search(rf"\b{function}\(.*\{{$", line))
    return next(i for i, line in enumerate(SOURCE[start:], start) if text in line) + 1 + more


def require_frame(frame, symbol, text):
    require(frame["symbol"] == symbol, f"expected {symbol}: {frame}")
    require(frame["file"].endswith("planted.c"), f"expected planted.c: {frame}")
    require(frame["line"] == line_of(symbol, text), f"expected line {line_of(symbol, text)}: {frame}")


def require_history(group, function):
    """Allocated and freed by the two functions for that, called from `function`."""
    require_frame(group["allocated"][0], "make_chunk", "malloc(")
    require_frame(group["allocated"][1], function, "make_chunk()")
    require_frame(group["freed"][0], "drop_chunk", "free(")
    require_frame(group["freed"][1], function, "drop_chunk(")


def only_pointer(folder, kind, function, size=208):
    (report,) = reports(folder, kind)
    group, chunk = only_chunk(report, size)
    require_history(group, function)
    require(chunk["pointer_count"] == 1, f"expected one pointer: {chunk}")
    return chunk["pointers"][0]


def require_fields(pointer, **fields):
    for name, value in fields.items():
        require(pointer[name] == value, f"{name} is not {value!r}: {pointer}")


# ---- what is found ----------------------------------------------------------------------------------


@case
def in_global(folder):
    pointer = only_pointer(folder, "global", "in_global")
    require_fields(pointer, kind="static", symbol="planted_global", symbol_offset=8, value_offset=0,
                   module=os.path.realpath(PROGRAM), owner=None)
    require("planted_global+8" in pointer["where"], pointer["where"])


@case
def in_thread_local(folder):
    pointer = only_pointer(folder, "thread_local", "in_thread_local")
    require_fields(pointer, kind="static", symbol="planted_thread_local", symbol_offset=0)
    require(pointer["thread"] is not None, f"no thread: {pointer}")


@case
def interior(folder):
    pointer = only_pointer(folder, "interior", "interior")
    require_fields(pointer, kind="static", symbol="planted_global", symbol_offset=16, value_offset=72)


@case
def in_heap(folder):
    pointer = only_pointer(folder, "heap", "in_heap")
    require_fields(pointer, kind="heap", symbol=None, value_offset=0)
    owner = pointer["owner"]
    require(owner["size"] == 80 and not owner["freed"], f"owner: {owner}")
    require(int(pointer["address"], 16) - int(owner["address"], 16) == 24, f"offset: {pointer}")
    require_frame(owner["allocated"][0], "make_owner", "calloc(")


@case
def in_mapping(folder):
    pointer = only_pointer(folder, "mapping", "in_mapping")
    require_fields(pointer, kind="mapping", module="", symbol=None)
    require(pointer["where"].startswith("private memory 0x"), pointer["where"])


@case
def large(folder):
    (report,) = reports(folder, "large")
    group, chunk = only_chunk(report, chunk_size(48 << 20))
    require_history(group, "in_global")
    require_fields(chunk["pointers"][0], kind="static", symbol="planted_global", symbol_offset=8)


def chunk_size(request, page=4096):
    return (request + 1 + page - 1) // page * page


@case
def chain(folder):
    """A chunk is held by what was written into another one that a global points to."""
    (report,) = reports(folder, "chain")
    require(report["chunks_dangling"] == 2, f"expected two chunks: {report}")
    first, second = report["groups"]  # by bytes
    require(first["bytes"] == 1008 and second["bytes"] == 208, "not sorted by bytes")
    require_fields(first["chunks"][0]["pointers"][0], kind="static", symbol="planted_global", symbol_offset=0)
    (pointer,) = second["chunks"][0]["pointers"]
    require_fields(pointer, kind="heap", value_offset=0)
    require(pointer["owner"]["freed"], f"the owner is not freed: {pointer}")
    require(pointer["owner"]["address"] == first["chunks"][0]["address"], f"not the first chunk: {pointer}")


@case
def child(folder):
    """The child of a fork frees; its parent does not."""
    both = reports(folder, "child")
    require(len(both) == 2, f"expected two reports: {both}")
    require(sorted(report["chunks_dangling"] for report in both) == [0, 1], f"not one chunk in one: {both}")
    dangling = max(both, key=lambda report: report["chunks_dangling"])
    group, chunk = only_chunk(dangling)
    require_frame(group["allocated"][1], "child", "make_chunk()")
    require(chunk["allocated_thread"] != chunk["freed_thread"] == dangling["pid"], f"threads: {chunk}")
    require_fields(chunk["pointers"][0], kind="static", symbol="planted_global")


@case
def aged(folder):
    (report,) = reports(folder, "aged")
    group, chunk = only_chunk(report)
    require(chunk["age_sweeps"] == 3 == group["age_sweeps_min"] == group["age_sweeps_max"], f"age: {group}")


@case
def many_are_one_group(folder):
    (report,) = reports(folder, "many")
    (group,) = report["groups"]
    require(report["chunks_dangling"] == 100 == group["count"], f"expected 100 chunks: {group['count']}")
    require(report["bytes_dangling"] == 20800 == group["bytes"], f"expected 20800 bytes: {group['bytes']}")
    require(0 < len(group["chunks"]) < 100, f"{len(group['chunks'])} chunks are told one by one")


@case
def not_after_it_is_taken_away(folder):
    kinds = ["global", "thread_local", "interior", "stack", "heap", "mapping", "chain", "large", "child"]
    for kind in kinds + (["register"] if has_registers() else []):
        for report in reports(folder, kind, "clear"):
            require(report["chunks_dangling"] == 0 and report["groups"] == [], f"{kind}: {json.dumps(report, indent=1)}")


@case
def not_by_what_nothing_points_to(folder):
    (report,) = reports(folder, "unreferenced")
    require(report["chunks_dangling"] == 0, f"{json.dumps(report, indent=1)}")


def has_registers():
    return os.uname().machine in ("x86_64", "aarch64")


def in_thread(folder, kind, function):
    (report,) = reports(folder, kind)
    group, chunk = only_chunk(report)
    require_frame(group["freed"][1], function, "drop_chunk(")
    require(chunk["freed_thread"] not in (None, report["pid"]), f"thread: {chunk}")
    (pointer,) = chunk["pointers"]
    require_fields(pointer, kind=kind, thread=chunk["freed_thread"])
    require(pointer["frame"]["symbol"] == function, f"frame: {pointer}")
    require(pointer["frame"]["file"].endswith("planted.c"), f"frame: {pointer}")
    return pointer


@case
def on_stack(folder):
    pointer = in_thread(folder, "stack", "holding_frame")
    require(pointer["address"] is not None and "holding_frame (planted.c:" in pointer["where"], pointer["where"])


@case
def in_register(folder):
    if not has_registers():
        raise Skip("not written for this machine")
    pointer = in_thread(folder, "register", "holding_register")
    require_fields(pointer, symbol="rbx" if os.uname().machine == "x86_64" else "x19", address=None)


@case
def as_text_and_page(folder):
    need_stacks()
    run = ("run", "--summary-file", folder / "summary", "--report=dangling")
    printed = nonreuse(*run, "--", PROGRAM, "global").stderr
    lines = printed.splitlines()
    require(all(line.startswith("nonreuse: ") for line in lines), f"lines without prefix: {printed}")
    require("1 chunk, 208 B, is freed and still pointed to" in lines[0], lines[0])
    require(any(re.fullmatch(r"nonreuse:     planted_global\+8 in /.* \(at 0x[0-9a-f]+\)", line) for line in lines),
            f"no place: {printed}")
    require("quarantine" in (folder / "summary").read_text(encoding="utf-8"), "no summary beside the report")
    nonreuse(*run, "--report-file", folder / "report.txt", "--", PROGRAM, "global")
    require("planted_global+8 in /" in (folder / "report.txt").read_text(encoding="utf-8"), "not as text in a file")
    nonreuse(*run, "--report-file", folder / "report.html", "--", PROGRAM, "global")
    page = (folder / "report.html").read_text(encoding="utf-8")
    require("<html" in page and "planted_global" in page, "no page")


def keys(value):
    """The names in a report, with what is inside lists taken from their first elements."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [keys(value[0])] if value else []
    return None


@case
def format_is_the_samples(folder):
    sample = json.loads((pathlib.Path(__file__).parent / "sample.json").read_text(encoding="utf-8"))
    (report,) = reports(folder, "heap")
    group, chunk = (report["groups"][0], report["groups"][0]["chunks"][0])
    known_group = sample["groups"][1]
    require(report.keys() == sample.keys(), f"{report.keys()} {sample.keys()}")
    require(group.keys() == known_group.keys(), f"{group.keys()} {known_group.keys()}")
    require(keys(chunk["pointers"][0]) == keys(known_group["chunks"][0]["pointers"][0]), f"{chunk}")
    require(chunk.keys() == known_group["chunks"][0].keys(), f"{chunk.keys()}")
    require(group["allocated"][0].keys() == known_group["allocated"][0].keys(), f"{group['allocated'][0].keys()}")


# ---- live -------------------------------------------------------------------------------------------


class Live:
    """planted KIND that waits until its input ends."""

    def __init__(self, *words, options="stacks=1", **more):
        preload = ":".join([os.environ["NONREUSE_LIBRARY"]] + ([str(companion())] if companion().exists() else []))
        more.setdefault("env", environment(LD_PRELOAD=preload, NONREUSE_OPTIONS=options, PLANTED_LIVE="1"))
        self.process = subprocess.Popen([PROGRAM, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        **more)

    def __enter__(self):
        require(self.process.stdout.readline() == "ready\n", "the program does not say that it is ready")
        return self.process.pid

    def __exit__(self, *_):
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        require(status == 0, f"after the report the program ended with {status}")


@case
def live(folder):
    need_stacks()
    with Live("global") as process:
        report = json.loads(nonreuse("report", process, "--json").stdout)
        require(report["pid"] == process and report["program"] == os.path.realpath(PROGRAM), f"{report}")
        group, chunk = only_chunk(report)
        require_history(group, "in_global")
        require_fields(chunk["pointers"][0], kind="static", symbol="planted_global")
        nonreuse("report", process, "-o", folder / "again.json")
        again = json.loads((folder / "again.json").read_text(encoding="utf-8"))
        require(again["groups"] == report["groups"], "a second report differs")
        require("planted_global+8" in nonreuse("report", process).stdout, "no text")


@case
def live_without_stacks(_folder):
    with Live("global", options="") as process:
        report = json.loads(nonreuse("report", process, "--json").stdout)
        group, chunk = only_chunk(report)
        require(not report["stacks_recorded"] and group["allocated"] == [] == group["freed"], f"{group}")
        require_fields(chunk["pointers"][0], kind="static", symbol="planted_global")
        require("not recorded" in nonreuse("report", process).stdout, "the text does not say so")


@case
def live_errors(_folder):
    def refused(pattern, *words, status=126, **more):
        errors = nonreuse("report", *words, status=status, **more).stderr
        require(re.fullmatch(pattern, errors), f"errors: {errors!r}")

    refused(r"nonreuse: there is no process 999999999\n", 999999999)
    refused(r"nonreuse: .*PID.*\n", "abc", status=2)
    refused(r"nonreuse: .*PID.*\n", 0, status=2)
    with Live("global", env=environment(PLANTED_LIVE="1")) as process:
        refused(rf"nonreuse: process {process} does not run on this heap\n", process)
    with Live("global") as process:
        libc = ctypes.CDLL(None, use_errno=True)
        seize, detach = 0x4206, 17
        require(libc.ptrace(seize, process, None, None) == 0, "cannot trace the process here")
        refused(rf"nonreuse: process {process} is being traced by process {os.getpid()} \(a debugger\?\)\n", process)
        os.kill(process, signal.SIGSTOP)
        os.waitpid(process, 0)
        libc.ptrace(detach, process, None, None)
        os.kill(process, signal.SIGCONT)
        if os.getuid() == 0:
            launcher = os.environ["NONREUSE_LAUNCHER"]
            seen = subprocess.run([launcher, "report", str(process)], user=65534, group=65534, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True, check=False) if readable(launcher) else None
            if seen is not None:
                require(seen.returncode == 126 and "may not be looked at" in seen.stderr, f"errors: {seen.stderr!r}")


@case
def names_of_c_are_not_demangled(folder):
    """`f` is float and `i` int in the mangled form of C++."""
    source, program = folder / "short.c", folder / "short"
    source.write_text(
        "#include <stdlib.h>\nvoid *i;\n"
        "__attribute__((noinline)) void f(void) { i = malloc(40); }\n"
        "__attribute__((noinline)) void a(void) { free(i); }\n"
        "int main(void) { f(); a(); return 0; }\n")
    subprocess.run(["gcc", "-g", "-O1", "-fno-builtin", "-fno-optimize-sibling-calls", "-w", "-o", str(program),
                    str(source)], check=True)
    done = nonreuse("run", "--no-summary", "--report=dangling", "--", str(program))
    for wanted in ("f (short.c:3)", "a (short.c:4)", " i+0 in "):
        require(wanted in done.stderr, f"{wanted!r} is not in {done.stderr}")


@case
def report_file_is_looked_at_first(folder):
    done = nonreuse("run", "--report=dangling", "--report-file=/nonexistent/r.json", "--", "/bin/echo", "ran", status=2)
    require("/nonexistent/r.json" in done.stderr and "ran" not in done.stdout, done.stderr)


@case
def wrong_words(_folder):
    for words, pattern in ((("--report=all",), r"nonreuse: --report: all not in \{dangling\}.*\n"),
                           (("--report-file=x",), r"nonreuse: --report-file requires --report .*\n")):
        errors = nonreuse("run", *words, "--", PROGRAM, "global", status=2).stderr
        require(re.fullmatch(pattern, errors), f"errors: {errors!r}")


def readable(path):
    """Whether everybody may run the file at `path`."""
    path = pathlib.Path(path).resolve()
    return all(parent.stat().st_mode & 1 for parent in [path, *path.parents])


# ---- misuse and faults ------------------------------------------------------------------------------


def sections(errors):
    """The lines after the first: {heading: [frame, ...]}."""
    found, heading = {}, None
    for line in errors.splitlines()[1:]:
        text = line.removeprefix("nonreuse:   ")
        frame = re.fullmatch(r"  #(\d+) (.*)", text)
        if frame:
            require(int(frame[1]) == len(found[heading]), f"frames are not counted: {errors}")
            found[heading].append(frame[2])
        else:
            heading = text
            found[heading] = []
    return found


def misuse(kind, status=-signal.SIGABRT):
    need_stacks()
    done = nonreuse("run", "--no-summary", "--stacks=1", "--", PROGRAM, kind, status=status)
    return done, sections(done.stderr)


def begins(found, heading, *functions):
    frames = next((frames for text, frames in found.items() if re.match(heading, text)), None)
    require(frames is not None, f"no {heading}: {found}")
    for frame, (function, text) in zip(frames, functions):
        expected = f"{function} (planted.c:{line_of(function, text)})"
        require(frame == expected, f"{heading}: expected {expected}: {frames}")


@case
def double_free(_folder):
    done, found = misuse("freed_twice")
    require(re.match(r"nonreuse: double free: free\(0x\w+\): chunk 0x\w+ of 208 bytes is freed already\n", done.stderr),
            done.stderr)
    require("the chunk is in quarantine, freed since the last sweep" in found, f"{found}")
    begins(found, "allocated by thread", ("make_chunk", "malloc("), ("freed_twice", "make_chunk()"))
    begins(found, "freed by thread", ("drop_chunk", "free("), ("freed_twice", "drop_chunk("))
    begins(found, "now by thread", ("drop_again", "free("), ("freed_twice", "drop_again("))


@case
def double_free_by_thread(_folder):
    _, found = misuse("freed_by_thread")
    begins(found, "freed by thread", ("drop_chunk", "free("), ("drop_in_thread", "drop_chunk("))
    begins(found, "now by thread", ("drop_again", "free("), ("freed_by_thread", "drop_again("))
    threads = {text.split()[0]: text.split()[-1] for text in found if "by thread" in text}
    require(threads["allocated"] == threads["now"] != threads["freed"], f"threads: {threads}")


@case
def other_misuse(_folder):
    done, found = misuse("freed_inside")
    require("points 32 bytes into the live chunk" in done.stderr.splitlines()[0], done.stderr)
    require("the chunk is live" in found and not any(text.startswith("freed") for text in found), f"{found}")
    begins(found, "allocated by thread", ("make_chunk", "malloc("))
    begins(found, "now by thread", ("freed_inside", "+ 32"))
    _, found = misuse("resized")
    begins(found, "allocated by thread", ("resized", "malloc("))
    begins(found, "freed by thread", ("resized", "realloc("))
    done, found = misuse("grown")
    require("of 20016 bytes is freed already" in done.stderr, done.stderr)
    begins(found, "allocated by thread", ("grown", "realloc("))
    begins(found, "freed by thread", ("drop_chunk", "free("), ("grown", "drop_chunk("))


@case
def misuse_without_launcher(_folder):
    """Modules and offsets, from inside the process; without the companion it says what is missing."""
    need_stacks()
    library = os.environ["NONREUSE_LIBRARY"]
    env = environment(LD_PRELOAD=f"{library}:{companion()}", NONREUSE_OPTIONS="stacks=1")
    found = sections(execute(PROGRAM, "freed_twice", status=-signal.SIGABRT, env=env).stderr)
    frames = next(frames for text, frames in found.items() if text.startswith("now by"))
    place = re.fullmatch(rf"0x\w+ {re.escape(os.path.realpath(PROGRAM))}\+(0x\w+)", frames[0])
    require(place, f"frames: {frames}")
    named = execute("addr2line", "-f", "-e", PROGRAM, hex(int(place[1], 16) - 1)).stdout
    require(named.startswith("drop_again\n"), f"the offset is that of {named}")
    env["LD_PRELOAD"] = library
    errors = execute(PROGRAM, "freed_twice", status=-signal.SIGABRT, env=env).stderr
    require(errors.startswith("nonreuse: stacks=1: libnonreuse_stacks.so is not loaded"), errors)
    require("where is not known" in errors, errors)


@case
def one_line_without_stacks(_folder):
    for kind in ("freed_twice", "freed_inside"):
        errors = nonreuse("run", "--no-summary", "--", PROGRAM, kind, status=-signal.SIGABRT).stderr
        require(errors.count("\n") == 1, f"more than one line: {errors}")
    done = nonreuse("run", "--no-summary", "--", PROGRAM, "fault_default", status=-signal.SIGSEGV)
    require(done.stderr == "", f"errors: {done.stderr}")


@case
def fault_by_default(_folder):
    done, found = misuse("fault_default", status=-signal.SIGSEGV)
    size = chunk_size(48 << 20)
    require(re.match(rf"nonreuse: use after free: 0x\w+ is 4112 bytes into the freed chunk 0x\w+ of {size} bytes\n",
                     done.stderr), done.stderr)
    begins(found, "allocated by thread", ("make_chunk", "malloc("), ("freed_large", "make_chunk()"))
    begins(found, "freed by thread", ("drop_chunk", "free("), ("freed_large", "drop_chunk("))
    begins(found, "now by thread", ("touch", "return"), ("fault_default", "touch("))


@case
def fault_in_own_handler(_folder):
    for kind, output in (("fault_signal", "handler\n"),
                         ("fault_onstack", "information\nhandler\nalternate stack\n"),
                         ("fault_offstack", "information\nhandler\nordinary stack\n"),
                         ("vfork_child", "handler\n")):
        done, found = misuse(kind, status=7)
        require(done.stdout == output, f"{kind}: {done.stdout!r}")
        require(done.stderr.startswith("nonreuse: use after free: "), f"{kind}: {done.stderr}")
        begins(found, "now by thread", ("touch", "return"))


@case
def fault_in_handler_for_one(_folder):
    done, _ = misuse("fault_once", status=-signal.SIGSEGV)
    require(done.stdout == "first\n" and done.stderr.count("use after free") == 2, f"{done.stdout} {done.stderr}")
    require("faults_again (planted.c:" in done.stderr, "the stack ends at the handler")


@case
def other_faults_are_the_programs(_folder):
    for kind, status, output in (("fault_elsewhere", 7, "handler\n"), ("sent", -signal.SIGSEGV, ""),
                                 ("sent_ignored", 0, "ignored\n")):
        done, _ = misuse(kind, status=status)
        require(done.stdout == output and done.stderr == "", f"{kind}: {done.stdout!r} {done.stderr!r}")


@case
def forks_of_a_busy_process(_folder):
    need_stacks()
    done = nonreuse("run", "--no-summary", "--stacks=1", "--", PROGRAM, "busy_forks")
    require(done.stdout == "60 children\n" and done.stderr == "", f"{done.stdout!r} {done.stderr!r}")


def begin(program):
    global PROGRAM
    PROGRAM = program


if __name__ == "__main__":
    sys.exit(main(begin))
