#!/usr/bin/env python3
"""The command `nonreuse`, one case a function.

  launcher_test.py CASE     runs one; exit status 0 passed, 1 failed, 77 skipped (and says why)
  launcher_test.py --list   prints the cases

The environment gives NONREUSE_LAUNCHER, NONREUSE_LIBRARY, NONREUSE_CC.
"""
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
from cases import Skip, case, environment, execute, main, require  # noqa: E402


def launcher():
    return os.environ["NONREUSE_LAUNCHER"]


def library():
    return os.environ["NONREUSE_LIBRARY"]


def nonreuse(*arguments, **more):
    return execute(launcher(), *arguments, status=None, timeout=60, **more)


def run(*arguments, **more):
    """`nonreuse run` without a summary, so that standard error must be empty unless something is wrong."""
    return nonreuse("run", "--no-summary", *arguments, **more)


def require_end(result, status, stdout=None, stderr=""):
    shown = f"\nstatus {result.returncode}\nstandard output: {result.stdout!r}\nstandard error: {result.stderr!r}"
    require(result.returncode == status, f"expected status {status}{shown}")
    if stdout is not None:
        require(result.stdout == stdout, f"expected standard output {stdout!r}{shown}")
    if stderr is not None:
        require(re.fullmatch(stderr, result.stderr), f"standard error does not match {stderr!r}{shown}")


def one_line(text):
    return "nonreuse: " + text + "\n"


def compile_c(folder, name, source, *flags):
    path = folder / name
    path.with_suffix(".c").write_text(source, encoding="utf-8")
    subprocess.run([os.environ.get("NONREUSE_CC", "cc"), "-o", path, path.with_suffix(".c"), *flags], check=True)
    return path


def script(folder, name, text, mode=0o755):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


# ---- what goes through --------------------------------------------------------------------------------------

@case
def exit_status(_folder):
    for status in (0, 1, 7, 126, 127, 255):
        require_end(run("--", "/bin/sh", "-c", f"exit {status}"), status, stdout="")


@case
def arguments_and_streams(_folder):
    result = subprocess.run([launcher(), "run", "--no-summary", "--", "/bin/sh", "-c",
                             'cat; printf "<%s>" "$@"; echo error >&2', "name", "", "a b", "--", "--help", "*"],
                            input="input ", env=environment(), capture_output=True, text=True, timeout=60, check=False)
    require_end(result, 0, stdout="input <><a b><--><--help><*>", stderr="error\n")


@case
def the_dashes_may_be_left_out(_folder):
    require_end(run("--percent", "30", "/bin/echo", "--percent", "--", "x"), 0, stdout="--percent -- x\n")
    require_end(run("--percent=30", "echo", "-n", "x"), 0, stdout="x")


@case
def death_by_signal(folder):
    program = compile_c(folder, "suicide", "#include <signal.h>\n#include <stdlib.h>\n"
                        "int main(int c, char** v) { (void)c; signal(atoi(v[1]), SIG_DFL); raise(atoi(v[1])); "
                        "return 0; }\n")
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP,
                   signal.SIGPIPE, signal.SIGUSR1):
        require_end(run("--", program, int(number)), -number, stdout="")
    # As the shell sees it.
    shell = subprocess.run(["/bin/sh", "-c", f"{launcher()} run --no-summary -- {program} 9; echo $?"],
                           env=environment(), capture_output=True, text=True, timeout=60, check=False)
    require(shell.stdout == "137\n", f"the shell saw {shell.stdout!r}")


@case
def no_core_of_the_launcher(folder):
    program = compile_c(folder, "crash", "#include <stdlib.h>\nint main(void) { abort(); }\n")
    run("--", program, cwd=folder)
    cores = [name for name in os.listdir(folder) if "core" in name]
    # The program's own core is as it would be without the launcher: at most that one.
    require(len(cores) <= 1, f"cores: {cores}")


FORWARD = """
import os, signal, sys, time
got = []
def note(number, frame):
    got.append(number)
for number in (1, 2, 3, 10, 12, 15, 28, 34):
    signal.signal(number, note)
print("ready", flush=True)
while 15 not in got:
    time.sleep(0.02)
time.sleep(0.2)
print(sorted(got), flush=True)
sys.exit(len(got))
"""


