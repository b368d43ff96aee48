// Lists of what is wanted, made on the device: flags, their sums, and the numbers of those that are set.
#pragma once

#include "cuda/field/field_launch.cuh"
#include "cuda/head/workplace.h"
#include "cuda/platform/scan.cuh"

namespace facetalk::cuda {

constexpr int kListThreads = 256;

// list: the numbers e whose flag was set, ascending, where sums (n + 1) are what exclusive_sum made of the flags.
__global__ void __launch_bounds__(kListThreads) list_kernel(const int32_t* sums, int64_t n, int64_t* list) {
  const int64_t e = static_cast<int64_t>(blockIdx.x) * kListThreads + threadIdx.x;
  if (e >= n || sums[e + 1] == sums[e]) return;
  list[sums[e]] = e;
}

struct DeviceList {
  const int64_t* numbers = nullptr;
  int64_t count = 0;
};

// Sums flags (n + 1, the last is room) of 0 and 1 in place; how many are set, for which the host waits.
inline int64_t sum_flags(Workplace& place, int32_t* flags, int64_t n) {
  const Piece piece(place);
  const auto stream = static_cast<cudaStream_t>(place.stream());
  auto* scratch = place.take<char>(static_cast<int64_t>(scan_workspace_bytes<int32_t>(n)));
  check(exclusive_sum<int32_t>(flags, flags, n, scratch, stream), "head: sums");
  int32_t total = 0;
  place.download(&total, flags + n, sizeof total);
  return total;
}

// The numbers of flags that are set; flags are sums after it.
inline DeviceList list_flags(Workplace& place, int32_t* flags, int64_t n) {
  DeviceList out;
  out.count = sum_flags(place, flags, n);
  if (out.count == 0) return out;
  auto* numbers = place.take<int64_t>(out.count);
  launch_threads<kListThreads>("head_list", list_kernel, n, place.stream(), flags, n, numbers);
  out.numbers = numbers;
  return out;
}

}  // namespace facetalk::cuda
