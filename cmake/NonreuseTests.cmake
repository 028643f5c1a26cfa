# How tests are added. Three kinds; each ends up as CTest entries with labels and a time limit.
#
#   nonreuse_unit_test(name source... [LIBRARIES lib...] [LABELS label...] [TIMEOUT seconds])
#     GoogleTest cases over the prefixed library (dlmalloc, dlfree, ...) and the sources' own headers.
#     Built under the sanitizers, too. Every TEST is a CTest entry: name.Suite.Case.
#
#   nonreuse_program_test(name SOURCES source... [ARGS arg...] [OPTIONS text] [EXIT status] [SIGNAL name]
#                         [STDERR regex] [STDOUT regex] [LABELS label...] [TIMEOUT seconds] [LINK lib...])
#     A small program run with the shared library preloaded. It must end as said: with exit status 0 unless
#     EXIT or SIGNAL says otherwise. STDERR and STDOUT are regular expressions that the whole output must
#     match; without STDERR nothing may be written there. NO_PRELOAD runs it plain.
#
#   nonreuse_script_test(name script [arg...] [LABELS ...] [TIMEOUT ...])
#     Any executable script. Its environment has NONREUSE_LIBRARY, NONREUSE_LAUNCHER, NONREUSE_BUILD_DIR,
#     NONREUSE_SOURCE_DIR, NONREUSE_CC, NONREUSE_CXX. Exit status 77 is a skip: print why.
#
#   nonreuse_script_cases(prefix script [arg...] [LABELS ...] [TIMEOUT ...] [ENVIRONMENT NAME=value...])
#     A script of many cases (tests/support/cases.py). Each that `script --list` prints is an entry, PREFIX.CASE;
#     it is run as `script arg... CASE`.
#
# Where CMAKE_CROSSCOMPILING_EMULATOR runs the programs (docs/machines.md), NONREUSE_EMULATOR holds it for the
# scripts (tests/support/target.py). What cannot be tested there is named before the test is added,
#   nonreuse_not_emulated(reason name...), nonreuse_not_on_musl(reason name...)
# and becomes a test that is skipped for that reason.
include_guard(GLOBAL)
include(GoogleTest)
find_package(Python3 COMPONENTS Interpreter REQUIRED)
find_package(Threads REQUIRED)

set(NONREUSE_TEST_TIMEOUT 120)
set(NONREUSE_TEST_SUPPORT ${PROJECT_SOURCE_DIR}/tests/support)

if(CMAKE_CROSSCOMPILING_EMULATOR)
  set(NONREUSE_EMULATED ON)
  list(JOIN CMAKE_CROSSCOMPILING_EMULATOR " " NONREUSE_EMULATOR)
else()
  set(NONREUSE_EMULATED OFF)
endif()

