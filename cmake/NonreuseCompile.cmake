# How the library and everything around it is compiled and linked.
include_guard(GLOBAL)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g")
# For builds of which many are tested: what the compiler does takes most of their time.
set(CMAKE_C_FLAGS_QUICK "-O1")
set(CMAKE_CXX_FLAGS_QUICK "-O1")
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

option(NONREUSE_WERROR "Warnings are errors" ON)
set(NONREUSE_LINKER "" CACHE STRING "Linker given to -fuse-ld (lld, gold, bfd, mold); empty: the compiler's")
set(NONREUSE_SANITIZE "" CACHE STRING "address, thread, undefined or address,undefined: build the prefixed library and tests so")

set(NONREUSE_WARNINGS -Wall -Wextra -Wshadow)
if(NONREUSE_WERROR)
  list(APPEND NONREUSE_WARNINGS -Werror)
endif()
if(NONREUSE_LINKER)
  add_link_options(-fuse-ld=${NONREUSE_LINKER})
endif()

set(NONREUSE_SANITIZE_FLAGS "")
if(NONREUSE_SANITIZE)
  if(NOT NONREUSE_SANITIZE MATCHES "^(address|thread|undefined|address,undefined)$")
    message(FATAL_ERROR "dlmalloc_nonreuse: NONREUSE_SANITIZE=${NONREUSE_SANITIZE} is not one of "
                        "address, thread, undefined, address,undefined")
  endif()
  set(NONREUSE_SANITIZE_FLAGS -fsanitize=${NONREUSE_SANITIZE} -fno-omit-frame-pointer)
  if(NONREUSE_SANITIZE MATCHES "undefined")
    # vptr needs RTTI, which the library is built without, and probes memory through a pipe, which tests that
    # take all descriptors away make fail.
    list(APPEND NONREUSE_SANITIZE_FLAGS -fno-sanitize-recover=all -fno-sanitize=vptr)
  endif()
  add_compile_options(${NONREUSE_SANITIZE_FLAGS})
  add_link_options(${NONREUSE_SANITIZE_FLAGS})
endif()

# Set by scripts/fuzz: the library gets libFuzzer's coverage counters, the fuzz targets its main().
if(NONREUSE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# No builtin knowledge of the functions that the library itself defines: a compiler that knows malloc turns
# malloc + memset inside calloc into a call of calloc, and drops stores to memory about to be freed.
set(NONREUSE_NO_BUILTINS "")
foreach(name malloc calloc realloc free memalign aligned_alloc posix_memalign)
  list(APPEND NONREUSE_NO_BUILTINS -fno-builtin-${name})
endforeach()

set(NONREUSE_LIBRARY_FLAGS
  $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>
  $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
  $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>
  -funwind-tables  # a failing new throws through the library; not every processor has them by default
  -fvisibility=hidden
  ${NONREUSE_NO_BUILTINS}
  -ftls-model=initial-exec  # the loader's lazy TLS allocation calls malloc
  -fno-plt)
if(NONREUSE_PROCESSOR STREQUAL "aarch64" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND NONREUSE_LIBRARY_FLAGS -mno-outline-atomics)  # those live in libgcc and call getauxval
endif()
if(DEBUG EQUAL 1)
  list(APPEND NONREUSE_LIBRARY_FLAGS -fno-omit-frame-pointer)
endif()

# What a user of the target sees: the header and the settings it was built with.
function(nonreuse_interface target)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_definitions(${target} PUBLIC "$<BUILD_INTERFACE:${NONREUSE_SETTING_DEFINITIONS}>"
    $<BUILD_INTERFACE:NONREUSE_PROBES=${NONREUSE_PROBES_VALUE}>)
endfunction()

# Static probes need a header alone (Debian: systemtap-sdt-dev).
include(CheckIncludeFile)
if(NONREUSE_PROBES)
  check_include_file(sys/sdt.h NONREUSE_HAVE_SDT)
  if(NOT NONREUSE_HAVE_SDT)
    message(STATUS "dlmalloc_nonreuse: no sys/sdt.h (Debian: systemtap-sdt-dev): the library has no tracing probes")
  endif()
endif()
if(NONREUSE_PROBES AND NONREUSE_HAVE_SDT)
  set(NONREUSE_PROBES_VALUE 1)
else()
  set(NONREUSE_PROBES_VALUE 0)
endif()

# A target compiled from the library's sources.
function(nonreuse_library_target target)
  nonreuse_interface(${target})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src
                                               ${PROJECT_BINARY_DIR}/generated)
  target_compile_options(${target} PRIVATE ${NONREUSE_WARNINGS} ${NONREUSE_LIBRARY_FLAGS})
endfunction()

# Files with flags of their own. The kernels that need more than the baseline processor are files of their own
# (*_avx2.cpp, *_avx512.cpp), chosen at run time; nothing else may be compiled with these flags, or it would crash on older machines.
function(nonreuse_source_flags)
  foreach(source IN LISTS ARGN)
    if(source MATCHES "/quiet_handler\\.cpp$")  # catches what a new-handler throws; see there
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-fexceptions")
    endif()
    if(source MATCHES "_avx512\\.cpp$" AND NONREUSE_PROCESSOR STREQUAL "x86_64")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx512f;-mbmi;-mbmi2;-mlzcnt;-mpopcnt")
    endif()
    if(source MATCHES "_avx2\\.cpp$" AND NONREUSE_PROCESSOR STREQUAL "x86_64")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mbmi;-mbmi2;-mlzcnt")
    endif()
  endforeach()
endfunction()

# The preloaded library may need nothing but libc: it is loaded into every program, also into those that have
# no C++ runtime, and a runtime that allocates would come back into the heap that is being set up.
function(nonreuse_link_with_libc_alone target)
  set(exports ${PROJECT_SOURCE_DIR}/cmake/exports.map)
  target_link_options(${target} PRIVATE
    -nodefaultlibs -Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete -Wl,-z,defs -Wl,--hash-style=gnu -Wl,--version-script=${exports})
  set(system_libraries "")
  if(CMAKE_SYSTEM_NAME STREQUAL "FreeBSD")
    set(system_libraries pthread)
    if(CMAKE_SIZEOF_VOID_P EQUAL 16)
      list(PREPEND system_libraries cheri_caprevoke)  # painting the shadow
    endif()
  endif()
  target_link_libraries(${target} PRIVATE ${system_libraries} c gcc)
  set_target_properties(${target} PROPERTIES LINK_DEPENDS ${exports})
  if(NOT NONREUSE_RUNS_HERE)
    return()  # the check knows what a library for Linux may need
  endif()
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND ${PROJECT_SOURCE_DIR}/scripts/check-library --exports ${exports} $<TARGET_FILE:${target}>
    VERBATIM)
endfunction()