@case
def signals_are_forwarded_once(_folder):
    with subprocess.Popen([launcher(), "run", "--no-summary", "--", sys.executable, "-c", FORWARD], env=environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        require(process.stdout.readline() == "ready\n", "the program did not start")
        for number in (1, 2, 3, 10, 12, 28, 34, 15):
            process.send_signal(number)
            time.sleep(0.1)
        out, err = process.communicate(timeout=30)
    require(out == "[1, 2, 3, 10, 12, 15, 28, 34]\n", f"received {out!r}, {err!r}")
    require(process.returncode == 8, f"status {process.returncode}")


@case
def the_terminals_interrupt_arrives_once(_folder):
    """Ctrl-C goes to the whole foreground group: the program has it already when the launcher gets it."""
    code = ("import signal, time\ncount = 0\n"
            "def note(n, f):\n    global count\n    count += 1\n"
            "signal.signal(signal.SIGINT, note)\nprint('ready', flush=True)\n"
            "end = time.monotonic() + 1.0\n"
            "while time.monotonic() < end: time.sleep(0.05)\n"
            "print('interrupts', count, flush=True)\n")
    process, terminal = pty.fork()
    if process == 0:
        os.execve(launcher(), [launcher(), "run", "--no-summary", "--", sys.executable, "-c", code], environment())
    output = b""
    while b"ready" not in output:
        output += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    try:
        while chunk := os.read(terminal, 1000):
            output += chunk
    except OSError:
        pass  # the terminal's other side is closed
    _, status = os.waitpid(process, 0)
    require(b"interrupts 1\r\n" in output, f"the terminal shows {output!r}")
    require(os.waitstatus_to_exitcode(status) == 0, f"status {status}")


@case
def stop_and_continue(_folder):
    code = "import sys, time\nprint('ready', flush=True)\nsys.stdin.readline()\nprint('went on', flush=True)\n"
    with subprocess.Popen([launcher(), "run", "--no-summary", "--", sys.executable, "-c", code], env=environment(),
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          # a group of its own: in an orphaned one SIGTSTP stops nobody
                          preexec_fn=lambda: os.setpgid(0, 0)) as process:
        require(process.stdout.readline() == "ready\n", "the program did not start")
        process.send_signal(signal.SIGTSTP)
        pid, status = os.waitpid(process.pid, os.WUNTRACED)
        require(pid == process.pid and os.WIFSTOPPED(status), f"the launcher did not stop: {status}")
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate("\n", timeout=30)
    require(out == "went on\n", f"got {out!r}")
    require(process.returncode == 0, f"status {process.returncode}")


@case
def ignored_and_blocked_signals_are_inherited(_folder):
    code = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, " \
           "signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN, " \
           "sorted(int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])))"

    def prepare():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR2])
    require_end(run("--", sys.executable, "-c", code, preexec_fn=prepare), 0, stdout="True True [12]\n")


@case
def signals_are_not_blocked(_folder):
    code = "import signal; print(sorted(int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    require_end(run("--", sys.executable, "-c", code), 0, stdout="[]\n")


@case
def no_descriptor_leaks(_folder):
    require_end(run("--", "/bin/sh", "-c", "ls /proc/self/fd"), 0, stdout="0\n1\n2\n3\n")


# ---- environment --------------------------------------------------------------------------------------------

SHOW = ("--", "/bin/sh", "-c", 'echo "$LD_PRELOAD|$NONREUSE_OPTIONS"')


@case
def preload_and_no_options(_folder):
    require_end(run(*SHOW), 0, stdout=f"{os.path.realpath(library())}|\n")


@case
def options_reach_the_program(_folder):
    result = run("--percent", "30", "--min=8M", "--sweep-size", "5", "--stop_timeout", "7", "--stats", "0", *SHOW)
    require_end(result, 0, stdout=None)
    require(result.stdout.endswith("|percent=30:min=8M:sweep_size=5:stop_timeout=7:stats=0\n"), result.stdout)


@case
def raw_options(_folder):
    result = run("--options", "percent=30:min=8M", "--percent", "40", *SHOW)
    require(result.stdout.endswith("|percent=30:min=8M:percent=40\n"), result.stdout)


