// Arrays in and out of Python without a copy: NumPy, torch, CuPy, JAX, anything with DLPack or the buffer
// protocol.
//
//   // Shape (N, 3), contiguous, in the CPU's memory:
//   Input points = Input::from(object, "points").require(DType::kFloat32, {-1, 3});
//   Array out = Array::make<float>({n, 3});
//   {
//     py::gil_scoped_release release;
//     cpu::work(points.view(), out.view);
//   }
//   // A facetalk._C.Array, which torch.from_dlpack and numpy.from_dlpack take:
//   return py::cast(std::move(out));
#pragma once

#include <pybind11/pybind11.h>

#include <initializer_list>
#include <memory>
#include <string>

#include "core/tensor_view.h"

namespace facetalk::python {

// Borrows an array of Python for the time of a call. Create and destroy it with the GIL held.
class Input {
 public:
  // Takes an object with __dlpack__ or the buffer protocol (read-only arrays too), or a DLPack capsule.
  // Throws KindError when it is none of these or its owner does not share it, ArgumentError when its rank is
  // over TensorView::kMaxRank or its sizes mean nothing.
  static Input from(pybind11::handle object, const char* argument);

  // Checks that this is a contiguous CPU array of the dtype and shape; -1 stands for any size. Returns
  // itself. Elements that lie across their natural boundaries are copied: reading them in place is undefined.
  // Throws KindError for the dtype or device, ArgumentError for the shape or layout.
  Input&& require(DType dtype, std::initializer_list<int64_t> shape) &&;

  // The same of an array in the memory of a CUDA device: of `device`, or of any when that is negative.
  // Nothing waits for the work that makes the array: the caller passes the stream on which that work was
  // enqueued.
  Input&& require_cuda(DType dtype, std::initializer_list<int64_t> shape, int device = -1) &&;

  const TensorView& view() const { return view_; }
  const std::string& argument() const { return argument_; }
  int64_t size(int axis) const { return view_.shape[axis]; }
  int device() const { return view_.device.index; }
  template <typename T>
  const T* as() const {
    return view_.as<const T>();
  }
  // Of an array that the caller made for the operation to fill.
  template <typename T>
  T* fill() const {
    return view_.as<T>();
  }

 private:
  Input&& require_layout(DType dtype, std::initializer_list<int64_t> shape) &&;
  void align();

  std::string argument_;
  TensorView view_;
  pybind11::object owner_;                         // a capsule that keeps the memory alive
  std::unique_ptr<pybind11::buffer_info> buffer_;  // or a buffer that does
  std::shared_ptr<void> copy_;                     // or a copy, of what was not aligned
};

}  // namespace facetalk::python
