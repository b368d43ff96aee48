# find_package(facetalk) for the C library of the Python package: `python -m facetalk --cmakedir` says where this
# file is. It gives facetalk::facetalk, as an installation of the C library alone does (cmake/library.cmake).
get_filename_component(facetalk_package "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
set(facetalk_library "${facetalk_package}/lib/libfacetalk.so")
if(NOT EXISTS "${facetalk_library}" OR NOT EXISTS "${facetalk_package}/include/facetalk.h")
  set(facetalk_FOUND FALSE)
  set(facetalk_NOT_FOUND_MESSAGE "${facetalk_package} has no C library: build or install the package again")
elseif(NOT TARGET facetalk::facetalk)
  add_library(facetalk::facetalk SHARED IMPORTED)
  set_target_properties(facetalk::facetalk PROPERTIES
    IMPORTED_LOCATION "${facetalk_library}"
    IMPORTED_SONAME libfacetalk.so.0
    INTERFACE_INCLUDE_DIRECTORIES "${facetalk_package}/include")
endif()
unset(facetalk_library)
unset(facetalk_package)
