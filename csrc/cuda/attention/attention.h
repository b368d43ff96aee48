// Attention through a window along the sequence, on the GPU; what it computes is described in
// cpu/attention/attention.h.
//
// Rows of every operand are 16-byte aligned with a dense last axis; batch, head and row strides are free.
// Depth and width are multiples of 8 up to kAttentionMaxDim; window (0, 0) takes any width whose rows are
// whole 16 bytes. Four kernels share the work:
//   attention_copy     window (0, 0): row i is value row i; queries and keys are not read
//   attention_narrow   windows of few keys: a few lanes share four queries; keys and values of the band go
//                      through registers
//   attention_tensor   wider windows in 16 bit: tiles of 64 queries and 64 keys on tensor cores
//   attention_tiles    wider windows in float32: tiles of 64 queries and 32 keys, fused multiply-adds
// and attention_backward computes gradients for all windows but (0, 0), in float32 multiply-adds.
// Sums are float32, in an order that depends on shapes and window alone. Non-finite values reach no query
// outside the tile of queries whose windows hold them.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace facetalk::cuda {

constexpr int kAttentionMaxDim = 128;
// Keys of the widest window that attention_narrow takes. By counts of instructions, not by measurement:
// tensor cores beat shuffled dot products early, float32 tiles, which visit 64 keys more than the window has,
// late.
constexpr int kAttentionNarrowHalf = 16;
constexpr int kAttentionNarrowFloat = 48;
constexpr int64_t kAttentionMaxRows = (int64_t{1} << 31) - 4096;  // of queries and keys together

struct AttentionOperand {  // strides in elements
  void* data = nullptr;
  int64_t batch = 0;
  int64_t head = 0;
  int64_t row = 0;
};

struct AttentionProblem {
  AttentionOperand query;  // (batch, heads, rows, depth)
  AttentionOperand key;    // (batch, heads, keys, depth)
  AttentionOperand value;  // (batch, heads, keys, width)
  AttentionOperand out;    // (batch, heads, rows, width)
  float* lse =
      nullptr;  // (batch, heads, rows) log of the sum of exp(scores), -inf where nothing is seen; may be null
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t rows = 0;
  int64_t keys = 0;
  int64_t depth = 0;
  int64_t width = 0;
  int64_t left = 0;  // negative: unbounded
  int64_t right = 0;
  float scale = 1.0f;
  DType dtype = DType::kFloat32;  // kFloat32, kFloat16 or kBFloat16, of all four
};

// Launches on `stream` (a cudaStream_t) of the current device; nothing waits. Returns the name of the kernel
// that does the work, "" when there is none. Throws ArgumentError for sizes outside the limits above,
// CudaError with the kernel's name when the launch fails.
const char* masked_cross_attention(const AttentionProblem& problem, void* stream);

// Where gradients come from and go to; shapes are those of the AttentionProblem's operand of the name.
struct AttentionGradients {
  AttentionOperand out;    // given
  AttentionOperand query;  // wanted
  AttentionOperand key;
  AttentionOperand value;
  float* delta = nullptr;  // (batch, heads, rows) workspace
};

// Gradients of the forward pass `problem`, of which `out` and `lse` hold the results. Weights are computed
// again from lse; every gradient is summed by one thread in a fixed order, in float32. Not for window (0, 0).
// Throws as above.
void masked_cross_attention_backward(const AttentionProblem& problem, const AttentionGradients& gradients,
                                     void* stream);

}  // namespace facetalk::cuda
