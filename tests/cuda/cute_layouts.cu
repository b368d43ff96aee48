// A second opinion on csrc/cuda/platform/hopper.cuh: what CuTe, of NVIDIA's CUTLASS, holds the layouts of warpgroup
// products to be. Runs on the host; test_cute.py compiles it. Prints a line for each fact and how often it differs.
#include <cstdio>
#include <cute/arch/mma_sm90_desc.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>

#include "cuda/platform/hopper.cuh"

namespace fc = facetalk::cuda;
using namespace cute;

template <int kRows>
int layout_differences() {
  const auto layout = as_position_independent_swizzle_layout(
      tile_to_shape(SM90::GMMA::Layout_K_SW128_Atom<half_t>{}, Shape<Int<kRows>, _64>{}));
  int differ = 0;
  for (int r = 0; r < kRows; ++r) {
    for (int k = 0; k < fc::kSwizzleDepth; ++k) {
      const int ours = r / fc::kSwizzleRows * (fc::kSwizzleBytes / 2) + fc::swizzled(r % fc::kSwizzleRows, k);
      differ += layout(r, k) != ours;
    }
  }
  return differ;
}

int descriptor_differences() {
  int differ = 0;
  for (uint32_t at : {0x400u, 0x8400u, 0x20400u, 0x38000u}) {
    for (int step = 0; step < 4; ++step) {
      GmmaDescriptor theirs;
      theirs.desc_ = 0;
      theirs.bitfield.start_address_ = static_cast<uint16_t>(((at + 32 * step) & 0x3ffff) >> 4);
      theirs.bitfield.leading_byte_offset_ = 1;
      theirs.bitfield.stride_byte_offset_ = fc::kSwizzleBytes / 16;
      theirs.bitfield.layout_type_ = static_cast<uint8_t>(SM90::GMMA::LayoutType::B128);
      theirs.bitfield.base_offset_ = 0;
      differ += theirs.desc_ != fc::wgmma_descriptor_at(at, step);
    }
  }
  return differ;
}

// What hopper.cuh says of a thread's sums, against (thread, value) -> row + 64 column.
template <typename Layout>
int sum_differences(Layout layout, int columns) {
  int differ = 0;
  for (int thread = 0; thread < 128; ++thread) {
    for (int value = 0; value < columns / 2; ++value) {
      const int index = layout(thread, value), lane = thread % 32, tile = value / 4, i = value % 4;
      const int row = 16 * (thread / 32) + lane / 4 + i / 2 * 8, column = 8 * tile + 2 * (lane % 4) + i % 2;
      differ += index % 64 != row || index / 64 != column;
    }
  }
  return differ;
}

int main() {
  std::printf("layout of 64 rows: %d\n", layout_differences<64>());
  std::printf("layout of 144 rows: %d\n", layout_differences<144>());
  std::printf("layout of 256 rows: %d\n", layout_differences<256>());
  std::printf("descriptors: %d\n", descriptor_differences());
  std::printf("sums of 64 columns: %d\n", sum_differences(SM90::GMMA::CLayout_64x64{}, 64));
  std::printf("sums of 144 columns: %d\n", sum_differences(SM90::GMMA::CLayout_64xN<144>{}, 144));
  std::printf("sums of 256 columns: %d\n", sum_differences(SM90::GMMA::CLayout_64x256{}, 256));
}