# Debian's GoogleTest is a library for this machine; for others its sources (package googletest) are built.
if(CMAKE_CROSSCOMPILING AND NOT TARGET GTest::gtest AND EXISTS /usr/src/googletest/CMakeLists.txt)
  set(INSTALL_GTEST OFF)
  add_subdirectory(/usr/src/googletest ${PROJECT_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
endif()

# Names are regular expressions, for whole names.
function(nonreuse_not_emulated reason)
  foreach(name IN LISTS ARGN)
    set_property(GLOBAL APPEND PROPERTY NONREUSE_NOT_EMULATED "${name}")
    set_property(GLOBAL APPEND PROPERTY NONREUSE_NOT_EMULATED_REASONS "${reason}")
  endforeach()
endfunction()

# The same for musl; such tests are not built.
function(nonreuse_not_on_musl reason)
  foreach(name IN LISTS ARGN)
    set_property(GLOBAL PROPERTY "NONREUSE_NOT_ON_MUSL_${name}" "${reason}")
  endforeach()
endfunction()

# A test in the place of one that cannot be built here.
function(nonreuse_skipped_test name reason)
  add_test(NAME ${name} COMMAND ${NONREUSE_TEST_SUPPORT}/skip.sh "${reason}")
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()

# Adds a skip, and sets `skipped`, where the test's program cannot be built: C++ has a runtime library for one C
# library, and musl lacks some functions.
function(nonreuse_skip_unbuildable skipped name)
  set(${skipped} OFF PARENT_SCOPE)
  if(NONREUSE_MUSL)
    get_property(reason GLOBAL PROPERTY "NONREUSE_NOT_ON_MUSL_${name}")
    if("${ARGN}" MATCHES "\\.cpp(;|$)")
      set(reason "there is no C++ runtime for musl here")
    endif()
    if(reason)
      nonreuse_skipped_test(${name} "${reason}")
      set(${skipped} ON PARENT_SCOPE)
    endif()
  endif()
endfunction()

# add_test, or the skip in its place. `added` tells which.
function(nonreuse_add_test added name)
  set(${added} ON PARENT_SCOPE)
  if(NONREUSE_EMULATED)
    get_property(patterns GLOBAL PROPERTY NONREUSE_NOT_EMULATED)
    get_property(reasons GLOBAL PROPERTY NONREUSE_NOT_EMULATED_REASONS)
    foreach(pattern reason IN ZIP_LISTS patterns reasons)
      if(name MATCHES "^(${pattern})$")
        nonreuse_skipped_test(${name} "not under an emulator: ${reason}")
        set(${added} OFF PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endif()
  add_test(NAME ${name} COMMAND ${ARGN})
endfunction()

function(nonreuse_test_program target)
  # clang leaves sized delete out by default; g++ does not.
  target_compile_options(${target} PRIVATE ${NONREUSE_WARNINGS}
    $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-fsized-deallocation>)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src
                                               ${PROJECT_SOURCE_DIR}/tests ${PROJECT_BINARY_DIR}/generated)
endfunction()

function(nonreuse_unit_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "LIBRARIES;LABELS" ${ARGN})
  nonreuse_skip_unbuildable(skipped ${name} ${arg_UNPARSED_ARGUMENTS})
  if(skipped)
    return()
  endif()
  if(NOT TARGET GTest::gtest)
    find_package(GTest QUIET)
  endif()
  if(NOT TARGET GTest::gtest)
    message(FATAL_ERROR "dlmalloc_nonreuse: the tests need GoogleTest (Debian: libgtest-dev libgmock-dev; "
                        "scripts/setup --test installs them); -DNONREUSE_TESTS=OFF builds without them")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT ${NONREUSE_TEST_TIMEOUT})
  endif()
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  nonreuse_test_program(${name})
  target_compile_options(${name} PRIVATE -O1 -g1)  # the compiler takes less time
  target_link_libraries(${name} PRIVATE nonreuse_dl ${arg_LIBRARIES} GTest::gmock_main Threads::Threads)
  # The headers that most of them include are read once; a program of the same flags holds them.
  if(NOT TARGET nonreuse_test_headers)
    file(WRITE ${PROJECT_BINARY_DIR}/generated/test_headers.cpp "")
    add_executable(nonreuse_test_headers EXCLUDE_FROM_ALL ${PROJECT_BINARY_DIR}/generated/test_headers.cpp)
    nonreuse_test_program(nonreuse_test_headers)
    target_compile_options(nonreuse_test_headers PRIVATE -O1 -g1)
    target_link_libraries(nonreuse_test_headers PRIVATE nonreuse_dl GTest::gmock_main Threads::Threads)
    target_precompile_headers(nonreuse_test_headers PRIVATE <gtest/gtest.h> <algorithm> <atomic> <cstdlib>
      <cstring> <map> <memory> <mutex> <random> <set> <string> <thread> <vector>)
  endif()
  target_precompile_headers(${name} REUSE_FROM nonreuse_test_headers)
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "unit;${arg_LABELS}")
endfunction()

function(nonreuse_test_environment name)
  set(environment
    "NONREUSE_SOURCE_DIR=${PROJECT_SOURCE_DIR}" "NONREUSE_BUILD_DIR=${PROJECT_BINARY_DIR}"
    "NONREUSE_CC=${CMAKE_C_COMPILER}" "NONREUSE_CXX=${CMAKE_CXX_COMPILER}")
  if(NONREUSE_EMULATED)
    list(APPEND environment "NONREUSE_EMULATOR=${NONREUSE_EMULATOR}")
  endif()
  if(TARGET dlmalloc_nonreuse)
    list(APPEND environment "NONREUSE_LIBRARY=$<TARGET_FILE:dlmalloc_nonreuse>")
  endif()
  if(TARGET nonreuse)
    list(APPEND environment "NONREUSE_LAUNCHER=$<TARGET_FILE:nonreuse>")
  endif()
  set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT ${environment})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()

