# libnonreuse_stacks.so: the unwinder that the option stacks=1 uses. Only where libunwind is there; without it the
# option records no stacks, and says so.
include_guard(GLOBAL)

find_path(NONREUSE_UNWIND_INCLUDE libunwind.h)
find_library(NONREUSE_UNWIND_LIBRARY unwind)
if(NOT NONREUSE_UNWIND_INCLUDE OR NOT NONREUSE_UNWIND_LIBRARY)
  message(STATUS "dlmalloc_nonreuse: no libunwind (Debian: libunwind-dev): stacks=1 will record no stacks")
  return()
endif()

add_library(nonreuse_stacks SHARED src/companion/stacks.cpp src/companion/faults.cpp)
target_compile_options(nonreuse_stacks PRIVATE ${NONREUSE_WARNINGS} -fno-exceptions -fno-rtti -fvisibility=hidden
                       -fno-threadsafe-statics -funwind-tables -ftls-model=initial-exec)
target_include_directories(nonreuse_stacks PRIVATE src ${NONREUSE_UNWIND_INCLUDE})
target_link_options(nonreuse_stacks PRIVATE -nodefaultlibs -Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete -Wl,-z,defs)
target_link_libraries(nonreuse_stacks PRIVATE ${NONREUSE_UNWIND_LIBRARY} c gcc)
install(TARGETS nonreuse_stacks LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
