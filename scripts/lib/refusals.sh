#!/usr/bin/env bash
# Configurations that must be refused, each with one line that says why.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

refused() {  # description regular-expression command...
  local description=$1 expected=$2
  shift 2
  if "$@" >"$folder/log" 2>&1; then
    echo "$description: was accepted"
    failures=$((failures + 1))
  elif ! grep -qE "$expected" <<<"$(tr -s '\n ' ' ' <"$folder/log")"; then
    echo "$description: the reason is not said:"
    tail -n 15 "$folder/log"
    failures=$((failures + 1))
  else
    echo "$description: refused"
  fi
}

configure() {
  rm -rf "$folder/build"
  cmake -S . -B "$folder/build" -G Ninja -DNONREUSE_TESTS=OFF -DNONREUSE_BENCH=OFF -DNONREUSE_LAUNCHER=OFF "$@"
}

configure_and_build() {
  configure "$@" && cmake --build "$folder/build" --target nonreuse_dl
}

# No 32-bit libraries are needed: the compiler is asked for the pointer's size before it links anything.
printf '#!/bin/sh\nexec cc -m32 -nostdlib -Wl,-e,0 "$@"\n' >"$folder/cc32"
printf '#!/bin/sh\nexec c++ -m32 -nostdlib -Wl,-e,0 "$@"\n' >"$folder/c++32"
chmod +x "$folder/cc32" "$folder/c++32"
if [[ $(uname -m) == x86_64 ]]; then
  refused "a 32-bit build" "32-bit targets are not supported" configure \
    -DCMAKE_C_COMPILER="$folder/cc32" -DCMAKE_CXX_COMPILER="$folder/c++32"
  # A compiler that cannot link tells CMake nothing about the pointer's size.
  for compiler in cc c++; do
    printf '#!/bin/sh\nexec %s -m32 -Wl,--no-such-option "$@"\n' $compiler >"$folder/${compiler}32"
  done
  refused "a 32-bit build that cannot link" "32-bit targets are not supported" configure \
    -DCMAKE_C_COMPILER="$folder/cc32" -DCMAKE_CXX_COMPILER="$folder/c++32" \
    -DCMAKE_C_COMPILER_WORKS=1 -DCMAKE_CXX_COMPILER_WORKS=1
fi
refused "another system" "NetBSD is not supported by this version; Linux is \(FreeBSD is compiled only" configure \
  -DCMAKE_SYSTEM_NAME=NetBSD \
  -DCMAKE_C_COMPILER_WORKS=1 -DCMAKE_CXX_COMPILER_WORKS=1
refused "a setting that is no number" "FREEBUF_MODE=yes is not a number" configure -DFREEBUF_MODE=yes
refused "an unknown sanitizer" "is not one of address, thread, undefined" configure -DNONREUSE_SANITIZE=memory
refused "FREEBUF_MODE=2" "FREEBUF_MODE must be 0 or 1" configure_and_build -DFREEBUF_MODE=2
refused "MALLOC_UTRACE=2" "MALLOC_UTRACE must be 0 or 1" configure_and_build -DMALLOC_UTRACE=2
refused "DEFAULT_FREEBUF_PERCENT=0" "DEFAULT_FREEBUF_PERCENT must be 1 to 10000" configure_and_build \
  -DDEFAULT_FREEBUF_PERCENT=0
refused "NONREUSE_STATIC_HEAP_BYTES=5" "at least 128 MiB" configure_and_build -DNONREUSE_STATIC_HEAP_BYTES=5
exit $((failures > 0))
