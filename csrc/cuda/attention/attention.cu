#include <algorithm>

#include "cuda/attention/attention_launch.h"
#include "cuda/attention/attention_narrow.cuh"
#include "cuda/attention/attention_tensor.cuh"
#include "cuda/attention/attention_tiles.cuh"

namespace facetalk::cuda {
namespace {

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
    if constexpr (sizeof(T) == 4) {
      if (units > 16) return narrow<T, 32>();
    }
    return narrow<T, 16>();  // the widest rows of 16 bit
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
    constexpr int kNarrow = sizeof(T) == 2 ? kAttentionNarrowHalf : kAttentionNarrowFloat;
    if (task.left + task.right < kNarrow) return narrow<T>();
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
