// What a facetalk_mesh handle holds, and a caller's arrays as the core takes them.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "cpu/marching_cubes/marching_cubes.h"
#include "facetalk.h"

struct facetalk_mesh {
  facetalk::cpu::SurfaceMesh mesh;
};

namespace facetalk::capi {

template <typename T>
TensorView view_of(const T* data, std::initializer_list<int64_t> shape) {
  TensorView view;
  view.data = const_cast<T*>(data);
  view.dtype = dtype_of<T>::value;
  view.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), view.shape.begin());
  int64_t stride = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.strides[static_cast<size_t>(i)] = stride;
    stride *= view.shape[static_cast<size_t>(i)];
  }
  return view;
}

}  // namespace facetalk::capi
