# `cmake --install`: library, launcher, header, CMake package, pkg-config file, manual pages.
include_guard(GLOBAL)
include(CMakePackageConfigHelpers)

install(TARGETS dlmalloc_nonreuse nonreuse_static nonreuse_dl EXPORT dlmalloc_nonreuse
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET nonreuse)
  install(TARGETS nonreuse RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

file(GLOB NONREUSE_PUBLIC_HEADERS CONFIGURE_DEPENDS include/*.h include/*.hpp)
install(FILES ${NONREUSE_PUBLIC_HEADERS} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dlmalloc_nonreuse)
install(EXPORT dlmalloc_nonreuse NAMESPACE dlmalloc_nonreuse:: DESTINATION ${package_dir}
        FILE dlmalloc_nonreuseTargets.cmake)
configure_package_config_file(cmake/dlmalloc_nonreuseConfig.cmake.in
  ${PROJECT_BINARY_DIR}/dlmalloc_nonreuseConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dlmalloc_nonreuseConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dlmalloc_nonreuseConfig.cmake
              ${PROJECT_BINARY_DIR}/dlmalloc_nonreuseConfigVersion.cmake DESTINATION ${package_dir})

configure_file(cmake/dlmalloc_nonreuse.pc.in ${PROJECT_BINARY_DIR}/dlmalloc_nonreuse.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dlmalloc_nonreuse.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

foreach(section 1 3 7)
  file(GLOB pages CONFIGURE_DEPENDS docs/man/*.${section})
  if(pages)
    install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
  endif()
endforeach()
