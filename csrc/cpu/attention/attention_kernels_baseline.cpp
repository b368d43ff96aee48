#define FACETALK_SIMD_NAMESPACE baseline
#include "cpu/attention/attention_kernels.inl.h"