@case
def command_line_wins_over_environment(_folder):
    result = run("--percent", "40", *SHOW, env=environment(NONREUSE_OPTIONS="percent=30:min=1M"))
    require(result.stdout.endswith("|percent=30:min=1M:percent=40\n"), result.stdout)


@case
def existing_preload_is_kept(folder):
    other = folder / "other.so"
    subprocess.run([os.environ.get("NONREUSE_CC", "cc"), "-shared", "-o", other, "-xc", "/dev/null"], check=True)
    result = run(*SHOW, env=environment(LD_PRELOAD=str(other)))
    require_end(result, 0, stdout=f"{os.path.realpath(library())}:{other}|\n")


@case
def the_last_of_equal_options_counts(_folder):
    result = run("--percent", "30", "--percent", "40", *SHOW)
    require(result.stdout.endswith("|percent=40\n"), result.stdout)


# ---- refusals -----------------------------------------------------------------------------------------------

@case
def bad_options(_folder):
    for arguments, text in [
            (("--percent", "0"), r"option percent=0 is out of range \(1 to 10000\).*"),
            (("--percent", "x"), r"option percent=x is not a number.*"),
            (("--min", "-1"), r".*"),
            (("--stop", "sometimes"), r"option stop=sometimes is not one of auto\|ptrace\|signal.*"),
            (("--options", "percnt=3"), r"option 'percnt' is unknown.*"),
            (("--options", "stats"), r"option 'stats' has no value.*"),
            (("--stats-dir", "a:b"), r"option stats_dir=a:b has a colon.*"),
            (("--no-such-option",), r".*--no-such-option.*"),
            (("--percent",), r".*--percent.*")]:
        require_end(run(*arguments, "--", "/bin/echo", "ran"), 2, stdout="", stderr=one_line(text))


@case
def usage(_folder):
    require_end(nonreuse(), 2, stdout="", stderr=one_line(".*subcommand.*"))
    require_end(nonreuse("run"), 2, stdout="", stderr=one_line("no program given.*"))
    require_end(nonreuse("run", "--"), 2, stdout="", stderr=one_line("no program given.*"))
    require_end(nonreuse("frobnicate"), 2, stdout="", stderr=one_line(".*frobnicate.*"))


@case
def missing_program(folder):
    require_end(run("--", "no-such-program"), 127, stdout="",
                stderr=one_line("no-such-program: there is no such program in PATH"))
    require_end(run("--", f"{folder}/no-such-program"), 127, stdout="", stderr=one_line(".*No such file.*"))
    require_end(run("--", ""), 127, stdout="", stderr=one_line(".*empty.*"))
    require_end(run("--", "/bin/sh/x"), 127, stdout="", stderr=one_line(".*Not a directory.*"))


@case
def not_executable(folder):
    plain = script(folder, "plain", "text\n", mode=0o644)
    require_end(run("--", plain), 126, stdout="", stderr=one_line(".*plain: is not executable"))
    require_end(run("--", folder), 126, stdout="", stderr=one_line(".*is a directory"))
    require_end(run("--", "plain", env=environment(PATH=folder)), 126, stdout="",
                stderr=one_line(".*plain: is not executable"))


@case
def static_program(folder):
    source = "#include <stdio.h>\nint main(void) { puts(\"ran\"); return 0; }\n"
    for flags in (["-static"], ["-static-pie"]):
        program = compile_c(folder, "static", source, *flags)
        require_end(run("--", program), 126, stdout="",
                    stderr=one_line(".*static: is a static program: a preloaded library cannot protect it"))


@case
def setuid_program(folder):
    if os.getuid() != 0:
        raise Skip("only root can make a program of another user")
    os.chmod(folder, 0o755)
    program = folder / "other-user"
    shutil.copy("/bin/true", program)
    os.chown(program, 65534, -1)
    program.chmod(0o4755)
    if os.statvfs(folder).f_flag & os.ST_NOSUID:
        raise Skip("the temporary folder's file system ignores setuid")
    refusal = one_line(".*: is a {} program: the loader ignores preloaded libraries in it")
    require_end(run("--", program), 126, stdout="", stderr=refusal.format("setuid"))
    os.chown(program, 0, 65534)
    program.chmod(0o2755)
    require_end(run("--", program), 126, stdout="", stderr=refusal.format("setgid"))
    os.chown(program, os.getuid(), os.getgid())
    program.chmod(0o6755)
    require_end(run("--", program), 0, stdout="")  # nothing is gained, so the loader keeps the preload


