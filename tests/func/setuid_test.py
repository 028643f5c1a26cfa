#!/usr/bin/env python3
"""A setuid program that is linked with the library ignores NONREUSE_OPTIONS and the MALLOC_* variables.

The same program without the setuid bit obeys them: that the option does something is shown, too.
"""
import os
import shutil
import subprocess
import sys
import tempfile

SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
int main(void) {
  for (int i = 0; i < 100000; ++i) free(malloc(100));
  printf("secure=%lu\n", getauxval(AT_SECURE));
  return 0;
}
"""
NOBODY = 65534
OPTIONS = {"NONREUSE_OPTIONS": "stats=1:nonsense=1", "MALLOC_MAX_FREEBUF_PERCENT": "nonsense"}


def run(program):
    return subprocess.run([program], env={**OPTIONS, "PATH": "/usr/bin:/bin"}, user=NOBODY, group=NOBODY,
                          extra_groups=[], capture_output=True, text=True, timeout=60, check=False)


def main():
    if os.geteuid() != 0:
        print("skipped: making a setuid program needs root")
        return 77
    directory = tempfile.mkdtemp()
    try:
        os.chmod(directory, 0o755)
        if os.statvfs(directory).f_flag & os.ST_NOSUID:
            print(f"skipped: {directory} is mounted nosuid")
            return 77
        library = shutil.copy(os.environ["NONREUSE_LIBRARY"], os.path.join(directory, "libdlmalloc_nonreuse.so"))
        os.chmod(library, 0o755)
        plain, setuid = os.path.join(directory, "plain"), os.path.join(directory, "setuid")
        subprocess.run([os.environ.get("NONREUSE_CC", "cc"), "-x", "c", "-", "-x", "none", "-fno-builtin", "-o", plain,
                        library, f"-Wl,-rpath,{directory}"], input=SOURCE, text=True, check=True)
        shutil.copy(plain, setuid)
        os.chmod(plain, 0o755)
        os.chmod(setuid, 0o4755)

        obeys, ignores = run(plain), run(setuid)
        for what, result in (("plain", obeys), ("setuid", ignores)):
            print(f"{what}: exit status {result.returncode}, {result.stdout.strip()}, stderr:\n{result.stderr}")
        if obeys.returncode != 0 or ignores.returncode != 0:
            return 1
        if obeys.stdout != "secure=0\n" or "nonsense" not in obeys.stderr or obeys.stderr.count("\n") < 4:
            print("FAILED: the plain program should have complained of the options and printed statistics")
            return 1
        lines = obeys.stderr.splitlines()
        if not all(line.startswith("nonreuse: ") and line.count("nonreuse: ") == 1 for line in lines):
            print("FAILED: every line should begin with 'nonreuse: ', once")
            return 1
        if ignores.stdout != "secure=1\n" or ignores.stderr:
            print("FAILED: the setuid program should have been silent")
            return 1
        return 0
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
