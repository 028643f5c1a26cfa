# Debian's cross compiler for riscv64; programs run under qemu-user.
#   cmake -S . -B build/riscv64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/riscv64-linux-gnu.cmake
# -DNONREUSE_QEMU_FLAGS="-p;65536" gives the emulator further arguments (here: pages of 64 KiB).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_C_COMPILER riscv64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER riscv64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /usr/riscv64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-riscv64 -L /usr/riscv64-linux-gnu ${NONREUSE_QEMU_FLAGS})
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES NONREUSE_QEMU_FLAGS)
