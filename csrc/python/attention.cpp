#include "cpu/attention/attention.h"

#include <pybind11/stl.h>

#include <array>

#include "python/bindings.h"
#include "python/dlpack.h"
#ifdef FACETALK_WITH_CUDA
#include "cuda/attention/attention.h"
#include "cuda/platform/device.h"
#endif

namespace py = pybind11;

namespace facetalk::python {
namespace {

Array masked_cross_attention(py::handle query, py::handle key, py::handle value, int64_t left, int64_t right,
                             float scale) {
  const Input q = Input::from(query, "query").require(DType::kFloat32, {-1, -1, -1});
  const Input k = Input::from(key, "key").require(DType::kFloat32, {q.size(0), -1, q.size(2)});
  const Input v = Input::from(value, "value").require(DType::kFloat32, {q.size(0), k.size(1), -1});
  Array out = Array::make<float>({q.size(0), q.size(1), v.size(2)});
  py::gil_scoped_release release;
  cpu::masked_cross_attention(q.view(), k.view(), v.view(), {left, right}, scale, out.view);
  return out;
}

#ifdef FACETALK_WITH_CUDA

// (B, H, rows, depth) of the query's dtype and device with a dense last axis; other strides as they come.
cuda::AttentionOperand operand(const Input& input, const Input& query, int64_t rows, int64_t depth) {
  const TensorView& view = input.view();
  const TensorView& first = query.view();
  if (view.device.kind != DeviceKind::kCuda || view.device.index != first.device.index) {
    throw KindError(input.argument(), "an array on the query's CUDA device", "one elsewhere");
  }
  if (view.dtype != first.dtype) throw KindError(input.argument(), name_of(first.dtype), name_of(view.dtype));
  if (view.rank != 4 || first.rank != 4 || view.shape[0] != first.shape[0] ||
      view.shape[1] != first.shape[1] || view.shape[2] != rows || view.shape[3] != depth) {
    throw ArgumentError(input.argument(),
                        "shape (B, H, " + std::to_string(rows) + ", " + std::to_string(depth) + ")",
                        "shape " + view.shape_text());
  }
  if (view.shape[3] > 1 && view.strides[3] != 1) {
    throw ArgumentError(input.argument(), "a dense last axis",
                        "a stride of " + std::to_string(view.strides[3]));
  }
  // The stride of an axis of one means nothing, and producers write what they like there.
  const auto stride = [&](int axis) { return view.shape[axis] > 1 ? view.strides[axis] : 0; };
  return {view.data, stride(0), stride(1), stride(2)};
}

// One float a query, in memory that the caller holds.
float* per_query(const py::object& array, const char* argument, const Input& query) {
  return Input::from(array, argument)
      .require_cuda(DType::kFloat32, {query.size(0), query.size(1), query.size(2)}, query.device())
      .fill<float>();
}

// The four operands of a forward pass; `lse` may be None.
cuda::AttentionProblem problem_of(const Input& q, const Input& k, const Input& v, const Input& o,
                                  const py::object& lse, int64_t left, int64_t right, float scale) {
  cuda::AttentionProblem problem;
  problem.query = operand(q, q, q.size(2), q.size(3));
  problem.key = operand(k, q, k.size(2), q.size(3));
  problem.value = operand(v, q, k.size(2), v.size(3));
  problem.out = operand(o, q, q.size(2), v.size(3));
  problem.batch = q.size(0);
  problem.heads = q.size(1);
  problem.rows = q.size(2);
  problem.keys = k.size(2);
  problem.depth = q.size(3);
  problem.width = v.size(3);
  problem.left = left;
  problem.right = right;
  problem.scale = scale;
  problem.dtype = q.view().dtype;
  if (!lse.is_none()) problem.lse = per_query(lse, "lse", q);
  return problem;
}

// Results go into `out` and `lse`, memory of the caller's allocator; work is enqueued on `stream`.
void masked_cross_attention_cuda(py::handle query, py::handle key, py::handle value, py::handle out,
                                 const py::object& lse, int64_t left, int64_t right, float scale,
                                 uintptr_t stream) {
  const Input q = Input::from(query, "query");
  const Input k = Input::from(key, "key");
  const Input v = Input::from(value, "value");
  const Input o = Input::from(out, "out");
  const cuda::AttentionProblem problem = problem_of(q, k, v, o, lse, left, right, scale);
  py::gil_scoped_release release;
  const cuda::DeviceGuard guard(q.device());
  cuda::masked_cross_attention(problem, reinterpret_cast<void*>(stream));
}

// Gradients go into the last three of `grads`; its first is that of `out`.
void masked_cross_attention_backward_cuda(py::handle query, py::handle key, py::handle value, py::handle out,
                                          const py::object& lse, const std::array<py::object, 4>& grads,
                                          const py::object& delta, int64_t left, int64_t right, float scale,
                                          uintptr_t stream) {
  const Input q = Input::from(query, "query");
  const Input k = Input::from(key, "key");
  const Input v = Input::from(value, "value");
  const Input o = Input::from(out, "out");
  const cuda::AttentionProblem problem = problem_of(q, k, v, o, lse, left, right, scale);
  const Input grad_out = Input::from(grads[0], "grad of out");
  const Input grad_query = Input::from(grads[1], "grad of query");
  const Input grad_key = Input::from(grads[2], "grad of key");
  const Input grad_value = Input::from(grads[3], "grad of value");
  cuda::AttentionGradients gradients;
  gradients.out = operand(grad_out, q, q.size(2), v.size(3));
  gradients.query = operand(grad_query, q, q.size(2), q.size(3));
  gradients.key = operand(grad_key, q, k.size(2), q.size(3));
  gradients.value = operand(grad_value, q, k.size(2), v.size(3));
  gradients.delta = per_query(delta, "delta", q);
  py::gil_scoped_release release;
  const cuda::DeviceGuard guard(q.device());
  cuda::masked_cross_attention_backward(problem, gradients, reinterpret_cast<void*>(stream));
}

#endif

}  // namespace

void bind_attention(py::module_& module) {
  module.def("masked_cross_attention", &masked_cross_attention, py::arg("query"), py::arg("key"),
             py::arg("value"), py::arg("left"), py::arg("right"), py::arg("scale"),
             "query (G, N, D), key (G, M, D), value (G, M, E) float32 -> (G, N, E); a negative bound means "
             "unbounded");
#ifdef FACETALK_WITH_CUDA
  module.def("masked_cross_attention_cuda", &masked_cross_attention_cuda, py::arg("query"), py::arg("key"),
             py::arg("value"), py::arg("out"), py::arg("lse"), py::arg("left"), py::arg("right"),
             py::arg("scale"), py::arg("stream"),
             "query (B, H, N, D), key (B, H, M, D), value (B, H, M, E) in device memory, rows aligned to 16 "
             "bytes; fills out (B, H, N, E) and, unless None, lse (B, H, N) float32 on the stream");
  module.def(
      "masked_cross_attention_backward_cuda", &masked_cross_attention_backward_cuda, py::arg("query"),
      py::arg("key"), py::arg("value"), py::arg("out"), py::arg("lse"), py::arg("grads"), py::arg("delta"),
      py::arg("left"), py::arg("right"), py::arg("scale"), py::arg("stream"),
      "From what the forward pass took and gave, and the gradient of out, fills the gradients of query, key "
      "and value (grads: all four); delta (B, H, N) float32 is workspace");
#endif
}

}  // namespace facetalk::python
