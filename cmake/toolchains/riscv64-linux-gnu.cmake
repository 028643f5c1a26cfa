# Debian's cross compiler for riscv64; programs run under qemu-user.
#   cmake -S . -B build/riscv64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/riscv64-linux-gnu.cmake
set(processor riscv64)
include(${CMAKE_CURRENT_LIST_DIR}/debian-cross.cmake)
