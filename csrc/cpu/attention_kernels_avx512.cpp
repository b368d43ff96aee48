#define FACETALK_SIMD_NAMESPACE avx512
#include "cpu/attention_kernels.inl.h"
