# The compile-time settings of include/dlmalloc_nonreuse.h. A setting that is not given keeps the header's
# default; one that is given (-DFREEBUF_MODE=0) reaches the library, the tests and the benchmarks alike.
include_guard(GLOBAL)

set(NONREUSE_SETTINGS USE_LOCKS USE_SPIN_LOCKS USE_RECURSIVE_LOCKS HAVE_MMAP MAX_RELEASE_CHECK_RATE
  FREEBUF_MODE DEFAULT_FREEBUF_PERCENT DEFAULT_SWEEP_SIZE SWEEP_STATS MALLOC_UTRACE DEBUG
  NONREUSE_STATIC_HEAP_BYTES)

set(NONREUSE_SETTING_DEFINITIONS "")
foreach(setting IN LISTS NONREUSE_SETTINGS)
  set(${setting} "" CACHE STRING "Compile-time setting, see include/dlmalloc_nonreuse.h; empty: its default")
  if(NOT "${${setting}}" STREQUAL "")
    if(NOT "${${setting}}" MATCHES "^[0-9]+$")
      message(FATAL_ERROR "dlmalloc_nonreuse: ${setting}=${${setting}} is not a number")
    endif()
    list(APPEND NONREUSE_SETTING_DEFINITIONS "${setting}=${${setting}}")
  endif()
endforeach()
