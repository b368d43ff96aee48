// The inner loops of the networks, compiled once per SIMD level from kernels.inl.h, and the choice between
// them.
//
// Every row of every result depends on its own row of the input alone and is summed in one order, so a clip
// gives the same numbers however it is cut into pieces.
#pragma once

#include <cstdint>

namespace facetalk::network {

// out (rows, outputs) = x (rows, inputs) weights^T + bias. Rows of x may overlap (stride < inputs), which
// makes a convolution over (time, channels) a product.
struct Product {
  const float* x;
  int64_t stride;  // floats from a row of x to the next
  int64_t rows;
  const float* weights;  // panels of `panel` outputs, the last one padded with zeros; in each, inputs x panel
  const float* bias;     // padded likewise
  int inputs;
  int outputs;
  float* out;
  int64_t out_stride;
};

struct NetworkKernels {
  int panel;
  void (*product)(const Product& problem);
  // Normalises each row of (rows, width) to mean 0 and variance 1, then gain and bias; in place is fine.
  void (*layer_norm)(const float* x, int64_t rows, int width, const float* gain, const float* bias,
                     float epsilon, float* out);
  // In place: x (1 + erf(x / sqrt 2)) / 2; its approximation by tanh; x / (1 + e^-x); max(x, 0).
  void (*gelu)(float* x, int64_t count);
  void (*gelu_tanh)(float* x, int64_t count);
  void (*silu)(float* x, int64_t count);
  void (*relu)(float* x, int64_t count);
  // sums[lag] = sum over n < count of x[n] x[n + lag] for lag < lags; x has count + lags + 32 values, the
  // ones from count on zero, and sums room for lags + 32.
  void (*autocorrelation)(const double* x, int count, int lags, double* sums);
  // out[i] += scale * x[i]
  void (*add_scaled)(float* out, const float* x, float scale, int64_t count);
};

namespace baseline {
extern const NetworkKernels kNetwork;
}
namespace avx2 {
extern const NetworkKernels kNetwork;
}
namespace avx512 {
extern const NetworkKernels kNetwork;
}

// Those of facetalk::simd_level().
const NetworkKernels& network_kernels();

}  // namespace facetalk::network
