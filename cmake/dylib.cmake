# libfacetalk.dylib, by zig (cmake/macos.cmake), whose C++ library is linked in. Apple's is shared, and gives memory to
# strings that the library would free by its own operator delete (csrc/capi/memory.cpp).
if(CMAKE_CXX_COMPILER_ID STREQUAL "AppleClang")
  message(FATAL_ERROR "Apple's compiler has no C++ library that can be linked in: build by zig, as cmake/macos.cmake does")
endif()
# Found beside the program, and as it is: zig has no tool that renames a library while it is installed.
set_target_properties(facetalk PROPERTIES INSTALL_NAME_DIR "@rpath" BUILD_WITH_INSTALL_NAME_DIR ON)
# zig's linker knows no list of exports. What is not hidden already is operator new, which would take the program's place.
foreach(target IN ITEMS core facetalk)
  target_compile_options(${target} PRIVATE "-fvisibility-global-new-delete=force-hidden")
endforeach()
target_link_options(facetalk PRIVATE "LINKER:-dead_strip")
