#define FACETALK_SIMD_NAMESPACE avx2
#include "cpu/marching_cubes/marching_cubes_rows.inl.h"