@case
def file_capabilities(folder):
    if os.getuid() != 0:
        raise Skip("only root can give a program capabilities")
    if not shutil.which("setcap") or not shutil.which("setpriv"):
        raise Skip("setcap or setpriv is missing (packages libcap2-bin, util-linux)")
    os.chmod(folder, 0o755)
    program = folder / "capable"
    shutil.copy("/bin/true", program)
    program.chmod(0o755)
    if subprocess.run(["setcap", "cap_net_bind_service+ep", program], check=False).returncode != 0:
        raise Skip("the temporary folder's file system keeps no capabilities")
    copies = [folder / pathlib.Path(path).name for path in (launcher(), library())]
    shutil.copy(launcher(), copies[0])
    shutil.copy(library(), copies[1])
    result = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copies[0], "run",
                             "--no-summary", "--", program], env=environment(), capture_output=True, text=True,
                            timeout=60, check=False)
    require_end(result, 126, stdout="", stderr=one_line(".*is a file-capability program.*"))
    require_end(run("--", program), 0)  # root gains nothing by it


@case
def scripts(folder):
    require_end(run("--", script(folder, "good", "#!/bin/sh\necho $1\n"), "x"), 0, stdout="x\n")
    require_end(run("--", script(folder, "spaces", "#! \t /bin/sh -e \necho y\n")), 0, stdout="y\n")
    require_end(run("--", script(folder, "env", "#!/usr/bin/env sh\necho z\n")), 0, stdout="z\n")
    require_end(run("--", script(folder, "plain", "echo no first line\n")), 0, stdout="no first line\n")
    require_end(run("--", script(folder, "gone", "#!/no/such/interpreter\n")), 127, stdout="",
                stderr=one_line(".*gone: its interpreter cannot be used: /no/such/interpreter: No such file.*"))
    require_end(run("--", script(folder, "gone2", "#!/usr/bin/env no-such-program\n")), 127, stdout="",
                stderr=one_line(".*gone2: its interpreter cannot be used: no-such-program: there is no such.*"))
    require_end(run("--", script(folder, "empty", "#!\n")), 126, stdout="", stderr=one_line(".*names no interpreter.*"))
    static = compile_c(folder, "interpreter", "int main(void) { return 0; }\n", "-static")
    require_end(run("--", script(folder, "static", f"#!{static}\n")), 126, stdout="",
                stderr=one_line(".*static: its interpreter cannot be used: .*interpreter: is a static program.*"))


@case
def script_around_script(folder):
    inner = script(folder, "inner", "#!/bin/sh\necho inner $@\n")
    outer = script(folder, "outer", f"#!{inner}\n")
    require_end(run("--", outer, "x"), 0, stdout=f"inner {outer} x\n")
    loop = folder / "loop"
    script(folder, "loop", f"#!{loop}\n")
    require_end(run("--", loop), 126, stdout="", stderr=one_line(".*too many interpreters.*"))


def change_byte(path, offset, value):
    data = bytearray(path.read_bytes())
    data[offset] = value
    path.write_bytes(data)


@case
def another_machine(folder):
    program = folder / "foreign"
    shutil.copy("/bin/true", program)
    change_byte(program, 18, 8)  # e_machine: MIPS
    require_end(run("--", program), 126, stdout="",
                stderr=one_line(".*foreign: is a program for machine 8, but the library is for .*"))


