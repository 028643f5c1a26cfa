# What the toolchain files of Debian's cross compilers share; they set `processor` and include this. Programs run
# under qemu-user; -DNONREUSE_QEMU_FLAGS="-p;65536" gives the emulator further arguments (here: pages of 64 KiB).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${processor})
set(CMAKE_C_COMPILER ${processor}-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER ${processor}-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /usr/${processor}-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-${processor} -L /usr/${processor}-linux-gnu ${NONREUSE_QEMU_FLAGS})
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES NONREUSE_QEMU_FLAGS)
