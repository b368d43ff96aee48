// Host side of csrc/cuda/platform/portable.h: CUDA's words, vector types and the few runtime calls that launchers use.
// Memory of the "device" is plain memory, streams run at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <utility>

// Names that CUDA reserves. Shared memory is declared by the macros of portable.h, not by __shared__.
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __noinline__
#define __align__(n) __attribute__((aligned(n)))

#define FACETALK_EMULATED_VECTOR(type, name, bytes2, bytes4)                  \
  struct name##1 { type x; };                                                 \
  struct alignas(bytes2) name##2 { type x, y; };                              \
  struct name##3 { type x, y, z; };                                           \
  struct alignas(bytes4) name##4 { type x, y, z, w; };                        \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

FACETALK_EMULATED_VECTOR(float, float, 8, 16)
FACETALK_EMULATED_VECTOR(double, double, 16, 16)
FACETALK_EMULATED_VECTOR(int, int, 8, 16)
FACETALK_EMULATED_VECTOR(unsigned, uint, 8, 16)
FACETALK_EMULATED_VECTOR(short, short, 4, 8)
FACETALK_EMULATED_VECTOR(unsigned short, ushort, 4, 8)
FACETALK_EMULATED_VECTOR(unsigned char, uchar, 2, 4)
FACETALK_EMULATED_VECTOR(long long, longlong, 16, 16)
FACETALK_EMULATED_VECTOR(unsigned long long, ulonglong, 16, 16)
#undef FACETALK_EMULATED_VECTOR

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Numbers as in CUDA's driver_types.h, so that a status read in a test means the same in both worlds.
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorIllegalAddress = 700,
  cudaErrorNotSupported = 801,
  cudaErrorLaunchFailure = 719,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaFuncAttributes {
  size_t sharedSizeBytes = 0;
  int maxDynamicSharedSizeBytes = 0;
};
struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace facetalk::emulate {
constexpr size_t kMostShared =
    227 * 1024;                 // per block, as on sm_90; static shared memory alone at most 48 KiB
constexpr int kProcessors = 3;  // odd and few, so that persistent kernels loop over tiles
constexpr int kDevices = 2;     // that differ only in what was asked of them
constexpr int kUnaskedShared = 48 * 1024;  // dynamic shared memory of a kernel that nobody asked more for

// State of the launches, as a driver keeps it: for each kernel on each device, whoever launches.
inline int current_device = 0;
inline std::map<std::pair<const void*, int>, int> most_dynamic;
inline int most_dynamic_of(const void* kernel) {
  const auto found = most_dynamic.find({kernel, current_device});
  return found == most_dynamic.end() ? kUnaskedShared : found->second;
}
}  // namespace facetalk::emulate

inline const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    default:
      return "error";
  }
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  if (bytes != 0) std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = facetalk::emulate::current_device;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= facetalk::emulate::kDevices) return cudaErrorInvalidDevice;
  facetalk::emulate::current_device = device;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = facetalk::emulate::kProcessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;  // of which the shared memory is, too
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(facetalk::emulate::kMostShared);
      return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  attributes->sharedSizeBytes = 0;  // only a run shows it; shared_memory.h then looks at the sum
  attributes->maxDynamicSharedSizeBytes = facetalk::emulate::most_dynamic_of(kernel);
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > facetalk::emulate::kMostShared) return cudaErrorInvalidValue;
  facetalk::emulate::most_dynamic[{kernel, facetalk::emulate::current_device}] = bytes;
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  *blocks = 1;
  return cudaSuccess;
}
