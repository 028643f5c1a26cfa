#!/usr/bin/env bash
# Installs this build into a temporary folder and uses it from there: files, launcher, CMake package with its
# three libraries, pkg-config file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
fail() {
  echo "FAILED: $*"
  exit 1
}

cmake --install "$NONREUSE_BUILD_DIR" --prefix "$prefix" >"$work/install.log"
library_folder=$(dirname "$(find "$prefix" -name libdlmalloc_nonreuse.so)")
for file in bin/nonreuse include/dlmalloc_nonreuse.h share/man/man1/nonreuse.1 share/man/man3/dlmalloc_nonreuse.3; do
  [[ -f $prefix/$file ]] || fail "$file is not installed"
done
for file in libdlmalloc_nonreuse.so libdlmalloc_nonreuse.a libdlmalloc_nonreuse_dl.a \
  pkgconfig/dlmalloc_nonreuse.pc cmake/dlmalloc_nonreuse/dlmalloc_nonreuseConfig.cmake; do
  [[ -f $library_folder/$file ]] || fail "$file is not installed"
done

# The launcher finds the library of its own installation.
preload=$("$prefix/bin/nonreuse" run --no-summary -- /bin/sh -c 'echo $LD_PRELOAD')
[[ $preload == "$library_folder/libdlmalloc_nonreuse.so" ]] || fail "the launcher preloads $preload"

mkdir "$work/user"
cat >"$work/user/plain.c" <<'C'
#include <dlmalloc_nonreuse.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
  for (int i = 0; i < 1000; ++i) free(malloc(100));
  struct nonreuse_statistics statistics;
  if (malloc_revoke() != 0) return 1;
  nonreuse_get_statistics(&statistics);
  printf("swept %d\n", statistics.sweeps > 0 && statistics.freed_bytes >= 100000);
  return 0;
}
C
cat >"$work/user/prefixed.cpp" <<'CXX'
#include <dlmalloc_nonreuse.h>
#include <cstdio>
#include <string>
int main() {
  void* block = dlmalloc(100);
  if (block == nullptr || dlmalloc_usable_size(block) < 100) return 1;
  dlfree(block);
  const std::string text(1000, 'x');  // on the system's heap: new and delete are left alone
  nonreuse_statistics statistics;
  if (dlmalloc_revoke() != 0) return 1;
  nonreuse_get_statistics(&statistics);
  std::printf("freed %d\n", statistics.frees == 1);
}
CXX
cat >"$work/user/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.22)
project(user LANGUAGES C CXX)
find_package(dlmalloc_nonreuse 0.1 REQUIRED)
add_executable(with_shared plain.c)
target_link_libraries(with_shared PRIVATE dlmalloc_nonreuse::shared)
add_executable(with_static plain.c)
target_link_libraries(with_static PRIVATE dlmalloc_nonreuse::static)
add_executable(with_prefix prefixed.cpp)
target_link_libraries(with_prefix PRIVATE dlmalloc_nonreuse::dl)
CMAKE
cmake -S "$work/user" -B "$work/user/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_C_COMPILER="$NONREUSE_CC" -DCMAKE_CXX_COMPILER="$NONREUSE_CXX" >"$work/configure.log" 2>&1 ||
  { cat "$work/configure.log"; fail "the package cannot be found"; }
cmake --build "$work/user/build" >"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "the package cannot be used"; }
for program in with_shared with_static; do
  result=$("$work/user/build/$program")
  [[ $result == "swept 1" ]] || fail "$program printed '$result'"
done
result=$("$work/user/build/with_prefix")
[[ $result == "freed 1" ]] || fail "with_prefix printed '$result'"

if command -v pkg-config >/dev/null; then
  read -ra flags < <(PKG_CONFIG_PATH=$library_folder/pkgconfig pkg-config "--define-variable=prefix=$prefix" --cflags --libs dlmalloc_nonreuse)
  "$NONREUSE_CC" -o "$work/by_pkg_config" "$work/user/plain.c" "${flags[@]}" -Wl,-rpath,"$library_folder"
  [[ $("$work/by_pkg_config") == "swept 1" ]] || fail "the program built by pkg-config does not work"
fi
echo "installed and used"
