#define FACETALK_SIMD_NAMESPACE avx2
#include "cpu/attention/attention_kernels.inl.h"
