# facetalk.dll, by MinGW-w64's compiler (cmake/windows.cmake), and what programs are linked with: libfacetalk.dll.a for
# MinGW, facetalk.def for Microsoft's `lib /def:facetalk.def /machine:x64`. The libraries of C++, of GCC and of POSIX
# threads are inside, so that the DLL needs nothing but what comes with Windows.
if(NOT MINGW)
  message(FATAL_ERROR "The DLL is made by MinGW-w64 (cmake/windows.cmake): the sources have vectors of GCC's and Clang's")
endif()
include(cmake/exports.cmake)
facetalk_exports(exported "  ")
list(JOIN exported "\n" exported)
# By name: numbers would be others with the next function.
file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/lib/facetalk.def" CONTENT "LIBRARY facetalk.dll\nEXPORTS\n${exported}\n")
target_sources(facetalk PRIVATE "${CMAKE_BINARY_DIR}/lib/facetalk.def")
set_target_properties(facetalk PROPERTIES PREFIX ""
  RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib" ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
target_link_options(facetalk PRIVATE -static "LINKER:--gc-sections" "LINKER:--exclude-all-symbols")
# Frames of functions are aligned to 16 bytes on Windows, whatever vectors GCC spills to them (its bug 54412): moves that
# want more alignment would stop the program. Debian's GCC makes none, others do.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  foreach(target IN ITEMS core facetalk)
    target_compile_options(${target} PRIVATE "-Wa,-muse-unaligned-vector-move")
  endforeach()
endif()
include(GNUInstallDirs)
install(FILES "${CMAKE_BINARY_DIR}/lib/facetalk.def" DESTINATION ${CMAKE_INSTALL_LIBDIR})
