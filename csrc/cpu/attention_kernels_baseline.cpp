#define FACETALK_SIMD_NAMESPACE baseline
#include "cpu/attention_kernels.inl.h"
