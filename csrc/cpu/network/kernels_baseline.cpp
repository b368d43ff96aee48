#define FACETALK_LEVEL baseline
#include "cpu/network/kernels.inl.h"
