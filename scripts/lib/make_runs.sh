#!/usr/bin/env bash
# What `make` leaves at the root works: the launcher finds the library beside it, and the settings that were
# given last are in it.
set -euo pipefail
make
./nonreuse --version
./nonreuse run --summary-file build/logs/make-runs-summary -- /bin/sh -c 'echo hello' | grep -x hello
grep 'sweeps' build/logs/make-runs-summary
before=$(cksum <libdlmalloc_nonreuse.so)
export CMAKE_ARGS=-DNONREUSE_LAUNCHER=OFF  # it is the same
make FREEBUF_MODE=0
without=$(cksum <libdlmalloc_nonreuse.so)
FREEBUF_MODE=0 make
again=$(cksum <libdlmalloc_nonreuse.so)
unset CMAKE_ARGS
make
after=$(cksum <libdlmalloc_nonreuse.so)
[[ $before != "$without" ]] || { echo "make FREEBUF_MODE=0 changed nothing"; exit 1; }
[[ $without == "$again" ]] || { echo "a setting in the environment differs from one on the command line"; exit 1; }
[[ $before == "$after" ]] || { echo "plain make did not come back to the defaults"; exit 1; }
