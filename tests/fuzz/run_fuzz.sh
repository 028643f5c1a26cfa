#!/bin/sh
# Builds the libFuzzer target with clang and AddressSanitizer, and fuzzes for some seconds.
# usage: run_fuzz.sh [SECONDS [BUILD_DIRECTORY]]; the corpus is kept in the build directory.
set -eu
seconds=${1:-60}
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${2:-$root/build/fuzz}
command -v clang++ >/dev/null || { echo "skipped: there is no clang++"; exit 77; }
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
  -DNONREUSE_SANITIZE=address -DNONREUSE_FUZZ=ON -DNONREUSE_BENCH=OFF -DNONREUSE_LAUNCHER=OFF >/dev/null
cmake --build "$build" --target fuzz_api -j 2
mkdir -p "$build/corpus"
fuzzer=$(find "$build" -name fuzz_api -type f -perm -u+x | head -n 1)
exec "$fuzzer" -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 \
  -artifact_prefix="$build/" "$build/corpus"
