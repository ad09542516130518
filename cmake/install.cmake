# The public library: headers, one static archive, a CMake package and a pkg-config file.
include(CMakePackageConfigHelpers)

install(TARGETS gangway EXPORT gangwayTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS gangway_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/gangway DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY profiles/ DESTINATION ${CMAKE_INSTALL_DATADIR}/gangway/profiles FILES_MATCHING PATTERN "*.profile")
install(FILES completion/gangway.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME gangway)
install(EXPORT gangwayTargets NAMESPACE gangway:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/gangway)

configure_package_config_file(cmake/gangwayConfig.cmake.in ${PROJECT_BINARY_DIR}/gangwayConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/gangway)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/gangwayConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/gangwayConfig.cmake ${PROJECT_BINARY_DIR}/gangwayConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/gangway)

# Relative to the file itself, so that an installed tree may be moved.
file(RELATIVE_PATH GANGWAY_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/gangway.pc.in ${PROJECT_BINARY_DIR}/gangway.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/gangway.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
