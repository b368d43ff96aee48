// The networks' inner loops for the instruction set that this file is compiled for. Included by
// kernels_<level>.cpp only, after FACETALK_LEVEL was defined; all of it is in an unnamed namespace.
#include <cstring>

#include "cpu/field/field_simd.inl.h"
#include "cpu/network/kernels.h"

namespace {

using facetalk::network::NetworkKernels;
using facetalk::network::Product;

#if defined(__AVX512F__)
constexpr int kWide = 4;  // vectors of outputs; with 6 rows, 24 of 32 registers
constexpr int kDoubles = 8;
#elif defined(__AVX2__)
constexpr int kWide = 2;  // 12 of 16 registers
constexpr int kDoubles = 4;
#else
constexpr int kWide = 2;
constexpr int kDoubles = 2;
#endif
constexpr int kRows = 6;
constexpr int kOutputs = kWide * kLanes;  // of a panel
constexpr int64_t kRowBlock = 240;        // rows that go through a panel before the next one is read

typedef float LooseVec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef double DoubleVec __attribute__((vector_size(kDoubles * 8)));
typedef double LooseDoubleVec __attribute__((vector_size(kDoubles * 8), aligned(8), may_alias));

FT_INLINE Vec loose(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
FT_INLINE void put(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }

// Up to a vector's worth of values from or to memory that ends after them.
FT_INLINE Vec partial(const float* p, int64_t count) {
  float values[kLanes] = {};
  std::memcpy(values, p, static_cast<size_t>(count) * sizeof(float));
  return loose(values);
}
FT_INLINE void put_partial(float* p, Vec v, int64_t count) {
  float values[kLanes];
  put(values, v);
  std::memcpy(p, values, static_cast<size_t>(count) * sizeof(float));
}

FT_INLINE float total(Vec v) {
  float sum = 0.0f;
  for (int i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}

template <int kCount>
void tile(const Product& p, const float* x, const float* panel, const float* bias, float* out, int columns) {
  Vec sum[kCount][kWide];
#pragma GCC unroll 6
  for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kWide; ++v) sum[r][v] = loose(bias + v * kLanes);
  }
  const float* row[kCount];
#pragma GCC unroll 6
  for (int r = 0; r < kCount; ++r) row[r] = x + r * p.stride;
  for (int k = 0; k < p.inputs; ++k, panel += kOutputs) {
    Vec weight[kWide];
#pragma GCC unroll 4
    for (int v = 0; v < kWide; ++v) weight[v] = load(panel + v * kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < kCount; ++r) {
      const Vec value = splat(row[r][k]);
#pragma GCC unroll 4
      for (int v = 0; v < kWide; ++v) sum[r][v] += value * weight[v];
    }
  }
  for (int r = 0; r < kCount; ++r, out += p.out_stride) {
    for (int v = 0; v < kWide; ++v) {
      const int left = columns - v * kLanes;
      if (left >= kLanes) {
        put(out + v * kLanes, sum[r][v]);
      } else if (left > 0) {
        put_partial(out + v * kLanes, sum[r][v], left);
      }
    }
  }
}

using Tile = void (*)(const Product&, const float*, const float*, const float*, float*, int);
constexpr Tile kTile[kRows + 1] = {nullptr, tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};

void product(const Product& p) {
  for (int64_t block = 0; block < p.rows; block += kRowBlock) {
    const int64_t end = block + kRowBlock < p.rows ? block + kRowBlock : p.rows;
    for (int first = 0; first < p.outputs; first += kOutputs) {
      const float* panel = p.weights + static_cast<int64_t>(first) * p.inputs;
      const int columns = p.outputs - first < kOutputs ? p.outputs - first : kOutputs;
      for (int64_t row = block; row < end; row += kRows) {
        const int64_t count = end - row < kRows ? end - row : kRows;
        kTile[count](p, p.x + row * p.stride, panel, p.bias + first, p.out + row * p.out_stride + first,
                     columns);
      }
    }
  }
}

void layer_norm(const float* x, int64_t rows, int width, const float* gain, const float* bias, float epsilon,
                float* out) {
  const int whole = width / kLanes * kLanes, rest = width - whole;
  for (int64_t row = 0; row < rows; ++row, x += width, out += width) {
    Vec sum = {};
    for (int i = 0; i < whole; i += kLanes) sum += loose(x + i);
    if (rest) sum += partial(x + whole, rest);
    const Vec mean = splat(total(sum) / static_cast<float>(width));
    Vec squares = {};
    for (int i = 0; i < whole; i += kLanes) {
      const Vec d = loose(x + i) - mean;
      squares += d * d;
    }
    float variance = total(squares);
    for (int i = whole; i < width; ++i) variance += (x[i] - mean[0]) * (x[i] - mean[0]);
    const float scale = 1.0f / __builtin_sqrtf(variance / static_cast<float>(width) + epsilon);
    const Vec factor = splat(scale);
    for (int i = 0; i < whole; i += kLanes)
      put(out + i, (loose(x + i) - mean) * factor * loose(gain + i) + loose(bias + i));
    for (int i = whole; i < width; ++i) out[i] = (x[i] - mean[0]) * scale * gain[i] + bias[i];
  }
}

// Nothing below e^-40, which adds nothing to a sum of floats: products with numbers too small for a full mantissa
// take a hundred times as long.
FT_INLINE Vec exp_negative_abs(Vec x) {
  return exp2_accurate(max(negative_abs(x), splat(-40.0f)) * splat(1.44269504088896340736f));
}

// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: absolute error of erf below 1.5e-7.
FT_INLINE Vec gelu_of(Vec x) {
  const Vec z = max(x, -x) * splat(0.70710678118654752440f);
  const Vec t = splat(1.0f) / (splat(1.0f) + splat(0.3275911f) * z);
  Vec p = splat(1.061405429f);
  p = p * t + splat(-1.453152027f);
  p = p * t + splat(1.421413741f);
  p = p * t + splat(-0.284496736f);
  p = p * t + splat(0.254829592f);
  const Vec tail = splat(0.5f) * p * t * exp_negative_abs(z * z);  // (1 - erf z) / 2
  return x * (x < Vec{} ? tail : splat(1.0f) - tail);
}

FT_INLINE Vec silu_of(Vec x) {
  const Vec e = exp_negative_abs(x);
  return x * (x < Vec{} ? e : splat(1.0f)) / (splat(1.0f) + e);
}

FT_INLINE Vec gelu_tanh_of(Vec x) {  // (1 + tanh u) / 2 = 1 / (1 + e^-2u)
  const Vec u = splat(2.0f * 0.79788456080286535588f) * (x + splat(0.044715f) * x * x * x);
  const Vec e = exp_negative_abs(u);
  return x * (u < Vec{} ? e : splat(1.0f)) / (splat(1.0f) + e);
}

FT_INLINE Vec relu_of(Vec x) { return max(x, Vec{}); }

template <Vec (*kFunction)(Vec)>
void each(float* x, int64_t count) {
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) put(x + i, kFunction(loose(x + i)));
  if (whole < count) put_partial(x + whole, kFunction(partial(x + whole, count - whole)), count - whole);
}

