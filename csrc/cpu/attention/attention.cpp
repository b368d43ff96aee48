#include "cpu/attention/attention.h"

#include <algorithm>
#include <cstring>

#include "core/cpu_features.h"
#include "cpu/attention/attention_kernels.h"
#include "cpu/parallel.h"

namespace facetalk::cpu {
namespace {

const AttentionKernels& kernels() {
#if defined(__x86_64__)
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return avx512::kAttention;
    case SimdLevel::kAvx2:
      return avx2::kAttention;
    default:
      break;
  }
#endif
  return baseline::kAttention;
}

// Window (0, 0): row i is value row i, and 0 past the last key.
void copy_values(const TensorView& value, const TensorView& out) {
  const int64_t groups = out.shape[0];
  const int64_t rows = out.shape[1];
  const int64_t keys = value.shape[1];
  const int64_t width = out.shape[2];
  const int64_t shared = std::min(rows, keys) * width;
  parallel_for(groups, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, rows * width)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t g = begin; g < end; ++g) {
                   float* to = out.as<float>() + g * rows * width;
                   std::memcpy(to, value.as<const float>() + g * keys * width,
                               static_cast<size_t>(shared) * sizeof(float));
                   std::fill(to + shared, to + rows * width, 0.0f);
                 }
               });
}

}  // namespace

void masked_cross_attention(const TensorView& query, const TensorView& key, const TensorView& value,
                            const AttentionWindow& window, float scale, const TensorView& out) {
  if (out.size() == 0) return;
  if (window.left == 0 && window.right == 0) return copy_values(value, out);
  const int64_t groups = query.shape[0];
  const int64_t rows = query.shape[1];
  const int64_t keys = key.shape[1];
  const int64_t depth = query.shape[2];
  const int64_t width = value.shape[2];
  // Wider than the sequences means no bound; cut so that adding row numbers cannot overflow.
  const int64_t left = window.left < 0 ? rows : std::min(window.left, rows);
  const int64_t right = window.right < 0 ? keys : std::min(window.right, keys);
  const bool is_narrow = left + right + 1 <= kAttentionNarrow;
  const AttentionKernels& kernel = kernels();
  // Large blocks share the work on a tile of keys, small ones waste less of it on keys outside a bounded
  // window.
  const int64_t height = left + right < 96 ? 32 : left + right < 384 ? 64 : kAttentionRows;
  const int64_t blocks = (rows + height - 1) / height;
  parallel_for(groups * blocks, 1, [&](int64_t begin, int64_t end) {
    const std::shared_ptr<void> scratch = allocate(is_narrow ? 0 : 4 * kernel.scratch_size(depth, width));
    for (int64_t n = begin; n < end; ++n) {
      const int64_t g = n / blocks;
      const int64_t first = n % blocks * height;
      AttentionBlock block;
      block.query = query.as<const float>() + (g * rows + first) * depth;
      block.key = key.as<const float>() + g * keys * depth;
      block.value = value.as<const float>() + g * keys * width;
      block.out = out.as<float>() + (g * rows + first) * width;
      block.rows = std::min(height, rows - first);
      block.first_row = first;
      block.keys = keys;
      block.depth = depth;
      block.width = width;
      block.left = left;
      block.right = right;
      block.scale = scale;
      if (is_narrow) {
        kernel.narrow(block);
      } else {
        kernel.block(block, static_cast<float*>(scratch.get()));
      }
    }
  });
}

}  // namespace facetalk::cpu
