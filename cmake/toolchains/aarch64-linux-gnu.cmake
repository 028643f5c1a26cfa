# Debian's cross compiler for aarch64; programs run under qemu-user.
#   cmake -S . -B build/aarch64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/aarch64-linux-gnu.cmake
set(processor aarch64)
include(${CMAKE_CURRENT_LIST_DIR}/debian-cross.cmake)
