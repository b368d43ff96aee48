#include <algorithm>
#include <cmath>
#include <string>

#include "core/status.h"
#include "cuda/attention.h"
#include "cuda/attention_narrow.cuh"
#include "cuda/attention_tensor.cuh"
#include "cuda/attention_tiles.cuh"
#include "cuda/error.h"

namespace facetalk::cuda {
namespace {

constexpr float kLog2E = 1.44269504088896340736f;

void require_fit(const AttentionProblem& p) {
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
  for (const AttentionOperand* operand : {&p.query, &p.key, &p.value, &p.out}) {
    const int64_t items = 16 / item_size(p.dtype);
    if (reinterpret_cast<uintptr_t>(operand->data) % 16 != 0 || operand->batch % items != 0 ||
        operand->head % items != 0 || operand->row % items != 0) {
      throw ArgumentError("query, key, value, out", "rows aligned to 16 bytes", "others");
    }
  }
}

AttentionTask task_of(const AttentionProblem& p) {
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
unsigned blocks_of(const AttentionProblem& p, int64_t parts) {
  const int64_t blocks = p.batch * p.heads * parts;
  if (blocks >= int64_t{1} << 31) {
    throw ArgumentError("query", "fewer than 2^31 blocks of queries", std::to_string(blocks));
  }
  return static_cast<unsigned>(blocks);
}

const char* named(const char* kernel, cudaError_t status) {
  check(status, kernel);
  return kernel;
}

struct Launcher {
  const AttentionProblem& problem;
  const AttentionTask task;
  const cudaStream_t stream;

  template <typename T>
  const char* copy() const {
    const int64_t parts = ceil_div(problem.rows, kCopyRows);
    const int units = static_cast<int>(problem.width * static_cast<int64_t>(sizeof(T)) / 16);
    return named("attention_copy", launch(attention_copy<T>, blocks_of(problem, parts), kCopyThreads, 0,
                                          stream, task, static_cast<unsigned>(parts), units));
  }

  template <typename T, int kLanes>
  const char* narrow() const {
    const int64_t parts = ceil_div(problem.rows, kNarrowThreads / kLanes * kNarrowQueries);
    return named("attention_narrow", launch(attention_narrow<T, kLanes>, blocks_of(problem, parts),
                                            kNarrowThreads, 0, stream, task, static_cast<unsigned>(parts)));
  }

  template <typename T>
  const char* narrow() const {
    const int64_t units = std::max(problem.depth, problem.width) * static_cast<int64_t>(sizeof(T)) / 16;
    if (units <= 1) return narrow<T, 1>();
    if (units <= 2) return narrow<T, 2>();
    if (units <= 4) return narrow<T, 4>();
    if (units <= 8) return narrow<T, 8>();
    if (units <= 16) return narrow<T, 16>();
    return narrow<T, 32>();
  }

  template <typename T, int kDim>
  const char* tensor() const {
    const int64_t tiles = ceil_div(problem.rows, kTensorRows);
    return named(
        "attention_tensor",
        launch(attention_tensor<T, kDim>, blocks_of(problem, tiles), kTensorThreads, kTensorShared<kDim>,
               stream, task, static_cast<unsigned>(problem.batch * problem.heads), static_cast<int>(tiles)));
  }

  template <int kDim>
  const char* tiles() const {
    const int64_t tiles = ceil_div(problem.rows, kTilesRows);
    return named(
        "attention_tiles",
        launch(attention_tiles<kDim>, blocks_of(problem, tiles), kTilesThreads, kTilesShared<kDim>, stream,
               task, static_cast<unsigned>(problem.batch * problem.heads), static_cast<int>(tiles)));
  }

  template <typename T>
  const char* run() const {
    if (task.left == 0 && task.right == 0) return copy<T>();
    if (int64_t{task.left} + task.right + 1 <= kAttentionNarrowKeys) return narrow<T>();
    const int64_t dim = std::max(problem.depth, problem.width);
    if constexpr (sizeof(T) == 2) {
      return dim <= 32 ? tensor<T, 32>() : dim <= 64 ? tensor<T, 64>() : tensor<T, 128>();
    } else {
      return dim <= 32 ? tiles<32>() : dim <= 64 ? tiles<64>() : tiles<128>();
    }
  }
};

}  // namespace

const char* masked_cross_attention(const AttentionProblem& problem, void* stream) {
  if (problem.batch == 0 || problem.heads == 0 || problem.rows == 0 || problem.width == 0) return "";
  require_fit(problem);
  const Launcher launcher{problem, task_of(problem), static_cast<cudaStream_t>(stream)};
  switch (problem.dtype) {
    case DType::kFloat32:
      return launcher.run<float>();
    case DType::kFloat16:
      return launcher.run<__half>();
    case DType::kBFloat16:
      return launcher.run<__nv_bfloat16>();
    default:
      throw KindError("query", "float32, float16 or bfloat16", name_of(problem.dtype));
  }
}

}  // namespace facetalk::cuda
