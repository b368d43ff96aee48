#include "cpu/attention.h"

#include "python/bindings.h"
#include "python/dlpack.h"

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

}  // namespace

void bind_attention(py::module_& module) {
  module.def("masked_cross_attention", &masked_cross_attention, py::arg("query"), py::arg("key"),
             py::arg("value"), py::arg("left"), py::arg("right"), py::arg("scale"),
             "query (G, N, D), key (G, M, D), value (G, M, E) float32 -> (G, N, E); a negative bound means "
             "unbounded");
}

}  // namespace facetalk::python
