// Exclusive sum over a long array, in three launches: sums of tiles, their own scan by one block, and the
// tiles again with what stands before them. Own code rather than CUB, so that it runs in the tests without a
// GPU, and no block waits for another. The array is read twice; counts per row are a small part of the work
// of their users.
//
//   workspace: scan_workspace_bytes<T>(n) bytes, aligned for T
//   T: trivially copyable with operator+; T{} is zero. Sums are taken in a fixed order.
#pragma once

#include "cuda/platform/portable.h"

namespace facetalk::cuda {

constexpr int kScanThreads = 256;
constexpr int kScanItems = 4;  // per thread, neighbours
constexpr int kScanTile = kScanThreads * kScanItems;

template <typename T>
constexpr size_t scan_workspace_bytes(int64_t n) {
  return static_cast<size_t>(ceil_div(n, kScanTile) + 1) * sizeof(T);
}

// Sum of `value` over the threads before this one; `total` is that of the block. All threads of the block
// take part; scratch holds kScanThreads numbers and may be used again after the next barrier.
template <typename T>
__device__ __forceinline__ T exclusive_in_block(T value, T* scratch, T& total) {
  const int thread = static_cast<int>(threadIdx.x);
  scratch[thread] = value;
  __syncthreads();
  for (int step = 1; step < kScanThreads; step *= 2) {
    T sum = scratch[thread];
    if (thread >= step) sum = scratch[thread - step] + sum;
    __syncthreads();
    scratch[thread] = sum;
    __syncthreads();
  }
  total = scratch[kScanThreads - 1];
  return thread > 0 ? scratch[thread - 1] : T{};
}

template <typename T>
__global__ void __launch_bounds__(kScanThreads) scan_tile_sums(const T* in, int64_t n, T* tile_sums) {
  FACETALK_SHARED(T, scratch, [kScanThreads]);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kScanTile + threadIdx.x * kScanItems;
  T sum{};
  for (int item = 0; item < kScanItems; ++item) {
    if (first + item < n) sum = sum + in[first + item];
  }
  T total;
  exclusive_in_block(sum, scratch, total);
  if (threadIdx.x == 0) tile_sums[blockIdx.x] = total;
}

// One block. Leaves the sum of all in out[n], where the caller finds it.
template <typename T>
__global__ void __launch_bounds__(kScanThreads) scan_of_tiles(T* tile_sums, int64_t tiles, T* total_out) {
  FACETALK_SHARED(T, scratch, [kScanThreads]);
  T before{};
  for (int64_t base = 0; base < tiles; base += kScanThreads) {
    const int64_t at = base + threadIdx.x;
    T total;
    const T sum = exclusive_in_block(at < tiles ? tile_sums[at] : T{}, scratch, total);
    if (at < tiles) tile_sums[at] = before + sum;
    before = before + total;
    __syncthreads();  // scratch is used again
  }
  if (threadIdx.x == 0) *total_out = before;
}

template <typename T>
__global__ void __launch_bounds__(kScanThreads)
    scan_apply(const T* in, int64_t n, const T* tile_sums, T* out) {
  FACETALK_SHARED(T, scratch, [kScanThreads]);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kScanTile + threadIdx.x * kScanItems;
  T items[kScanItems];
  T sum{};
  for (int item = 0; item < kScanItems; ++item) {
    items[item] = first + item < n ? in[first + item] : T{};
    sum = sum + items[item];
  }
  T total;
  T before = tile_sums[blockIdx.x] + exclusive_in_block(sum, scratch, total);
  for (int item = 0; item < kScanItems; ++item) {
    if (first + item < n) out[first + item] = before;
    before = before + items[item];
  }
}

// out[i] = in[0] + ... + in[i - 1] for i = 0 ... n: n + 1 numbers, the last is the sum of all. out may be in,
// if it has room for n + 1.
template <typename T>
cudaError_t exclusive_sum(const T* in, T* out, int64_t n, void* workspace, cudaStream_t stream) {
  const int64_t tiles = ceil_div(n, kScanTile);
  if (n < 0 || tiles > 0x7fffffff) return cudaErrorInvalidValue;
  auto* tile_sums = static_cast<T*>(workspace);
  cudaError_t status = cudaSuccess;
  const auto blocks = static_cast<unsigned>(tiles);
  if (tiles > 0) status = launch(scan_tile_sums<T>, blocks, kScanThreads, 0, stream, in, n, tile_sums);
  if (status != cudaSuccess) return status;
  status = launch(scan_of_tiles<T>, 1, kScanThreads, 0, stream, tile_sums, tiles, out + n);
  if (status != cudaSuccess || tiles == 0) return status;
  return launch(scan_apply<T>, blocks, kScanThreads, 0, stream, in, n, tile_sums, out);
}

}  // namespace facetalk::cuda
