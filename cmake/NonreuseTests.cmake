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
include_guard(GLOBAL)
include(GoogleTest)
find_package(Python3 COMPONENTS Interpreter REQUIRED)
find_package(Threads REQUIRED)

set(NONREUSE_TEST_TIMEOUT 120)
set(NONREUSE_TEST_SUPPORT ${PROJECT_SOURCE_DIR}/tests/support)

function(nonreuse_test_program target)
  # clang leaves sized delete out by default; g++ does not.
  target_compile_options(${target} PRIVATE ${NONREUSE_WARNINGS}
    $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-fsized-deallocation>)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src
                                               ${PROJECT_SOURCE_DIR}/tests ${PROJECT_BINARY_DIR}/generated)
endfunction()

function(nonreuse_unit_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "LIBRARIES;LABELS" ${ARGN})
  find_package(GTest QUIET)
  if(NOT GTest_FOUND)
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
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "unit;${arg_LABELS}")
endfunction()

function(nonreuse_test_environment name)
  set(environment
    "NONREUSE_SOURCE_DIR=${PROJECT_SOURCE_DIR}" "NONREUSE_BUILD_DIR=${PROJECT_BINARY_DIR}"
    "NONREUSE_CC=${CMAKE_C_COMPILER}" "NONREUSE_CXX=${CMAKE_CXX_COMPILER}")
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
  add_test(NAME ${name} COMMAND Python3::Interpreter ${NONREUSE_TEST_SUPPORT}/run_program.py
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
  add_test(NAME ${name} COMMAND ${script} ${arg_UNPARSED_ARGUMENTS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "script;${arg_LABELS}")
  nonreuse_test_environment(${name})
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
