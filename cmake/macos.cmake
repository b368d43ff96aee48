# A toolchain for macOS by zig (the wheel ziglang), which brings the system's headers and stubs, for both processors:
#   cmake -S . -B build/macos -DCMAKE_TOOLCHAIN_FILE=cmake/macos.cmake -DFACETALK_PYTHON=OFF -DFACETALK_MACOS_PROCESSOR=arm64
set(FACETALK_MACOS_PROCESSOR arm64 CACHE STRING "arm64 or x86_64")
set(FACETALK_ZIG zig CACHE STRING "The program zig, of the wheel ziglang or another")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FACETALK_MACOS_PROCESSOR FACETALK_ZIG)
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR ${FACETALK_MACOS_PROCESSOR})
string(REPLACE "arm64" "aarch64" zig_processor "${FACETALK_MACOS_PROCESSOR}")
set(CMAKE_C_COMPILER "${FACETALK_ZIG}" cc -target ${zig_processor}-macos.11.0)
set(CMAKE_CXX_COMPILER "${FACETALK_ZIG}" c++ -target ${zig_processor}-macos.11.0)
# zig brings all of it; what CMake would look for is Apple's.
set(CMAKE_OSX_SYSROOT "")
set(CMAKE_OSX_ARCHITECTURES "")
set(CMAKE_OSX_DEPLOYMENT_TARGET "")
set(CMAKE_INSTALL_NAME_TOOL "false") # nothing is renamed; cmake/dylib.cmake
