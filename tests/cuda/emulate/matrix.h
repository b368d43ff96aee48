// Tensor-core operations of one warp with the fragment layouts of the PTX ISA ("Matrix Fragments for
// mma.m16n8k16" and "ldmatrix"), and cp.async. Same names and arguments as csrc/cuda/platform/matrix.cuh.
#pragma once

#include "emulate/intrinsics.h"

#define FACETALK_HERE_PARAMETERS const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace facetalk::cuda {
namespace emulated {

struct MmaOperand {
  const uint32_t* a;
  const uint32_t* b;
  float* d;
};

inline float element16(uint32_t word, int part, const __half*) {
  return __half::of_bits(static_cast<uint16_t>(word >> 16 * part));
}
inline float element16(uint32_t word, int part, const __nv_bfloat16*) {
  return __nv_bfloat16::of_bits(static_cast<uint16_t>(word >> 16 * part));
}

// d += a b for whole matrices put together from the fragments of 32 lanes.
template <int kDepth, typename ReadA, typename ReadB>
void multiply(std::array<MmaOperand*, 32>& all, ReadA read_a, ReadB read_b) {
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float* d = &all[static_cast<size_t>(row % 8 * 4 + column / 2)]->d[row / 8 * 2 + column % 2];
      // Products are exact and summed in double: the hardware's order is not documented, only that it is no
      // worse than float32.
      double sum = *d;
      for (int k = 0; k < kDepth; ++k) sum += static_cast<double>(read_a(row, k)) * read_b(k, column);
      *d = static_cast<float>(sum);
    }
  }
}

template <int kCount, bool kTrans>
void load_matrices(uint32_t (&r)[kCount], const void* row, const facetalk::emulate::Site& site) {
  using facetalk::emulate::machine;
  struct Operand {
    const uint16_t* row;
    uint32_t* r;
  } mine{static_cast<const uint16_t*>(row), r};
  if (machine.current() % 32 < 8 * kCount) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
      machine.fail(site.text() + " of a row not aligned to 16 bytes");
    if (!machine.shared.holds(row, 16)) machine.fail(site.text() + " of a row outside shared memory");
  }
  machine.gather(0xffffffffu, mine, site, [](std::array<Operand*, 32>& all, unsigned) {
    for (int matrix = 0; matrix < kCount; ++matrix) {
      for (int lane = 0; lane < 32; ++lane) {
        const int line = lane / 4;
        const int pair = 2 * (lane % 4);
        auto at = [&](int i, int j) -> uint32_t { return all[static_cast<size_t>(8 * matrix + i)]->row[j]; };
        all[static_cast<size_t>(lane)]->r[matrix] =
            kTrans ? at(pair, line) | at(pair + 1, line) << 16 : at(line, pair) | at(line, pair + 1) << 16;
      }
    }
  });
}

inline void finish_copies(facetalk::emulate::Thread& thread, size_t groups_left) {
  while (thread.groups.size() > groups_left) {
    for (size_t n = 0; n < thread.groups.front(); ++n) {
      const facetalk::emulate::PendingCopy& copy = thread.copies[n];
      std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.valid));
      std::memset(static_cast<char*>(copy.to) + copy.valid, 0, static_cast<size_t>(copy.bytes - copy.valid));
    }
    thread.copies.erase(thread.copies.begin(),
                        thread.copies.begin() + static_cast<std::ptrdiff_t>(thread.groups.front()));
    thread.groups.erase(thread.groups.begin());
  }
}

}  // namespace emulated

template <typename T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], FACETALK_HERE_PARAMETERS) {
  emulated::MmaOperand mine{a, b, d};
  facetalk::emulate::machine.gather(
      0xffffffffu, mine, {"mma_m16n8k16", file, line},
      [](std::array<emulated::MmaOperand*, 32>& all, unsigned) {
        const T* type = nullptr;
        emulated::multiply<16>(
            all,
            [&](int row, int k) {
              const uint32_t word = all[static_cast<size_t>(row % 8 * 4 + k % 8 / 2)]->a[row / 8 + k / 8 * 2];
              return emulated::element16(word, k % 2, type);
            },
            [&](int k, int column) {
              const uint32_t word = all[static_cast<size_t>(column * 4 + k % 8 / 2)]->b[k / 8];
              return emulated::element16(word, k % 2, type);
            });
      });
}

