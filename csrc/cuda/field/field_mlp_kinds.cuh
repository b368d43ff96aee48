// Which kernel a 16-bit network takes, and launching it: shared by field_mlp.cu, which chooses, and the files
// that hold the kernels of one type each, so that they compile side by side.
#pragma once

#include <algorithm>

#include "cuda/field/field_mlp_mma.cuh"

namespace facetalk::cuda {

// Kernels in the order of preference of a 16-bit network: template arguments of field_mlp_mma. A tile of 128
// points keeps the streamed weights within what L2 delivers; 64 points are for devices whose blocks have 99
// KiB. Where weights stay, tiles of 32 points leave room for 16 warps; with tiles of 64 and eight warps, an H100
// waited most of the time.
template <int kM, int kN, int kR, int kC, int kCh, int kSt>
struct Kind {
  static constexpr int kTilesM = kM, kTilesN = kN, kRows = kR, kColumns = kC, kChunks = kCh, kStages = kSt;
};
using NarrowResident = Kind<2, 8, 1, 4, 1, 0>;
using Narrow = Kind<4, 8, 2, 4, 1, 3>;
using Wide = Kind<4, 8, 2, 4, 2, 3>;
using WideSmall = Kind<4, 4, 1, 8, 2, 3>;
enum : int {
  kNarrowResident = 0,
  kNarrow = 1,
  kWide = 2,
  kWideSmall = 3,
  kColumns32 = 4,
  kColumns16 = 5,
  kWarpgroups = 6,
};

template <typename Visitor>
void visit_kind(int kind, Visitor&& visit) {
  switch (kind) {
    case kNarrowResident:
      return visit(NarrowResident{});
    case kNarrow:
      return visit(Narrow{});
    case kWide:
      return visit(Wide{});
    default:
      return visit(WideSmall{});
  }
}

inline int most_tiles(const FieldDeviceMlp& mlp) {
  int tiles = 0;
  for (int l = 1; l + 1 < mlp.layers; ++l) {
    const int all = tiles_of(mlp.layer[l].outputs);
    for (int c = 0; c < mlp.chunks; ++c)
      tiles = std::max(tiles, split(all, c + 1, mlp.chunks) - split(all, c, mlp.chunks));
  }
  return tiles;
}

template <typename K>
int64_t act_bytes(const FieldDeviceMlp& mlp) {
  const int64_t points = 16 * K::kTilesM * K::kRows;
  const int64_t act = points * mma_stride(mlp) * 2;
  const int64_t last = int64_t{K::kColumns} * points * 8 * tiles_of(mlp.outputs) * 4;
  return std::max(act, last);
}

template <typename K>
using MlpOf =
    MmaMlp<__half, DeformWork, K::kTilesM, K::kTilesN, K::kRows, K::kColumns, K::kChunks, K::kStages>;

// Shared memory of a block but for its weights.
template <typename K>
int64_t fixed_bytes(const FieldDeviceMlp& mlp) {
  using Mlp = MlpOf<K>;
  return Mlp::kGroups *
         (kTileBytes + int64_t{Mlp::kPoints} * mlp.coords * 4 + act_bytes<K>(mlp) + Mlp::kAsideBytes);
}

// Weights that stay: all but the last layer's, which lie at the end.
inline int64_t resident_bytes(const FieldDeviceMlp& mlp) { return 2 * mlp.layer[mlp.layers - 1].weights; }

// Defined for DeformWork and MemberWork, in field_mlp_half.cu and field_mlp_bfloat.cu.
template <typename T, typename Work>
cudaError_t launch_mma(const FieldDeviceMlp& mlp, const FieldPlan& plan, const Work& work, int64_t blocks,
                       cudaStream_t stream);

// The kernel for weights in stages, in field_mlp_wgmma.cu.
bool plan_wgmma(const FieldDeviceMlp& mlp, int64_t shared_limit, FieldPlan& plan);
cudaError_t launch_wgmma(const FieldDeviceMlp& mlp, const FieldPlan& plan, const DeformWork& work,
                         int64_t blocks, cudaStream_t stream);

}  // namespace facetalk::cuda