void autocorrelation(const double* x, int count, int lags, double* sums) {
  constexpr int kBlock = 4;
  for (int lag = 0; lag < lags; lag += kBlock * kDoubles) {
    DoubleVec sum[kBlock] = {};
    for (int n = 0; n < count; ++n) {
      const DoubleVec value = x[n] - DoubleVec{};
#pragma GCC unroll 4
      for (int b = 0; b < kBlock; ++b)
        sum[b] += value * *reinterpret_cast<const LooseDoubleVec*>(x + n + lag + b * kDoubles);
    }
    for (int b = 0; b < kBlock; ++b) *reinterpret_cast<LooseDoubleVec*>(sums + lag + b * kDoubles) = sum[b];
  }
}

void add_scaled(float* out, const float* x, float scale, int64_t count) {
  const Vec factor = splat(scale);
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) put(out + i, loose(out + i) + factor * loose(x + i));
  for (int64_t i = whole; i < count; ++i) out[i] += scale * x[i];
}

}  // namespace

namespace facetalk::network::FACETALK_LEVEL {

const NetworkKernels kNetwork = {
    kOutputs,       &product,       &layer_norm,      &each<gelu_of>, &each<gelu_tanh_of>,
    &each<silu_of>, &each<relu_of>, &autocorrelation, &add_scaled};

}  // namespace facetalk::network::FACETALK_LEVEL
