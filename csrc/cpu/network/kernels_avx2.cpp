#define FACETALK_LEVEL avx2
#include "cpu/network/kernels.inl.h"
