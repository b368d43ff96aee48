# Libraries that load on glibc 2.28 (manylinux_2_28), built on a machine with a newer one: csrc/glibc/older.c says how.
# Release alone, since the sanitizers put functions of their own in between. Other processors keep their machine's versions.
include(CheckSourceCompiles)
set(with_older_glibc OFF)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$"
   AND CMAKE_BUILD_TYPE STREQUAL "Release")
  check_source_compiles(CXX "
    #include <features.h>
    #if !defined(__GLIBC__) || !__GLIBC_PREREQ(2, 36)
    #error of another C library, or of a glibc whose symbols older.c does not know
    #endif
    int main() {}" FACETALK_NEW_GLIBC)
  set(with_older_glibc ${FACETALK_NEW_GLIBC})
endif()

# The C++ library goes in, since an older machine's is too old; libc and libm stay shared. `with_cuda`: the static CUDA runtime is in it.
function(facetalk_link_portably target with_cuda)
  target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc)
  if(NOT with_older_glibc)
    return()
  endif()
  file(STRINGS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/glibc/older.c" lines REGEX "^(OLDER|OURS|MAYBE)\\(")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[A-Z]+\\(([a-z ]+, )?([a-z0-9_]+),.*" "\\2" name "${line}")
    target_link_options(${target} PRIVATE "LINKER:--wrap=${name}")
  endforeach()
  add_library(${target}_glibc OBJECT csrc/glibc/older.c)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_glibc>)
  if(with_cuda)
    target_compile_definitions(${target}_glibc PRIVATE FACETALK_WITH_CUDA=1)
    # On a newer machine these are empty, and would be left out; on an older one threads and dlopen() are in them.
    target_link_options(${target} PRIVATE "LINKER:--push-state,--no-as-needed" "-l:libpthread.so.0" "-l:libdl.so.2"
      "-l:librt.so.1" "LINKER:--pop-state")
  endif()
endfunction()
