#define FACETALK_SIMD_NAMESPACE baseline
#include "cpu/marching_cubes/marching_cubes_rows.inl.h"
