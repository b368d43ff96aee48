#include "cuda/attention/attention_backward.cuh"
#include "cuda/attention/attention_launch.h"

namespace facetalk::cuda {
namespace {

template <typename T, int kDim>
void run(const AttentionProblem& problem, const AttentionGradients& gradients, cudaStream_t stream) {
  const auto heads = static_cast<unsigned>(problem.batch * problem.heads);
  AttentionBackwardTask task{task_of(problem), gradients.out, gradients.query, {},
                             gradients.delta,  problem.scale};
  check(launch(attention_backward<T, kDim, false>, blocks_of(problem, ceil_div(problem.rows, kBackTile)),
               kBackThreads, kBackShared<kDim>, stream, task, heads),
        "attention_backward (queries)");
  if (problem.keys == 0) return;
  task.grad_a = gradients.key;
  task.grad_b = gradients.value;
  check(launch(attention_backward<T, kDim, true>, blocks_of(problem, ceil_div(problem.keys, kBackTile)),
               kBackThreads, kBackShared<kDim>, stream, task, heads),
        "attention_backward (keys)");
}

template <typename T>
void run(const AttentionProblem& problem, const AttentionGradients& gradients, cudaStream_t stream) {
  const int64_t dim = std::max(problem.depth, problem.width);
  if (dim <= 32) return run<T, 32>(problem, gradients, stream);
  if (dim <= 64) return run<T, 64>(problem, gradients, stream);
  return run<T, 128>(problem, gradients, stream);
}

}  // namespace

void masked_cross_attention_backward(const AttentionProblem& problem, const AttentionGradients& gradients,
                                     void* stream) {
  if (problem.left == 0 && problem.right == 0) {
    throw ArgumentError("window", "other than (0, 0), whose gradient is a copy", "(0, 0)");
  }
  if (problem.lse == nullptr || gradients.delta == nullptr) {
    throw ArgumentError("lse, delta", "memory of one float a query", "none");
  }
  if (problem.batch == 0 || problem.heads == 0 || problem.rows == 0) {
    throw ArgumentError("query", "at least one row", "none");
  }
  require_fit(problem);
  require_aligned({&gradients.out, &gradients.query, &gradients.key, &gradients.value}, problem.dtype);
  const auto on = static_cast<cudaStream_t>(stream);
  switch (problem.dtype) {
    case DType::kFloat32:
      return run<float>(problem, gradients, on);
    case DType::kFloat16:
      return run<__half>(problem, gradients, on);
    case DType::kBFloat16:
      return run<__nv_bfloat16>(problem, gradients, on);
    default:
      throw KindError("query", "float32, float16 or bfloat16", name_of(problem.dtype));
  }
}

}  // namespace facetalk::cuda
