// Launching a kernel that has a thread for each of many things.
#pragma once

#include "cuda/platform/error.h"

namespace facetalk::cuda {

// At least `threads` threads in blocks of kBlock; none where there is nothing to do. Throws CudaError with
// the name.
template <int kBlock, typename... Params, typename... Args>
void launch_threads(const char* name, void (*kernel)(Params...), int64_t threads, void* stream,
                    Args... args) {
  if (threads == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(threads, kBlock)));
  check(launch(kernel, grid, dim3(kBlock), 0, static_cast<cudaStream_t>(stream), args...), name);
}

}  // namespace facetalk::cuda
