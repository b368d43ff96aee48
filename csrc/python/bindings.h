// The binding of each operation: one function per file of this folder, called once by module.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace facetalk::python {

void bind_dlpack(pybind11::module_& module);
void bind_info(pybind11::module_& module);
void bind_marching_cubes(pybind11::module_& module);
void bind_attention(pybind11::module_& module);
void bind_normals(pybind11::module_& module);
void bind_field(pybind11::module_& module);
void bind_field_cuda(pybind11::module_& module);
void bind_field_guided_cuda(pybind11::module_& module);
void bind_extraction(pybind11::module_& module);
void bind_raster(pybind11::module_& module);

}  // namespace facetalk::python
