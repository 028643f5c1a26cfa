# A CMake toolchain for compiling, on Debian with clang, what is for FreeBSD and CheriBSD: against the headers beside
# this file, which declare just what is used. Nothing can be linked, and nothing is proven but syntax and types.
#   -DNONREUSE_STUB_MACHINE=x86_64 | aarch64 | cheribsd
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES NONREUSE_STUB_MACHINE)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_SYSTEM_NAME FreeBSD)
set(CMAKE_SYSTEM_VERSION 14)
set(CMAKE_C_COMPILER clang)
set(CMAKE_CXX_COMPILER clang++)
set(machine ${NONREUSE_STUB_MACHINE})
if(machine STREQUAL "cheribsd")
  set(machine aarch64)
elseif(NOT machine MATCHES "^(x86_64|aarch64)$")
  message(FATAL_ERROR "NONREUSE_STUB_MACHINE=${machine} is not one of x86_64, aarch64, cheribsd")
endif()
set(CMAKE_SYSTEM_PROCESSOR ${machine})
set(CMAKE_C_COMPILER_TARGET ${machine}-unknown-freebsd14)
set(CMAKE_CXX_COMPILER_TARGET ${machine}-unknown-freebsd14)

# The C++ headers are g++'s, which is installed in any case: what the library takes of them is headers alone.
execute_process(COMMAND g++ -dumpversion OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE)
execute_process(COMMAND g++ -dumpmachine OUTPUT_VARIABLE host OUTPUT_STRIP_TRAILING_WHITESPACE)
string(REGEX MATCH "^[0-9]+" version "${version}")
set(cxx -isystem /usr/include/c++/${version} -isystem /usr/include/${host}/c++/${version})
set(stubs -isystem ${CMAKE_CURRENT_LIST_DIR}/freebsd/include)
set(flags -nostdinc++)
if(NONREUSE_STUB_MACHINE STREQUAL "cheribsd")
  # No compiler here knows capabilities. The macro selects the code; the stubs declare the operations, and widen
  # uintptr_t, so that what takes it for an address is an error.
  list(APPEND flags -D__CHERI_PURE_CAPABILITY__=1 -include ${CMAKE_CURRENT_LIST_DIR}/cheribsd/include/cheri_builtins.h
       -Wconversion -Wno-sign-conversion)
  list(PREPEND stubs -isystem ${CMAKE_CURRENT_LIST_DIR}/cheribsd/include)
endif()
list(JOIN flags " " flags)
list(JOIN stubs " " stubs)
list(JOIN cxx " " cxx)
set(CMAKE_C_FLAGS_INIT "-nostdlibinc ${stubs}")
set(CMAKE_CXX_FLAGS_INIT "-nostdlibinc ${flags} ${stubs} ${cxx}")
