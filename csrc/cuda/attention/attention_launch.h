// What the launchers of attention share: checks of sizes, and the problem as kernels take it.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>

#include "core/status.h"
#include "cuda/attention/attention_common.cuh"
#include "cuda/platform/error.h"

namespace facetalk::cuda {

inline void require_aligned(std::initializer_list<const AttentionOperand*> operands, DType dtype) {
  const int64_t items = 16 / item_size(dtype);
  for (const AttentionOperand* operand : operands) {
    if (reinterpret_cast<uintptr_t>(operand->data) % 16 != 0 || operand->batch % items != 0 ||
        operand->head % items != 0 || operand->row % items != 0) {
      throw ArgumentError("query, key, value, out", "rows aligned to 16 bytes", "others");
    }
  }
}

inline void require_fit(const AttentionProblem& p) {
  if (p.rows + p.keys > kAttentionMaxRows) {
    throw ArgumentError("query, key", "at most " + std::to_string(kAttentionMaxRows) + " rows together",
                        std::to_string(p.rows + p.keys));
  }
  const bool copies = p.left == 0 && p.right == 0;
  const auto fits = [](int64_t n) { return n % 8 == 0 && n <= kAttentionMaxDim; };
  if (!copies && !(fits(p.depth) && p.depth > 0)) {
    throw ArgumentError("query", "a depth that is a multiple of 8 up to 128", std::to_string(p.depth));
  }
  if (copies ? p.width * item_size(p.dtype) % 16 != 0 : !fits(p.width)) {
    throw ArgumentError("value", "a width that is a multiple of 8 up to 128", std::to_string(p.width));
  }
  require_aligned({&p.query, &p.key, &p.value, &p.out}, p.dtype);
}

inline AttentionTask task_of(const AttentionProblem& p) {
  AttentionTask task;
  task.query = p.query;
  task.key = p.key;
  task.value = p.value;
  task.out = p.out;
  task.lse = p.lse;
  task.heads = static_cast<int>(p.heads);
  task.rows = static_cast<int>(p.rows);
  task.keys = static_cast<int>(p.keys);
  task.depth = static_cast<int>(p.depth);
  task.width = static_cast<int>(p.width);
  // Wider than the sequences means no bound.
  task.left = static_cast<int>(p.left < 0 ? p.rows : std::min(p.left, p.rows));
  task.right = static_cast<int>(p.right < 0 ? p.keys : std::min(p.right, p.keys));
  task.scale = p.scale * kLog2E;
  return task;
}

// Blocks of a launch over `parts` parts of every head.
inline unsigned blocks_of(const AttentionProblem& p, int64_t parts) {
  const int64_t blocks = p.batch * p.heads * parts;
  if (blocks >= int64_t{1} << 31) {
    throw ArgumentError("query", "fewer than 2^31 blocks of queries", std::to_string(blocks));
  }
  return static_cast<unsigned>(blocks);
}

inline const char* named(const char* kernel, cudaError_t status) {
  check(status, kernel);
  return kernel;
}

}  // namespace facetalk::cuda
