// Small maths that the CPU and kernels share: plain functions, which nvcc compiles for both.
#pragma once

#if defined(__CUDACC__)
#define FACETALK_HOST_DEVICE __host__ __device__
#else
#define FACETALK_HOST_DEVICE
#endif