function(nonreuse_program_test name)
  if(NOT TARGET dlmalloc_nonreuse)
    return()  # a sanitizer build has no library to preload
  endif()
  cmake_parse_arguments(arg "NO_PRELOAD" "OPTIONS;EXIT;SIGNAL;STDERR;STDOUT;TIMEOUT"
                        "SOURCES;ARGS;LABELS;LINK" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
    message(FATAL_ERROR "nonreuse_program_test(${name}): SOURCES missing, or '${arg_UNPARSED_ARGUMENTS}' unknown")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT ${NONREUSE_TEST_TIMEOUT})
  endif()
  nonreuse_skip_unbuildable(skipped ${name} ${arg_SOURCES})
  if(skipped)
    return()
  endif()
  string(REGEX REPLACE "[^A-Za-z0-9_]" "_" target "${name}")
  add_executable(${target} ${arg_SOURCES})
  nonreuse_test_program(${target})
  target_link_libraries(${target} PRIVATE Threads::Threads ${CMAKE_DL_LIBS} ${arg_LINK})
  # A program that asks the header for a setting must hear what the library was built with.
  target_compile_definitions(${target} PRIVATE ${NONREUSE_SETTING_DEFINITIONS})
  # The programs do on purpose what compilers warn about and remove.
  target_compile_options(${target} PRIVATE -fno-builtin -Wno-error)
  set(expect "")
  foreach(key EXIT SIGNAL STDERR STDOUT OPTIONS)
    if(DEFINED arg_${key})
      string(TOLOWER ${key} flag)
      list(APPEND expect "--${flag}=${arg_${key}}")
    endif()
  endforeach()
  if(NOT arg_NO_PRELOAD)
    list(APPEND expect "--preload=$<TARGET_FILE:dlmalloc_nonreuse>")
  endif()
  math(EXPR inner_timeout "${arg_TIMEOUT} - 5")
  nonreuse_add_test(added ${name} ${Python3_EXECUTABLE} ${NONREUSE_TEST_SUPPORT}/run_program.py
    ${expect} --timeout=${inner_timeout} -- $<TARGET_FILE:${target}> ${arg_ARGS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "program;${arg_LABELS}")
  nonreuse_test_environment(${name})
endfunction()

function(nonreuse_script_test name script)
  if(NOT TARGET dlmalloc_nonreuse)
    return()
  endif()
  cmake_parse_arguments(arg "" "TIMEOUT" "LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT ${NONREUSE_TEST_TIMEOUT})
  endif()
  get_filename_component(script ${script} ABSOLUTE)
  nonreuse_add_test(added ${name} ${script} ${arg_UNPARSED_ARGUMENTS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "script;${arg_LABELS}")
  nonreuse_test_environment(${name})
endfunction()

function(nonreuse_script_cases prefix script)
  cmake_parse_arguments(arg "" "TIMEOUT" "LABELS;ENVIRONMENT" ${ARGN})
  get_filename_component(script ${script} ABSOLUTE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${script})
  execute_process(COMMAND ${Python3_EXECUTABLE} ${script} --list OUTPUT_VARIABLE cases
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" cases "${cases}")
  foreach(case IN LISTS cases)
    nonreuse_script_test(${prefix}.${case} ${script} ${arg_UNPARSED_ARGUMENTS} ${case}
      TIMEOUT ${arg_TIMEOUT} LABELS ${arg_LABELS})
    set_property(TEST ${prefix}.${case} APPEND PROPERTY ENVIRONMENT ${arg_ENVIRONMENT})
  endforeach()
endfunction()

# nonreuse_fuzz_target(name source...): a libFuzzer target. With -DNONREUSE_FUZZ=ON (clang) a libFuzzer program
# under AddressSanitizer, run by scripts/fuzz; otherwise a program that feeds it its corpus (tests/fuzz/corpus/
# NAME) and random inputs for a few seconds, as a test.
option(NONREUSE_FUZZ "Build the fuzz targets with libFuzzer (clang)" OFF)
function(nonreuse_fuzz_target name)
  add_executable(${name} ${ARGN})
  nonreuse_test_program(${name})
  target_compile_options(${name} PRIVATE -O1 -g1)  # the compiler takes less time
  target_link_libraries(${name} PRIVATE nonreuse_dl Threads::Threads)
  set(corpus ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  if(NONREUSE_FUZZ)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/standalone_main.cpp)
    add_test(NAME ${name} COMMAND ${name} 3 ${corpus})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${NONREUSE_TEST_TIMEOUT} LABELS "fuzz")
    nonreuse_test_environment(${name})
  endif()
endfunction()
