// Kernels that prove the emulation of warpgroup products, mbarriers and bulk copies: what works must work,
// what is wrong must be found.
#include "cuda/platform/hopper.cuh"

namespace facetalk::cuda {
namespace {

enum Fault : int {
  kNone,
  kNoInitFence,
  kCopyNotAwaited,
  kStoreNotFenced,
  kSumsNotFenced,
  kSumsNotAwaited,
  kSumsTouched,
  kInputsOverwritten,
  kLoneWarp,
};

// d (64, kColumns) = 1 + a (64, 64) b (kColumns, 64)^T by one warpgroup; a and b come as they lie in shared
// memory.
template <typename T, int kColumns>
__global__ void product(const T* a, const T* b, float* d, int fault) {
  FACETALK_DYNAMIC_SHARED(char, memory);
  constexpr int kInputs = 64 * 64 * 2, kWeights = kColumns * 64 * 2;
  auto* full = reinterpret_cast<uint64_t*>(memory + kInputs + kWeights);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  if (thread == 0) {
    mbarrier_init(full, 1);
    if (fault != kNoInitFence) mbarrier_init_fence();
    mbarrier_arrive_expect(full, kInputs + kWeights);
    bulk_copy(memory, a, kInputs, full);
    bulk_copy(memory + kInputs, b, kWeights, full);
  }
  __syncthreads();
  if (fault != kCopyNotAwaited) mbarrier_wait(full, 0);
  if (fault == kStoreNotFenced && thread == 0) memory[100] = 1;
  __syncthreads();
  if (fault == kLoneWarp && thread >= 32) return;
  float sum[32][4] = {};
  for (int n = 0; n < kColumns / 8; ++n) {
    for (float& one : sum[n]) one = 1.0f;
  }
  if (fault != kSumsNotFenced) wgmma_fence();
  for (int step = 0; step < 4; ++step) {
    wgmma_m64k16<T, kColumns>(sum, wgmma_descriptor(memory, step), wgmma_descriptor(memory + kInputs, step));
  }
  wgmma_commit();
  if (fault == kSumsTouched) sum[1][2] = 0.0f;
  if (fault == kInputsOverwritten) memory[64 * thread] = 1;
  if (fault == kSumsNotAwaited) {
    wgmma_wait<1>();
  } else {
    wgmma_wait_all(sum);
  }
  for (int n = 0; n < kColumns / 8; ++n) {
    for (int i = 0; i < 4; ++i)
      d[(thread / 32 * 16 + i / 2 * 8 + lane / 4) * kColumns + n * 8 + lane % 4 * 2 + i % 2] = sum[n][i];
  }
}

enum RingFault : int { kNoFault, kStageNotEmpty, kWrongParity, kNotReleased, kReleasedTwice, kTooFewBytes };

// Two stages of 128 numbers go round: one warp sends, a warpgroup adds up.
__global__ void ring(const float* in, float* out, int rounds, int fault) {
  FACETALK_DYNAMIC_SHARED(float, stages);
  auto* full = reinterpret_cast<uint64_t*>(stages + 256);
  uint64_t* empty = full + 2;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int s = 0; s < 2; ++s) {
      mbarrier_init(full + s, 1);
      mbarrier_init(empty + s, 128);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (thread >= 128) {
    for (int i = 0; i < rounds && thread == 128; ++i) {
      const uint32_t round = static_cast<uint32_t>(i / 2) % 2;
      if (fault != kStageNotEmpty) mbarrier_wait(empty + i % 2, round ^ 1u);
      mbarrier_arrive_expect(full + i % 2, fault == kTooFewBytes ? 496 : 512);
      bulk_copy(stages + 128 * (i % 2), in + 128 * i, 512, full + i % 2);
    }
    return;
  }
  float total = 0.0f;
  for (int i = 0; i < rounds; ++i) {
    const uint32_t round = static_cast<uint32_t>(i / 2) % 2;
    mbarrier_wait(full + i % 2, fault == kWrongParity ? round ^ 1u : round);
    total += stages[128 * (i % 2) + 127 - thread];
    if (fault != kNotReleased) mbarrier_arrive(empty + i % 2);
    if (fault == kReleasedTwice && i == 0) mbarrier_arrive(empty);
  }
  out[thread] = total;
}

template <typename T>
int product_of(int columns, const uint16_t* a, const uint16_t* b, float* d, int fault) {
  const auto run = [&](auto kernel) {
    return facetalk::cuda::launch(kernel, 1, 128, static_cast<size_t>((64 + columns) * 128 + 8), nullptr,
                                  reinterpret_cast<const T*>(a), reinterpret_cast<const T*>(b), d, fault);
  };
  return columns == 64 ? run(product<T, 64>) : columns == 144 ? run(product<T, 144>) : run(product<T, 256>);
}

}  // namespace
}  // namespace facetalk::cuda

namespace fc = facetalk::cuda;

extern "C" {
int test_product_half(int64_t columns, const uint16_t* a, const uint16_t* b, float* d, int64_t fault) {
  return fc::product_of<__half>(static_cast<int>(columns), a, b, d, static_cast<int>(fault));
}
int test_product_brain(int64_t columns, const uint16_t* a, const uint16_t* b, float* d, int64_t fault) {
  return fc::product_of<__nv_bfloat16>(static_cast<int>(columns), a, b, d, static_cast<int>(fault));
}
int test_ring(const float* in, float* out, int64_t rounds, int64_t fault) {
  return fc::launch(fc::ring, 1, 160, 1024 + 32, nullptr, in, out, static_cast<int>(rounds),
                    static_cast<int>(fault));
}
}
