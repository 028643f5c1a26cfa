"""How a program for the tested machine is run: as it is, or by an emulator (NONREUSE_EMULATOR, set by CTest)."""
import os
import re
import shlex

# Of these the emulator is told for the program it runs; it would obey some of them itself.
OF_THE_PROGRAM = ("LD_PRELOAD", "NONREUSE_OPTIONS", "NONREUSE_STATS_DIR")


def emulated():
    return bool(os.environ.get("NONREUSE_EMULATOR"))


def for_target(command, environment):
    """The command line and environment for subprocess that run `command` with `environment`."""
    if not emulated():
        return command, environment
    line = shlex.split(os.environ["NONREUSE_EMULATOR"])
    for name in OF_THE_PROGRAM:
        if name in environment:
            line += ["-E", f"{name}={environment[name]}"]
    return line + list(command), {k: v for k, v in environment.items() if k not in OF_THE_PROGRAM}


def of_the_program(standard_error):
    """What the program wrote there (str or bytes): emulators add a line when a signal ends it."""
    if not emulated():
        return standard_error
    pattern = r"(?m)^qemu: uncaught target signal [^\n]*\n"
    if isinstance(standard_error, bytes):
        return re.sub(pattern.encode(), b"", standard_error)
    return re.sub(pattern, "", standard_error)
