# Refuses systems that the library cannot work on, with one line that says why.
include_guard(GLOBAL)

# NONREUSE_OTHER_SYSTEMS: the library's sources that are for other systems than this one.
set(NONREUSE_RUNS_HERE ON)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(NONREUSE_OTHER_SYSTEMS "/src/platform/freebsd_[^/]*$")
elseif(CMAKE_SYSTEM_NAME STREQUAL "FreeBSD")
  # Nothing there looks for pointers in memory: on CheriBSD the kernel revokes, elsewhere nothing is reused.
  set(NONREUSE_OTHER_SYSTEMS "/src/(platform/linux_|revoke/(conservative|memory_scanner|reading_team|scan_))[^/]*$")
  set(NONREUSE_RUNS_HERE OFF)
  message(WARNING "dlmalloc_nonreuse: the files for FreeBSD and CheriBSD were compiled, against headers of this "
                  "project's own, and never run. There are no tests, launcher and benchmarks for this system. "
                  "docs/porting.md says what is known.")
else()
  message(FATAL_ERROR "dlmalloc_nonreuse: ${CMAKE_SYSTEM_NAME} is not supported by this version; Linux is "
                      "(FreeBSD is compiled only, never run).")
endif()
# CMAKE_SIZEOF_VOID_P is empty where CMake could not link a program, so the compiler alone is asked as well.
include(CheckCXXSourceCompiles)
function(nonreuse_detect_narrow_pointers)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  check_cxx_source_compiles("extern int narrow[sizeof(void*) < 8 ? 1 : -1];" NONREUSE_POINTERS_ARE_NARROW)
endfunction()
nonreuse_detect_narrow_pointers()
if(NONREUSE_POINTERS_ARE_NARROW OR (CMAKE_SIZEOF_VOID_P AND CMAKE_SIZEOF_VOID_P LESS 8))
  message(FATAL_ERROR "dlmalloc_nonreuse: 32-bit targets are not supported: the heap reserves one large "
                      "address range. Build for a 64-bit target.")
endif()

# The compiler knows best what it compiles for; CMAKE_SYSTEM_PROCESSOR is the host's in many cross builds.
function(nonreuse_detect_processor result)
  foreach(pair "x86_64:defined(__x86_64__)" "aarch64:defined(__aarch64__)"
               "riscv64:defined(__riscv) && __riscv_xlen == 64")
    string(REPLACE ":" ";" pair "${pair}")
    list(GET pair 0 name)
    list(GET pair 1 condition)
    check_cxx_source_compiles("#if !(${condition})\n#error other\n#endif\nint main() { return 0; }"
                              NONREUSE_PROCESSOR_IS_${name})
    if(NONREUSE_PROCESSOR_IS_${name})
      set(${result} ${name} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${result} unknown PARENT_SCOPE)
endfunction()

nonreuse_detect_processor(NONREUSE_PROCESSOR)
if(NONREUSE_PROCESSOR STREQUAL "unknown")
  message(FATAL_ERROR "dlmalloc_nonreuse: processor '${CMAKE_SYSTEM_PROCESSOR}' is not supported; "
                      "x86-64, aarch64 and riscv64 are.")
endif()
