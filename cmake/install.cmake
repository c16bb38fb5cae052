# What `cmake --install` puts where, and how other projects find it: find_package(tessera) and pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(TESSERA_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/tessera)

add_library(tessera::tessera ALIAS tessera)
install(TARGETS tessera EXPORT tessera
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/tessera DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(DIRECTORY data/mnist data/text DESTINATION ${CMAKE_INSTALL_DATADIR}/tessera/data)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(TARGET tessera_command)
  install(TARGETS tessera_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

install(EXPORT tessera NAMESPACE tessera:: FILE tessera-targets.cmake DESTINATION ${TESSERA_CMAKE_DIR})
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/tessera-config.cmake @ONLY
  CONTENT "include(\"\${CMAKE_CURRENT_LIST_DIR}/tessera-targets.cmake\")\n")
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/tessera-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tessera-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/tessera-config-version.cmake
  DESTINATION ${TESSERA_CMAKE_DIR})

# The prefix follows from the place of the file, so that an installed tree can be moved.
file(RELATIVE_PATH up_from_pkgconfig ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/tessera.pc @ONLY CONTENT
"prefix=\${pcfiledir}/@up_from_pkgconfig@
includedir=\${prefix}/@CMAKE_INSTALL_INCLUDEDIR@
libdir=\${prefix}/@CMAKE_INSTALL_LIBDIR@

Name: tessera
Description: Trains neural networks on CUDA, OpenCL, Vulkan and the CPU
Version: @PROJECT_VERSION@
Libs: -L\${libdir} -ltessera
Cflags: -I\${includedir}
")
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tessera.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(TESSERA_TESTS AND NOT TESSERA_SANITIZE)
  add_test(NAME install COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/tests/install_test.sh ${CMAKE_CURRENT_BINARY_DIR})
  set_tests_properties(install PROPERTIES TIMEOUT 300)
endif()