@case
def musl_program(folder):
    program = compile_c(folder, "musl", "int main(void) { return 0; }\n",
                        "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
    require_end(run("--", program), 126, stdout="", stderr=one_line(".*is linked with musl.*"))


@case
def unreadable_program(folder):
    """Execute permission alone: nothing can be known beforehand, so the program is run."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        raise Skip("needs root and setpriv to become a user who may not read a program")
    os.chmod(folder, 0o755)
    program = folder / "closed"
    shutil.copy("/bin/true", program)
    program.chmod(0o711)
    copies = [folder / pathlib.Path(path).name for path in (launcher(), library())]
    shutil.copy(launcher(), copies[0])
    shutil.copy(library(), copies[1])
    result = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copies[0], "run",
                             "--no-summary", "--", program], env=environment(), capture_output=True, text=True,
                            timeout=60, check=False)
    require_end(result, 0, stdout="", stderr=None)


# ---- the library --------------------------------------------------------------------------------------------

@case
def library_beside_and_above(folder):
    for place in ("bin", "lib"):
        root = folder / f"with-{place}"
        (root / "bin").mkdir(parents=True)
        (root / place).mkdir(exist_ok=True)
        shutil.copy(launcher(), root / "bin" / "nonreuse")
        shutil.copy(library(), root / place / "libdlmalloc_nonreuse.so")
        for command in (root / "bin" / "nonreuse", root / "link"):
            if not command.exists():
                command.symlink_to("bin/nonreuse")
            result = subprocess.run([command, "run", "--no-summary", "--", "/bin/sh", "-c", "echo $LD_PRELOAD"],
                                    env=environment(), capture_output=True, text=True, timeout=60, check=False)
            require_end(result, 0, stdout=f"{root.resolve()}/{place}/libdlmalloc_nonreuse.so\n")


@case
def library_missing(folder):
    alone = folder / "nonreuse"
    shutil.copy(launcher(), alone)
    if pathlib.Path("/usr/local/lib/libdlmalloc_nonreuse.so").exists():
        raise Skip("the library is installed on this machine, so it is never missing")
    result = subprocess.run([alone, "run", "--", "/bin/echo", "ran"], env=environment(), capture_output=True,
                            text=True, timeout=60, check=False)
    require_end(result, 126, stdout="", stderr=one_line("libdlmalloc_nonreuse.so is neither beside this command, nor "
                                                        "in ../lib, nor in .*; name it with --library"))


@case
def library_given(folder):
    copy = folder / "renamed.so"
    shutil.copy(library(), copy)
    require_end(run("--library", copy, *SHOW), 0, stdout=f"{copy.resolve()}|\n")
    require_end(run("--library", f"{folder}/none.so", *SHOW), 126, stdout="", stderr=one_line(".*there is no such file"))
    wrong = script(folder, "text.so", "text\n")
    require_end(run("--library", wrong, *SHOW), 126, stdout="", stderr=one_line(".*is not a shared library"))
    spaced = folder / "a b.so"
    shutil.copy(library(), spaced)
    require_end(run("--library", spaced, *SHOW), 126, stdout="", stderr=one_line(".*space or colon.*"))


# ---- help, table, summary -----------------------------------------------------------------------------------

def table_names():
    result = nonreuse("options")
    require_end(result, 0)
    return re.findall(r"^([a-z][a-z_]*) +(?!default )\S", result.stdout.split("name ", 1)[1], re.MULTILINE)


@case
def help_is_the_table(_folder):
    names = table_names()
    require(len(names) >= 12 and "percent" in names and "stats_dir" in names, f"table: {names}")
    result = nonreuse("run", "--help")
    require_end(result, 0)
    for name in names:
        require(f"--{name}" in result.stdout, f"the help lacks --{name}:\n{result.stdout}")
    require("nonreuse run [OPTIONS] -- PROGRAM" in result.stdout, result.stdout)
    require_end(run("/bin/sh", "-c", 'echo "$1"', "x", "--help"), 0, stdout="--help\n")


@case
def version(_folder):
    result = nonreuse("--version")
    require_end(result, 0)
    require(re.fullmatch(r"nonreuse \d+\.\d+\.\d+\n", result.stdout), result.stdout)


CHURN = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>
int main(int argc, char** argv) {
  int children = argc > 1 ? atoi(argv[1]) : 0;
  for (int i = 0; i < children; ++i) if (fork() == 0) break; else if (i + 1 == children) while (wait(0) > 0) { }
  for (int round = 0; round < 300000; ++round) {
    char* p = malloc(1000);
    if (!p) return 1;
    memset(p, 1, 1000);
    free(p);
  }
  return 0;
}
"""


def figure(text, pattern):
    match = re.search(pattern, text)
    require(match, f"no {pattern!r} in:\n{text}")
    return match.group(1)


@case
def summary_has_figures(folder):
    program = compile_c(folder, "churn", CHURN, "-fno-builtin")
    result = nonreuse("run", "--min", "1M", "--", program)
    require_end(result, 0, stdout="", stderr=None)
    text = result.stderr
    require(all(line.startswith("nonreuse: ") for line in text.splitlines()), text)
    require(re.search(r"^nonreuse: churn \(process \d+\)$", text, re.MULTILINE), text)
    require(int(figure(text, r"sweeps +(\d+), \d+ abandoned")) > 0, f"300 MB were freed without a sweep:\n{text}")
    require(not figure(text, r"heap +(\S+ \S+) at most").startswith("0 "), text)
    require("MiB" in figure(text, r"([\d.]+ \S+) freed in all"), text)
    require(re.search(r"protected +1 process", text), text)


@case
def summary_over_processes(folder):
    program = compile_c(folder, "churn", CHURN, "-fno-builtin")
    result = nonreuse("run", "--", program, 3)
    require_end(result, 0, stdout="", stderr=None)
    require(re.search(r"^nonreuse: all 4 protected processes together$", result.stderr, re.MULTILINE), result.stderr)
    blocks = result.stderr.split("together")
    require(len(blocks) == 2, result.stderr)


@case
def a_forks_child_counts_only_its_own(folder):
    source = CHURN.replace("for (int i = 0; i < children; ++i) if (fork() == 0) break; "
                           "else if (i + 1 == children) while (wait(0) > 0) { }", "(void)children;")
    source = source.replace("return 0;\n}", "for (int i = 0; i < 3; ++i) if (fork() == 0) return 0;\n"
                            "  while (wait(0) > 0) { }\n  return 0;\n}")
    result = nonreuse("run", "--", compile_c(folder, "churn", source, "-fno-builtin"))
    require_end(result, 0, stdout="", stderr=None)
    freed = re.findall(r"([\d.]+) MiB freed in all", result.stderr)
    require(len(freed) == 2 and float(freed[1]) < 1.5 * float(freed[0]), f"freed: {freed}\n{result.stderr}")


@case
def summary_of_a_killed_program(folder):
    program = compile_c(folder, "churn", CHURN.replace("return 0;\n}", "raise(9);\n}").replace(
        "#include <stdlib.h>", "#include <stdlib.h>\n#include <signal.h>"), "-fno-builtin")
    result = nonreuse("run", "--", program)
    require_end(result, -9, stdout="", stderr=None)
    require(re.search(r"sweeps +\d+, ", result.stderr), result.stderr)


@case
def summary_file(folder):
    target = folder / "summary"
    require_end(nonreuse("run", "--summary-file", target, "--", "/bin/true"), 0, stdout="")
    require("sweeps" in target.read_text(encoding="utf-8"), "the summary is not in the file")
    require_end(nonreuse("run", "--summary-file", f"{folder}/none/x", "--", "/bin/echo", "ran"), 2, stdout="",
                stderr=one_line("summary file .*: No such file or directory"))


@case
def nothing_is_left_behind(folder):
    require_end(nonreuse("run", "--", "/bin/sh", "-c", "ls $TMPDIR | wc -l; exit 3",
                         env=environment(TMPDIR=folder)), 3, stdout="1\n", stderr=None)
    require(os.listdir(folder) == [], f"left: {os.listdir(folder)}")
    require_end(nonreuse("run", "--", "/bin/sh", "-c", "kill -9 $$", env=environment(TMPDIR=folder)), -9,
                stdout="", stderr=None)
    require(os.listdir(folder) == [], f"left: {os.listdir(folder)}")
    require_end(nonreuse("run", "--", "/bin/true", env=environment(TMPDIR=f"{folder}/none")), 126, stdout="",
                stderr=one_line("no folder .*"))


@case
def own_statistics_folder(folder):
    pages = folder / "pages"
    pages.mkdir()
    result = nonreuse("run", "--stats-dir", pages, "--", "/bin/true")
    require_end(result, 0, stdout="", stderr=None)
    require("sweeps" in result.stderr, result.stderr)
    require(len(list(pages.iterdir())) == 1, "the page is kept where the user wanted it")


if __name__ == "__main__":
    sys.exit(main())
