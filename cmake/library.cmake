# The shared library of the C interface. Its soname has the interface's version; only the C functions are exported; the
# C++ library is inside, so that a program in any language needs libc and libm alone. With CUDA the kernels of fields
# and the static runtime are in it too; it loads where there is no driver.
add_library(facetalk SHARED ${runtime_sources} $<TARGET_OBJECTS:core>)
set(library_with_cuda ${with_cuda})
if(FACETALK_PREBUILT)
  set(library_with_cuda OFF) # a bundle has the whole library besides; see scripts/gpu_bundle.py
endif()
if(library_with_cuda)
  target_sources(facetalk PRIVATE $<TARGET_OBJECTS:facetalk_cuda_field> $<TARGET_OBJECTS:facetalk_cuda_head>)
  set_target_properties(facetalk PROPERTIES LINKER_LANGUAGE CUDA CUDA_ARCHITECTURES "${cuda_targets}")
  set_source_files_properties(csrc/capi/field_device.cpp PROPERTIES COMPILE_DEFINITIONS
    "FACETALK_WITH_CUDA=1;FACETALK_CUDA_ARCH_LIST=\"${arch_text}\"")
else()
  if(FACETALK_PREBUILT)
    set(library_note "built without CUDA (FACETALK_PREBUILT)")
  else()
    set(library_note "${cuda_note}")
  endif()
  set_source_files_properties(csrc/capi/field_device.cpp PROPERTIES COMPILE_DEFINITIONS
    "FACETALK_CUDA_NOTE=\"${library_note}\"")
endif()
target_include_directories(facetalk PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/csrc> $<INSTALL_INTERFACE:include>)
target_compile_options(facetalk PRIVATE -Wall -Wextra -ffunction-sections -fdata-sections)
target_compile_definitions(facetalk PRIVATE "FACETALK_VERSION=\"${FACETALK_VERSION}\"")
target_link_libraries(facetalk PRIVATE Threads::Threads)
set_target_properties(facetalk PROPERTIES SOVERSION 0 VERSION ${FACETALK_VERSION}
  LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib"
  LINK_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/capi/exports.map")
if(WIN32)
  include(cmake/dll.cmake)
elseif(APPLE)
  include(cmake/dylib.cmake)
else()
  facetalk_link_portably(facetalk ${library_with_cuda})
  target_link_options(facetalk PRIVATE "LINKER:--gc-sections" "LINKER:--no-undefined"
    "LINKER:--version-script=${CMAKE_CURRENT_SOURCE_DIR}/csrc/capi/exports.map")
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT APPLE)
  target_link_options(facetalk PRIVATE "LINKER:-s")
endif()

# --- `cmake --install`: find_package(facetalk) and pkg-config
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
install(TARGETS facetalk EXPORT facetalk-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES csrc/facetalk.h csrc/facetalk.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT facetalk-targets FILE facetalk-config.cmake NAMESPACE facetalk::
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/facetalk)
write_basic_package_version_file("${CMAKE_BINARY_DIR}/facetalk-config-version.cmake" VERSION ${FACETALK_VERSION}
  COMPATIBILITY SameMajorVersion)
install(FILES "${CMAKE_BINARY_DIR}/facetalk-config-version.cmake" DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/facetalk)
file(RELATIVE_PATH prefix_of_pc "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/facetalk.pc.in facetalk.pc @ONLY)
install(FILES "${CMAKE_BINARY_DIR}/facetalk.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
