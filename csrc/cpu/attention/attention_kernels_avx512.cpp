#define FACETALK_SIMD_NAMESPACE avx512
#include "cpu/attention/attention_kernels.inl.h"
