// What the marching-cubes kernels share: their view of the grid, signs around a row of cells, the variant
// that cuts a cell, and the work of a warp spread evenly over its lanes.
#pragma once

#include "core/brick_volume.h"
#include "core/marching_cubes_cell.h"
#include "cuda/platform/portable.h"

namespace facetalk::cuda {

// The table of core/marching_cubes_table.h in one piece of memory.
struct McCases {
  static constexpr int kVariants = 656;
  static constexpr int kCorners = 10308;
  uint8_t ambiguous[256];
  uint16_t variant[256];
  uint8_t face_corners[6][4];
  CellVariant variants[kVariants];
  uint8_t corners[kCorners];
};

struct alignas(16) McRowCounts {  // cut edges that start in the row, by axis, and vertices inside its cells
  uint32_t z, y, x, centres;
};

struct alignas(16) McTotals {
  int64_t vertices, faces;
  __host__ __device__ McTotals operator+(const McTotals& other) const {
    return {vertices + other.vertices, faces + other.faces};
  }
};

// Rows run along z and are numbered frame by frame, then by i and j. Signs are packed 64 to a word, bit set
// inside; bits from nz on are 0. A warp works on rows whose words are spread over groups of 2^group_shift
// lanes.
struct McView {
  const float* samples;
  const int32_t* bricks;
  const McCases* cases;
  uint64_t* signs;      // (all_rows, words)
  McRowCounts* counts;  // (all_rows)
  McTotals* totals;     // (all_rows + 1) what lies before a row, over all frames
  int64_t nx, ny, nz;
  int64_t words;           // of a row
  int64_t rows, all_rows;  // of a frame, of all
  int64_t bricks_y, bricks_z, frame_bricks;
  int group_shift;
  float level;
  double origin[3], step[3], margin[3];
};

// 32-bit division where it will do: the 64-bit one takes some seventy instructions.
__device__ __forceinline__ int64_t quotient(int64_t a, int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<int64_t>(static_cast<uint32_t>(a) / static_cast<uint32_t>(b));
  return a / b;
}

struct McPlace {
  int64_t frame, i, j;
};

__device__ __forceinline__ McPlace place_of(const McView& v, int64_t row) {
  const int64_t frame = quotient(row, v.rows);
  const int64_t in_frame = row - frame * v.rows;
  const int64_t i = quotient(in_frame, v.ny);
  return {frame, i, in_frame - i * v.ny};
}

// Number of a stored brick, or what lies in one that is not.
__device__ __forceinline__ int64_t brick_at(const McView& v, const McPlace& at, int64_t k) {
  return v
      .bricks[at.frame * v.frame_bricks +
              ((at.i >> kBrickShift) * v.bricks_y + (at.j >> kBrickShift)) * v.bricks_z + (k >> kBrickShift)];
}

__device__ __forceinline__ int64_t in_brick(int64_t brick, const McPlace& at, int64_t k) {
  return brick * kBrickSamples +
         ((at.i & kBrickMask) << (2 * kBrickShift) | (at.j & kBrickMask) << kBrickShift | (k & kBrickMask));
}

template <bool kBricks>
__device__ __forceinline__ float sample_at(const McView& v, const McPlace& at, int64_t k) {
  if constexpr (kBricks) {
    const int64_t brick = brick_at(v, at, k);
    return brick < 0 ? v.level : v.samples[in_brick(brick, at, k)];
  } else {
    return v.samples[((at.frame * v.nx + at.i) * v.ny + at.j) * v.nz + k];
  }
}

__device__ __forceinline__ bool is_inside(const McView& v, const McPlace& at, int64_t k) {
  return v.signs[(at.frame * v.rows + at.i * v.ny + at.j) * v.words + (k >> 6)] >> (k & 63) & 1;
}

// Word w of a row moved by one sample: bit k holds the sign of sample k + 1.
__device__ __forceinline__ uint64_t shifted(const uint64_t* row, int64_t w, int64_t words) {
  return row[w] >> 1 | (w + 1 < words ? row[w + 1] << 63 : 0);
}

// Bits of word w that start an edge along z, that is k < nz - 1.
__device__ __forceinline__ uint64_t edge_mask(int64_t w, int64_t nz) {
  const int64_t left = nz - 1 - 64 * w;
  return left >= 64 ? ~uint64_t{0} : left <= 0 ? 0 : (uint64_t{1} << left) - 1;
}

// Signs of 64 cells: the four rows around them, [2 * dx + dy], and the same one sample further along z.
struct McQuad {
  uint64_t near[4], far[4];

