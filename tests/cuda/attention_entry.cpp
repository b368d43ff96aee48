// The attention kernels for tests on the host.
#include <string>

#include "cuda/attention/attention.cu"
#include "cuda/attention/attention_backward.cu"

namespace fc = facetalk::cuda;

namespace {

std::string message;  // of the last call: the kernel that ran, or what was refused

fc::AttentionOperand operand(void* data, const int64_t*& strides) {
  const fc::AttentionOperand made{data, strides[0], strides[1], strides[2]};
  strides += 3;
  return made;
}

// sizes: batch, heads, rows, keys, depth, width, left, right, dtype, then (batch, head, row) strides of
// query, key, value and out.
fc::AttentionProblem problem(void* query, void* key, void* value, void* out, float* lse, const int64_t* sizes,
                             float scale) {
  fc::AttentionProblem p;
  p.batch = sizes[0];
  p.heads = sizes[1];
  p.rows = sizes[2];
  p.keys = sizes[3];
  p.depth = sizes[4];
  p.width = sizes[5];
  p.left = sizes[6];
  p.right = sizes[7];
  p.dtype = static_cast<facetalk::DType>(sizes[8]);
  const int64_t* strides = sizes + 9;
  p.query = operand(query, strides);
  p.key = operand(key, strides);
  p.value = operand(value, strides);
  p.out = operand(out, strides);
  p.lse = lse;
  p.scale = scale;
  return p;
}

}  // namespace

extern "C" {
const char* attention_message() { return message.c_str(); }

int attention_forward(void* query, void* key, void* value, void* out, float* lse, const int64_t* sizes,
                      float scale) {
  try {
    message = fc::masked_cross_attention(problem(query, key, value, out, lse, sizes, scale), nullptr);
    return 0;
  } catch (const std::exception& error) {
    message = error.what();
    return 1;
  }
}

// grads: of out (given), query, key and value (wanted), with strides as in `sizes`.
int attention_backward(void* query, void* key, void* value, void* out, float* lse, const int64_t* sizes,
                       float scale, void** grads, const int64_t* strides, float* delta) {
  try {
    fc::AttentionGradients g;
    g.out = operand(grads[0], strides);
    g.query = operand(grads[1], strides);
    g.key = operand(grads[2], strides);
    g.value = operand(grads[3], strides);
    g.delta = delta;
    fc::masked_cross_attention_backward(problem(query, key, value, out, lse, sizes, scale), g, nullptr);
    message = "attention_backward";
    return 0;
  } catch (const std::exception& error) {
    message = error.what();
    return 1;
  }
}
}
