// What kernels are written in, so that their one source runs on the GPU and, in tests, on the host.
//
// nvcc sees CUDA. A host compiler with FACETALK_EMULATE_CUDA sees tests/cuda/emulate, which runs blocks one
// after the other with a fiber per thread; see machine.h there for what it catches. Kernels keep to CUDA's
// own names (threadIdx, __syncthreads, __shfl_*_sync, atomicAdd, __half, ...) and to these, where the two
// worlds differ:
//
//   FACETALK_SHARED(float, tile, [32][33]);    __shared__ float tile[32][33]
//   FACETALK_DYNAMIC_SHARED(float, scratch);   float* of the launch's dynamic shared memory, 1024-aligned
//   launch(kernel, grid, block, bytes, ...)    instead of <<<>>>; returns the launch's own error
//   matrix.cuh                                 mma, ldmatrix, cp.async, named barriers, fast exp2
//   hopper.cuh                                 wgmma, mbarrier, bulk copies, beside a portable path
//   scan.cuh                                   exclusive sum over an array
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <utility>

#include "core/memory.h"

#if defined(FACETALK_EMULATE_CUDA)

#include "emulate/half.h"
#include "emulate/intrinsics.h"
#include "emulate/machine.h"
#include "emulate/runtime.h"
#include "emulate/types.h"

#define FACETALK_SHARED(type, name, ...)       \
  typedef type name##_shared_type __VA_ARGS__; \
  static const char name##_shared_key = 0;     \
  name##_shared_type& name = ::facetalk::emulate::static_shared<name##_shared_type>(&name##_shared_key)
#define FACETALK_DYNAMIC_SHARED(type, name) \
  type* name = reinterpret_cast<type*>(::facetalk::emulate::machine.shared.dynamic())
#define FACETALK_UNROLL(...)

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define FACETALK_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define FACETALK_DYNAMIC_SHARED(type, name)                                  \
  extern __shared__ __align__(1024) unsigned char facetalk_dynamic_shared[]; \
  type* name = reinterpret_cast<type*>(facetalk_dynamic_shared)
#define FACETALK_PRAGMA(text) _Pragma(#text)
#define FACETALK_UNROLL(...) FACETALK_PRAGMA(unroll __VA_ARGS__)

#endif

namespace facetalk::cuda {

// Lets a kernel have as much dynamic shared memory as a block of the current device can. The limit belongs to the
// kernel on the device and not to a launch, so it is always the same: were it each launch's own bytes, two
// threads that launch one kernel with different widths would take each other's away.
inline cudaError_t allow_most_shared(const void* kernel) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> allowed;
  int device = 0, most = 0;
  cudaFuncAttributes attributes;
  cudaError_t status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  const std::lock_guard<std::mutex> lock(mutex);
  if (allowed.count({kernel, device}) != 0) return cudaSuccess;
  status = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status != cudaSuccess) return status;
  status = cudaFuncGetAttributes(&attributes, kernel);
  if (status != cudaSuccess) return status;
  status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                most - static_cast<int>(attributes.sharedSizeBytes));
  if (status == cudaSuccess) allowed.insert({kernel, device});
  return status;
}

// Launches on the stream and returns what the launch itself says; nothing waits. Arguments are converted to
// the kernel's parameters as in a call. More dynamic shared memory than 48 KiB is asked for here.
template <typename... Params, typename... Args>
cudaError_t launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "one argument for each parameter of the kernel");
  const MemoryScope plain({});  // what is kept of kernels outlives the handle that a call is about
  const void* const address = reinterpret_cast<const void*>(kernel);
  cudaError_t status = shared_bytes > 48 * 1024 ? allow_most_shared(address) : cudaSuccess;
  if (status == cudaSuccess) {
    const auto start = [&](Params... values) {
#if defined(FACETALK_EMULATE_CUDA)
      (void)stream;
      return emulate::launch(kernel, grid, block, shared_bytes, values...);
#else
      void* pointers[] = {static_cast<void*>(&values)..., nullptr};
      return cudaLaunchKernel(address, grid, block, pointers, shared_bytes, stream);
#endif
    };
    status = start(static_cast<Args&&>(args)...);
  }
  if (status != cudaSuccess)
    cudaGetLastError();  // it is returned; it must not surface in somebody's next call
  return status;
}

constexpr unsigned kAllLanes = 0xffffffffu;

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace facetalk::cuda