  __device__ __forceinline__ void load(const McView& v, int64_t row, int64_t w) {
    FACETALK_UNROLL()
    for (int r = 0; r < 4; ++r) {
      const uint64_t* signs = v.signs + (row + (r >> 1) * v.ny + (r & 1)) * v.words;
      near[r] = signs[w];
      far[r] = shifted(signs, w, v.words);
    }
  }
  __device__ __forceinline__ void clear() {
    FACETALK_UNROLL()
    for (int r = 0; r < 4; ++r) near[r] = far[r] = 0;
  }
  // Cells whose eight corners are neither all inside nor all outside.
  __device__ __forceinline__ uint64_t active(uint64_t mask) const {
    const uint64_t any = near[0] | near[1] | near[2] | near[3] | far[0] | far[1] | far[2] | far[3];
    const uint64_t all = near[0] & near[1] & near[2] & near[3] & far[0] & far[1] & far[2] & far[3];
    return any & ~all & mask;
  }
  __device__ __forceinline__ int signs(int bit) const {
    int value = 0;
    FACETALK_UNROLL()
    for (int r = 0; r < 4; ++r) {
      value |= static_cast<int>((near[r] >> bit & 1) << (2 * r) | (far[r] >> bit & 1) << (2 * r + 1));
    }
    return value;
  }
  // Edges cut along an axis: 0-3 along z by row, 4 and 5 along y at dx, 6 and 7 along x at dy.
  __device__ __forceinline__ uint64_t cut(int which, uint64_t mask) const {
    if (which < 4) return (near[which] ^ far[which]) & mask;
    return which < 6 ? near[2 * (which - 4)] ^ near[2 * (which - 4) + 1] : near[which - 6] ^ near[which - 4];
  }
};

// The variant that cuts cell (i, j, k): its case, and for faces with alternating signs the asymptotic
// decider.
template <bool kBricks>
__device__ __forceinline__ CellVariant variant_of(const McView& v, const McPlace& at, int64_t k, int signs) {
  int index = v.cases->variant[signs];
  const unsigned faces = v.cases->ambiguous[signs];
  if (faces != 0) {
    int position = 0;
    for (int f = 0; f < 6; ++f) {
      if ((faces >> f & 1) == 0) continue;
      double value[4];
      FACETALK_UNROLL()
      for (int c = 0; c < 4; ++c) {
        const int corner = v.cases->face_corners[f][c];
        const McPlace there = {at.frame, at.i + (corner >> 2), at.j + (corner >> 1 & 1)};
        value[c] = static_cast<double>(sample_at<kBricks>(v, there, k + (corner & 1))) -
                   static_cast<double>(v.level);
      }
      // Inside at the saddle of the bilinear interpolant exactly when the inside corners' product is the
      // greater.
      const double even = value[0] * value[2];
      const double odd = value[1] * value[3];
      const bool even_inside = signs >> v.cases->face_corners[f][0] & 1;
      index += static_cast<int>(even_inside ? even > odd : odd > even) << position++;
    }
  }
  return v.cases->variants[index];
}

// Sum over the lanes up to this one, of its group of `width` (a power of two).
__device__ __forceinline__ int inclusive_in_group(int value, int lane, int width) {
  for (int step = 1; step < width; step *= 2) {
    const int below = __shfl_up_sync(kAllLanes, value, static_cast<unsigned>(step), width);
    if ((lane & (width - 1)) >= step) value += below;
  }
  return value;
}

// Items of a warp, lane after lane: lane l has `before` items in front of its own. The lane whose item t is.
__device__ __forceinline__ int owner_of(int t, int before) {
  int owner = 0;
  FACETALK_UNROLL()
  for (int step = 16; step > 0; step /= 2) {
    const int candidate = owner + step;
    if (__shfl_sync(kAllLanes, before, candidate) <= t) owner = candidate;
  }
  return owner;
}

// Position of set bit number n, from 0.
__device__ __forceinline__ int select_bit(uint64_t word, int n) {
  int base = 0;
  FACETALK_UNROLL()
  for (int width = 32; width > 0; width /= 2) {
    const int low = __popcll(word & ((uint64_t{1} << width) - 1));
    const bool above = n >= low;
    n -= above ? low : 0;
    word >>= above ? width : 0;
    base += above ? width : 0;
  }
  return base;
}

}  // namespace facetalk::cuda
