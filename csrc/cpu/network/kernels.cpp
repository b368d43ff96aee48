#include "cpu/network/kernels.h"

#include "core/cpu_features.h"

namespace facetalk::network {

const NetworkKernels& network_kernels() {
#if defined(__x86_64__)
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return avx512::kNetwork;
    case SimdLevel::kAvx2:
      return avx2::kNetwork;
    default:
      break;
  }
#endif
  return baseline::kNetwork;
}

}  // namespace facetalk::network
