# The launcher. It shares the option table with the library and is an ordinary C++ program otherwise.
include_guard(GLOBAL)

find_package(CLI11 CONFIG QUIET)
find_package(fmt CONFIG QUIET)
if(NOT CLI11_FOUND OR NOT fmt_FOUND)
  message(FATAL_ERROR "dlmalloc_nonreuse: the launcher needs CLI11 and fmt (Debian: libcli11-dev libfmt-dev; "
                      "scripts/setup installs them); -DNONREUSE_LAUNCHER=OFF builds without it")
endif()

add_executable(nonreuse ${NONREUSE_LAUNCHER_SOURCES} src/base/options.cpp src/base/report.cpp)
nonreuse_interface(nonreuse)
target_include_directories(nonreuse PRIVATE src ${PROJECT_BINARY_DIR}/generated)
target_compile_options(nonreuse PRIVATE ${NONREUSE_WARNINGS})
target_compile_definitions(nonreuse PRIVATE
  NONREUSE_INSTALL_LIBDIR="${CMAKE_INSTALL_FULL_LIBDIR}")
target_link_libraries(nonreuse PRIVATE CLI11::CLI11 fmt::fmt)