inline float to_tf32(float value) {
  // cvt.rna: to nearest, ties away from zero.
  const unsigned bits = __float_as_uint(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? value : __uint_as_float((bits + 0x1000u) & 0xffffe000u);
}

inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             FACETALK_HERE_PARAMETERS) {
  emulated::MmaOperand mine{a, b, d};
  facetalk::emulate::machine.gather(
      0xffffffffu, mine, {"mma_m16n8k8_tf32", file, line},
      [](std::array<emulated::MmaOperand*, 32>& all, unsigned) {
        auto tf32 = [](uint32_t word) { return __uint_as_float(word & 0xffffe000u); };
        emulated::multiply<8>(
            all,
            [&](int row, int k) {
              return tf32(all[static_cast<size_t>(row % 8 * 4 + k % 4)]->a[row / 8 + k / 4 * 2]);
            },
            [&](int k, int column) { return tf32(all[static_cast<size_t>(column * 4 + k % 4)]->b[k / 4]); });
      });
}

template <int kCount>
void ldmatrix(uint32_t (&r)[kCount], const void* row, FACETALK_HERE_PARAMETERS) {
  emulated::load_matrices<kCount, false>(r, row, {"ldmatrix", file, line});
}
template <int kCount>
void ldmatrix_trans(uint32_t (&r)[kCount], const void* row, FACETALK_HERE_PARAMETERS) {
  emulated::load_matrices<kCount, true>(r, row, {"ldmatrix_trans", file, line});
}

// The copy is done no sooner than its group is waited for, and its place is poisoned (NaN) until then: a
// missing wait reads poison, and so does who still needs what lay there before.
template <int kBytes>
void cp_async(void* shared, const void* global, bool valid = true, FACETALK_HERE_PARAMETERS) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async copies 4, 8 or 16 bytes");
  using facetalk::emulate::machine;
  const facetalk::emulate::Site site{"cp_async", file, line};
  if (!machine.shared.holds(shared, kBytes))
    machine.fail(site.text() + " to an address outside shared memory");
  if (reinterpret_cast<uintptr_t>(shared) % kBytes != 0 ||
      (valid && reinterpret_cast<uintptr_t>(global) % kBytes != 0)) {
    machine.fail(site.text() + " of an address not aligned to " + std::to_string(kBytes) + " bytes");
  }
  std::memset(shared, 0xff, kBytes);
  machine.self().copies.push_back({shared, global, kBytes, valid ? kBytes : 0});
  ++machine.self().open;
}
inline void cp_async_commit() {
  facetalk::emulate::Thread& thread = facetalk::emulate::machine.self();
  thread.groups.push_back(thread.open);
  thread.open = 0;
}
template <int kGroupsLeft>
void cp_async_wait() {
  emulated::finish_copies(facetalk::emulate::machine.self(), kGroupsLeft);
}

inline void named_barrier(int id, int threads, FACETALK_HERE_PARAMETERS) {
  using facetalk::emulate::machine;
  if (id < 1 || id > 15 || threads % 32 != 0) machine.fail("named_barrier with a wrong number");
  machine.wait_at(id, threads, {"named_barrier", file, line}, false);
}

inline float fast_exp2(float v) { return std::exp2(v); }
inline float fast_log2(float v) { return std::log2(v); }
inline float fast_rcp(float v) { return 1.0f / v; }

namespace emulated {
// each(low halves of the registers) and each(high halves), rounded to fp16, in one register.
template <typename Each, typename... Registers>
uint32_t both_halves(Each each, Registers... v) {
  const auto half = [](uint32_t bits) -> float { return __half::of_bits(static_cast<uint16_t>(bits)); };
  const __half low = each(half(v)...), high = each(half(v >> 16)...);
  return low.bits | uint32_t{high.bits} << 16;
}
}  // namespace emulated

inline uint32_t exp2_halves(uint32_t v) {
  return emulated::both_halves([](float x) { return std::exp2(x); }, v);
}
inline uint32_t fma_halves(uint32_t a, uint32_t b, uint32_t c) {
  // Products of two fp16 numbers are exact in double, and so is nearly every sum.
  return emulated::both_halves(
      [](float x, float y, float z) {
        return static_cast<float>(static_cast<double>(x) * y + static_cast<double>(z));
      },
      a, b, c);
}
inline uint32_t max_halves(uint32_t a, uint32_t b) {
  return emulated::both_halves([](float x, float y) { return std::fmax(x, y); }, a, b);
}

}  // namespace facetalk::cuda
#undef FACETALK_HERE_PARAMETERS
