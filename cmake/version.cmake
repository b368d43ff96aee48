# The version is told once, in pyproject.toml. Who builds the C library by CMake alone gets it from there:
# find_package(facetalk 0.1), pkg-config and facetalk_version() would know of none otherwise.
set(package_version "0.0.0")
if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/../pyproject.toml")
  file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../pyproject.toml" package_version REGEX "^version = " LIMIT_COUNT 1)
  string(REGEX REPLACE "^version = \"([0-9.]+)[^\"]*\".*$" "\\1" package_version "${package_version}")
endif()
set(FACETALK_VERSION "${package_version}" CACHE STRING "Version of the library, and what build_info() reports")
