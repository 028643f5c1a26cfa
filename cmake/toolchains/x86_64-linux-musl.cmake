# musl beside the C library of this machine (Debian: musl-tools). musl-tools compiles C alone; the library needs
# of C++ the headers, so this takes those of the machine's own libstdc++ over musl's C headers; what these expect
# of the GNU C library is corrected by a header that is included first. Programs in C++ cannot be linked this way:
# the tests are those written in C (docs/machines.md).
#   cmake -S . -B build/musl -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/x86_64-linux-musl.cmake
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER gcc)
set(CMAKE_CXX_COMPILER g++)
set(NONREUSE_MUSL ON)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)  # no program in C++ can be linked

execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=include OUTPUT_VARIABLE compiler_headers
                OUTPUT_STRIP_TRAILING_WHITESPACE)
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -dumpversion OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE)
set(musl_headers /usr/include/x86_64-linux-musl)
# Of the machine's C headers the kernel's alone.
set(kernel_headers ${CMAKE_BINARY_DIR}/kernel-headers)
if(NOT EXISTS ${kernel_headers}/linux)
  file(MAKE_DIRECTORY ${kernel_headers})
  file(CREATE_LINK /usr/include/linux ${kernel_headers}/linux SYMBOLIC)
  file(CREATE_LINK /usr/include/asm-generic ${kernel_headers}/asm-generic SYMBOLIC)
  file(CREATE_LINK /usr/include/x86_64-linux-gnu/asm ${kernel_headers}/asm SYMBOLIC)
endif()
file(WRITE ${kernel_headers}/libstdcxx_on_musl.hpp [[
#pragma once
#define __GLIBC_PREREQ(major, minor) 0
#define __locale_t locale_t
#include <bits/c++config.h>
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK
#undef _GLIBCXX_USE_PTHREAD_RWLOCK_CLOCKLOCK
]])

set(musl_specs "-specs=/usr/lib/x86_64-linux-musl/musl-gcc.specs")
set(CMAKE_C_FLAGS_INIT "${musl_specs} -isystem ${kernel_headers}")
string(JOIN " " CMAKE_CXX_FLAGS_INIT ${musl_specs} -nostdinc -nostdinc++
  "-isystem /usr/include/c++/${version}" "-isystem /usr/include/x86_64-linux-gnu/c++/${version}"
  "-isystem ${musl_headers}" "-isystem ${compiler_headers}" "-isystem ${kernel_headers}"
  "-include ${kernel_headers}/libstdcxx_on_musl.hpp")
