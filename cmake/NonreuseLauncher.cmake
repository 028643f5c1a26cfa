# The launcher. It shares the option table with the library and is an ordinary C++ program otherwise.
include_guard(GLOBAL)

find_package(CLI11 CONFIG QUIET)
find_package(fmt CONFIG QUIET)
find_package(nlohmann_json CONFIG QUIET)
find_path(NONREUSE_ZSTD_INCLUDE zstd.h)
find_library(NONREUSE_ZSTD_LIBRARY zstd)
find_path(NONREUSE_CURSES_INCLUDE ncurses.h)
find_library(NONREUSE_CURSES_LIBRARY ncursesw)
find_library(NONREUSE_TINFO_LIBRARY tinfo)
find_path(NONREUSE_DW_INCLUDE elfutils/libdwfl.h)
find_library(NONREUSE_DW_LIBRARY dw)
find_library(NONREUSE_ELF_LIBRARY elf)
if(NOT CLI11_FOUND OR NOT fmt_FOUND OR NOT nlohmann_json_FOUND OR NOT NONREUSE_ZSTD_INCLUDE OR
   NOT NONREUSE_ZSTD_LIBRARY OR NOT NONREUSE_CURSES_INCLUDE OR NOT NONREUSE_CURSES_LIBRARY OR
   NOT NONREUSE_DW_INCLUDE OR NOT NONREUSE_DW_LIBRARY OR NOT NONREUSE_ELF_LIBRARY)
  message(FATAL_ERROR "dlmalloc_nonreuse: the launcher needs CLI11, fmt, nlohmann-json, zstd, ncurses and libdw "
                      "(Debian: libcli11-dev libfmt-dev nlohmann-json3-dev libzstd-dev libncurses-dev libdw-dev; "
                      "scripts/setup installs them); "
                      "-DNONREUSE_LAUNCHER=OFF builds without it")
endif()

# Pages for browsers hold the files of src/launcher/web and Chart.js (MIT licence), which the launcher carries along.
set(NONREUSE_WEB ${PROJECT_SOURCE_DIR}/src/launcher/web)
find_file(NONREUSE_CHART_JS NAMES chart.min.js chart.umd.js
          PATHS /usr/share/javascript/chart.js /usr/share/nodejs/chart.js/dist NO_DEFAULT_PATH
          DOC "Chart.js, minified, as a browser loads it")
if(NONREUSE_CHART_JS)
  set(NONREUSE_CHART_FILE ${NONREUSE_CHART_JS})
else()
  set(NONREUSE_CHART_FILE /dev/null)
  message(STATUS "dlmalloc_nonreuse: no Chart.js (Debian: libjs-chart.js; scripts/setup installs it): the launcher "
                 "makes no HTML pages")
endif()
set(assets ${PROJECT_BINARY_DIR}/generated/assets.cpp)
configure_file(cmake/assets.cpp.in ${assets} @ONLY)
file(GLOB web_files CONFIGURE_DEPENDS ${NONREUSE_WEB}/*)
set_source_files_properties(${assets} PROPERTIES OBJECT_DEPENDS "${web_files};${NONREUSE_CHART_FILE}")

add_executable(nonreuse ${NONREUSE_LAUNCHER_SOURCES} ${assets} src/base/options.cpp src/base/report.cpp
               src/base/statistics_report.cpp src/platform/linux_maps.cpp)
nonreuse_interface(nonreuse)
target_include_directories(nonreuse PRIVATE src ${PROJECT_BINARY_DIR}/generated)
target_compile_options(nonreuse PRIVATE ${NONREUSE_WARNINGS} -g1)  # the compiler takes less time
target_compile_definitions(nonreuse PRIVATE
  NONREUSE_INSTALL_LIBDIR="${CMAKE_INSTALL_FULL_LIBDIR}")
target_link_libraries(nonreuse PRIVATE CLI11::CLI11 fmt::fmt nlohmann_json::nlohmann_json
                      ${NONREUSE_ZSTD_LIBRARY} ${NONREUSE_CURSES_LIBRARY}
                      ${NONREUSE_DW_LIBRARY} ${NONREUSE_ELF_LIBRARY})
if(NONREUSE_TINFO_LIBRARY)
  target_link_libraries(nonreuse PRIVATE ${NONREUSE_TINFO_LIBRARY})
endif()
target_include_directories(nonreuse PRIVATE ${NONREUSE_ZSTD_INCLUDE} ${NONREUSE_CURSES_INCLUDE})
# Parsers of command lines and JSON are large templates, and nothing of them is worth optimising.
set_source_files_properties(src/launcher/main.cpp src/launcher/replay.cpp src/launcher/trace_stats.cpp
                            src/launcher/trace_html.cpp src/launcher/trace_timeline.cpp
                            src/launcher/dangling_report.cpp src/launcher/reporter.cpp src/launcher/report_html.cpp
                            PROPERTIES COMPILE_OPTIONS "-O1")
