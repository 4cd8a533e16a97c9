# cmake --install: headers, both libraries, mote.pc, the CMake package, the program with its man page,
# completions and helper.
include(CMakePackageConfigHelpers)
# Both files find the prefix from where they lie, so that the installed tree may be moved.
file(RELATIVE_PATH MOTE_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH MOTE_CONFIG_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/cmake/mote ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/mote.pc.in ${CMAKE_CURRENT_BINARY_DIR}/mote.pc @ONLY)
configure_file(cmake/moteConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/moteConfig.cmake @ONLY)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/moteConfigVersion.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS mote_shared mote_static FILE_SET HEADERS)
install(TARGETS mote RUNTIME)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mote.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/moteConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/moteConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mote)
install(PROGRAMS tools/fetch-wheel.py DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/mote)
install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/mote/models OPTIONAL)
install(FILES LICENSE NOTICE README.md CHANGELOG.md SECURITY.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${MOTE_GENERATED}/mote.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${MOTE_GENERATED}/mote.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME mote)
install(FILES ${MOTE_GENERATED}/mote.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _mote)
install(FILES ${MOTE_GENERATED}/mote.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
