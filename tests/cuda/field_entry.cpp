// The field's kernels, their launchers and their binding as one module for the host; field_host.py compiles
// it.
#include "cuda/field/field_blend.cu"
#include "cuda/field/field_invert.cu"
#include "cuda/field/field_mlp.cu"
#include "cuda/field/field_mlp_bfloat.cu"
#include "cuda/field/field_mlp_half.cu"
#include "cuda/field/field_mlp_wgmma.cu"
#include "cuda/surface/field_band.cu"
#include "cuda/surface/field_guided.cu"
#include "python/field_cuda.cpp"
#include "python/field_guided_cuda.cpp"

PYBIND11_MODULE(field_emulated, module) {
  facetalk::python::bind_field_cuda(module);
  facetalk::python::bind_field_guided_cuda(module);
  module.def("error", [] { return std::string(facetalk_emulate_error()); });
  module.def("seed", [](uint32_t value) { facetalk_emulate_seed(value); });
}
