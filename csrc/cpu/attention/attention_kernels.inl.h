// Body of attention_kernels_<level>.cpp, which defines FACETALK_SIMD_NAMESPACE. Written with the compiler's
// vector types, so that one text serves every width; no code of the standard library (see CMakeLists.txt).
#include "cpu/attention/attention_kernels.h"

namespace facetalk::cpu::FACETALK_SIMD_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kTile = 2 * kLanes;  // keys of a tile: two vectors of scores
static_assert(kTile <= kAttentionMaxTile);

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef float LooseVec __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
inline Vec splat(float x) { return x - Vec{}; }
inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
// Across lanes, halving in turn: a chain of steps would wait for each of them.
inline float sum(Vec v) {
  alignas(64) float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  }
  return part[0];
}
inline float largest(Vec v) {
#if defined(__AVX512F__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
  // In registers: through memory each step would wait for a store.
  v = larger(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = larger(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  v = larger(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  v = larger(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
  return v[0];
#endif
#endif
  alignas(64) float part[kLanes];
  store(part, v);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) part[i] = part[i] > part[i + half] ? part[i] : part[i + half];
  }
  return part[0];
}
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t padded(int64_t n) { return (n + kAttentionPad - 1) / kAttentionPad * kAttentionPad; }

// e^x for x <= 0: 2^n times the Taylor polynomial of degree 7 on |r| <= ln(2)/2, whose remainder is below
// 6e-9. Below -87 it gives e^-87, about 1e-38; NaN stays NaN.
inline Vec exponential(Vec x) {
  const Vec lowest = splat(-87.0f);
  x = x < lowest ? lowest : x;
  const Vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const Vec shifted = x * 1.44269504089f + magic;
  const Vec n = shifted - magic;
  const Vec r =
      (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts, the first exact in few bits
  Vec p = splat(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Ints exponent = (reinterpret_cast<Ints>(shifted) - reinterpret_cast<Ints>(magic)) << 23;
  return reinterpret_cast<Vec>(reinterpret_cast<Ints>(p) + exponent);
}

// scores (rows, kTile) = query (rows, depth) times keys (depth, kTile), four rows at a time.
void tile_scores(const float* query, int64_t rows, int64_t depth, const float* keys, float scale,
                 float* scores) {
  for (int64_t r = 0; r < rows; r += 4) {
    const float* q[4];
    for (int u = 0; u < 4; ++u) q[u] = query + smaller(r + u, rows - 1) * depth;
    Vec low[4] = {};
    Vec high[4] = {};
    for (int64_t d = 0; d < depth; ++d) {
      const Vec k0 = load(keys + d * kTile);
      const Vec k1 = load(keys + d * kTile + kLanes);
      for (int u = 0; u < 4; ++u) {
        low[u] += q[u][d] * k0;
        high[u] += q[u][d] * k1;
      }
    }
    for (int u = 0; u < 4; ++u) {
      store(scores + (r + u) * kTile, low[u] * scale);
      store(scores + (r + u) * kTile + kLanes, high[u] * scale);
    }
  }
}

// sums (4 rows, stride) += weights (4 rows, kTile) times values (keys, value_stride), over kWide vectors of
// columns.
template <int kWide>
inline void four_rows_values(const float* weights, int64_t keys, const float* values, int64_t value_stride,
                             float* sums, int64_t stride) {
  Vec total[4][kWide];
  for (int u = 0; u < 4; ++u) {
    for (int w = 0; w < kWide; ++w) total[u][w] = load(sums + u * stride + w * kLanes);
  }
  for (int64_t t = 0; t < keys; ++t) {
    Vec v[kWide];
    for (int w = 0; w < kWide; ++w) v[w] = load(values + t * value_stride + w * kLanes);
    for (int u = 0; u < 4; ++u) {
      for (int w = 0; w < kWide; ++w) total[u][w] += weights[u * kTile + t] * v[w];
    }
  }
  for (int u = 0; u < 4; ++u) {
    for (int w = 0; w < kWide; ++w) store(sums + u * stride + w * kLanes, total[u][w]);
  }
}

// The same over all rows and columns, in whole vectors. Two at a time where there are two: eight sums hide
// the time that one multiply-add takes, four do not.
void tile_values(const float* weights, int64_t rows, int64_t keys, const float* values, int64_t value_stride,
                 float* sums, int64_t stride, int64_t columns) {
  for (int64_t r = 0; r < rows; r += 4) {
    const float* four = weights + r * kTile;
    float* to = sums + r * stride;
    int64_t c = 0;
    for (; c + 2 * kLanes <= columns; c += 2 * kLanes) {
      four_rows_values<2>(four, keys, values + c, value_stride, to + c, stride);
    }
    for (; c < columns; c += kLanes)
      four_rows_values<1>(four, keys, values + c, value_stride, to + c, stride);
  }
}

// One step of the online softmax for one row: turns scores of tile keys [from, to) into weights (0 elsewhere)
// against the row's running maximum, and scales what the row has summed so far down to it. The total stays
// spread over lanes.
void update_row(float* scores, int64_t from, int64_t to, float& highest, float* total, float* sums,
                int64_t columns) {
  if (from >= to) {
    for (int t = 0; t < kTile; ++t) scores[t] = 0.0f;
    return;
  }
  const float lowest = -3.402823466e38f;
  for (int64_t t = 0; t < from; ++t) scores[t] = lowest;
  for (int64_t t = to; t < kTile; ++t) scores[t] = lowest;
  const float here = largest(larger(load(scores), load(scores + kLanes)));
  const float top = here > highest ? here : highest;
  const Vec p0 = exponential(load(scores) - top);
  const Vec p1 = exponential(load(scores + kLanes) - top);
  store(scores, p0);
  store(scores + kLanes, p1);
  for (int64_t t = 0; t < from; ++t) scores[t] = 0.0f;
  for (int64_t t = to; t < kTile; ++t) scores[t] = 0.0f;
  if (top > highest) {  // also on the first tile, where sums and total are still 0
    const float shrink = exponential(splat(highest - top))[0];
    store(total, load(total) * shrink);
    for (int64_t c = 0; c < columns; c += kLanes) store(sums + c, load(sums + c) * shrink);
    highest = top;
  }
  store(total, load(total) + (load(scores) + load(scores + kLanes)));
}

// Scratch: transposed keys (depth, kTile), values padded (kTile, columns), scores (rows, kTile), sums (rows,
// columns).
int64_t scratch_size(int64_t depth, int64_t width) {
  return depth * kTile + kTile * padded(width) + kAttentionRows * (kTile + padded(width));
}

void block(const AttentionBlock& b, float* scratch) {
  const int64_t columns = padded(b.width);
  float* keys = scratch;
  float* values = keys + b.depth * kTile;
  float* scores = values + kTile * columns;
  float* sums = scores + kAttentionRows * kTile;
  float highest[kAttentionRows];
  alignas(64) float total[kAttentionRows * kLanes] = {};
  for (int64_t r = 0; r < kAttentionRows; ++r) highest[r] = -3.402823466e38f;
  for (int64_t n = 0; n < kAttentionRows * columns; ++n) sums[n] = 0.0f;
  for (int64_t n = 0; n < kAttentionRows * kTile; ++n) scores[n] = 0.0f;

  const int64_t begin = larger(0, b.first_row - b.left);
  const int64_t end = smaller(b.keys, b.first_row + b.rows + b.right);
  for (int64_t start = begin; start < end; start += kTile) {
    const int64_t count = smaller(kTile, end - start);
    for (int64_t d = 0; d < b.depth; ++d) {
      for (int64_t t = 0; t < kTile; ++t)
        keys[d * kTile + t] = t < count ? b.key[(start + t) * b.depth + d] : 0.0f;
    }
    for (int64_t t = 0; t < count; ++t) {
      const float* from = b.value + (start + t) * b.width;
      for (int64_t c = 0; c < b.width; ++c) values[t * columns + c] = from[c];
      for (int64_t c = b.width; c < columns; ++c) values[t * columns + c] = 0.0f;
    }
    tile_scores(b.query, b.rows, b.depth, keys, b.scale, scores);
    for (int64_t r = 0; r < b.rows; ++r) {
      const int64_t i = b.first_row + r;
      const int64_t from = larger(0, i - b.left - start);
      const int64_t to = smaller(count, i + b.right + 1 - start);
      update_row(scores + r * kTile, from, to, highest[r], total + r * kLanes, sums + r * columns, columns);
    }
    for (int64_t r = b.rows; r < (b.rows + 3) / 4 * 4; ++r) {
      for (int t = 0; t < kTile; ++t) scores[r * kTile + t] = 0.0f;
    }
    tile_values(scores, b.rows, count, values, columns, sums, columns, columns);
  }
  for (int64_t r = 0; r < b.rows; ++r) {
    const int64_t i = b.first_row + r;
    const bool sees = larger(0, i - b.left) < smaller(b.keys, i + b.right + 1);
    const float inverse = sees ? 1.0f / sum(load(total + r * kLanes)) : 0.0f;
    for (int64_t c = 0; c < b.width; ++c) b.out[r * b.width + c] = sums[r * columns + c] * inverse;
  }
}

float dot(const float* a, const float* b, int64_t n) {
  Vec total = {};
  int64_t d = 0;
  for (; d + kLanes <= n; d += kLanes) total += load(a + d) * load(b + d);
  float rest = 0;
  for (; d < n; ++d) rest += a[d] * b[d];
  return sum(total) + rest;
}

void narrow(const AttentionBlock& b) {
  for (int64_t r = 0; r < b.rows; ++r) {
    const int64_t i = b.first_row + r;
    const int64_t from = larger(0, i - b.left);
    const int64_t count = smaller(b.keys, i + b.right + 1) - from;
    float* out = b.out + r * b.width;
    for (int64_t c = 0; c < b.width; ++c) out[c] = 0.0f;
    if (count <= 0) continue;
    alignas(64) float weights[kAttentionNarrow];
    float top = -3.402823466e38f;
    for (int64_t t = 0; t < count; ++t) {
      weights[t] = b.scale * dot(b.query + r * b.depth, b.key + (from + t) * b.depth, b.depth);
      top = weights[t] > top ? weights[t] : top;
    }
    for (int64_t t = count; t < kAttentionNarrow; ++t) weights[t] = top;
    float total = 0;
    for (int64_t t = 0; t < count; t += kLanes) store(weights + t, exponential(load(weights + t) - top));
    for (int64_t t = 0; t < count; ++t) total += weights[t];
    for (int64_t t = 0; t < count; ++t) {
      const float weight = weights[t] / total;
      const float* value = b.value + (from + t) * b.width;
      int64_t c = 0;
      for (; c + kLanes <= b.width; c += kLanes) store(out + c, load(out + c) + weight * load(value + c));
      for (; c < b.width; ++c) out[c] += weight * value[c];
    }
  }
}

}  // namespace

const AttentionKernels kAttention = {&scratch_size, &block, &narrow};

}  // namespace facetalk::cpu::FACETALK_SIMD_NAMESPACE
