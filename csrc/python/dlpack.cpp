#include "python/dlpack.h"

#include <cstring>
#include <vector>

#include "python/bindings.h"
#include "python/dlpack_abi.h"

namespace py = pybind11;

namespace facetalk::python {
namespace {

using namespace facetalk::dlpack;

DType dtype_from(const DLDataType& type) {
  if (type.lanes != 1) return DType::kOther;
  switch (type.code) {
    case kDLFloat:
      return type.bits == 32   ? DType::kFloat32
             : type.bits == 64 ? DType::kFloat64
             : type.bits == 16 ? DType::kFloat16
                               : DType::kOther;
    case kDLBfloat:
      return type.bits == 16 ? DType::kBFloat16 : DType::kOther;
    case kDLInt:
      return type.bits == 32 ? DType::kInt32 : type.bits == 64 ? DType::kInt64 : DType::kOther;
    case kDLUInt:
      return type.bits == 8 ? DType::kUInt8 : DType::kOther;
    case kDLBool:
      return type.bits == 8 ? DType::kBool : DType::kOther;
    default:
      return DType::kOther;
  }
}

DLDataType dtype_to(DType dtype) {
  const auto bits = static_cast<uint8_t>(8 * item_size(dtype));
  switch (dtype) {
    case DType::kInt32:
    case DType::kInt64:
      return {kDLInt, bits, 1};
    case DType::kUInt8:
      return {kDLUInt, bits, 1};
    case DType::kBool:
      return {kDLBool, bits, 1};
    case DType::kBFloat16:
      return {kDLBfloat, bits, 1};
    default:
      return {kDLFloat, bits, 1};
  }
}

DType dtype_from(const py::buffer_info& info) {
  std::string format = info.format;
  if (!format.empty() && (format[0] == '@' || format[0] == '=' || format[0] == '<')) format.erase(0, 1);
  if (format == "f") return DType::kFloat32;
  if (format == "d") return DType::kFloat64;
  if (format == "e") return DType::kFloat16;
  if (format == "B") return DType::kUInt8;
  if (format == "?") return DType::kBool;
  if (format == "i" || format == "l" || format == "q") {
    return info.itemsize == 4 ? DType::kInt32 : info.itemsize == 8 ? DType::kInt64 : DType::kOther;
  }
  return DType::kOther;
}

void check_rank(int64_t rank, const char* argument) {
  if (rank < 0 || rank > TensorView::kMaxRank) {
    throw ArgumentError(argument, "at most " + std::to_string(TensorView::kMaxRank) + " dimensions",
                        std::to_string(rank));
  }
}

// What an exporter writes is not ours: sizes must be sizes, and their product a number.
void check_sizes(const TensorView& view, const char* argument) {
  int64_t size = 1;
  bool fits = true;
  for (int i = 0; i < view.rank; ++i) {
    fits = fits && view.shape[i] >= 0 && !__builtin_mul_overflow(size, view.shape[i], &size);
  }
  fits = fits && !__builtin_mul_overflow(size, item_size(view.dtype), &size);
  if (!fits) throw ArgumentError(argument, "a shape that memory can hold", "shape " + view.shape_text());
  if (size > 0 && view.data == nullptr) throw ArgumentError(argument, "an array with data", "none");
}

TensorView view_of(const DLTensor& tensor, const char* argument) {
  check_rank(tensor.ndim, argument);
  TensorView view;
  view.data = tensor.data == nullptr ? nullptr : static_cast<char*>(tensor.data) + tensor.byte_offset;
  view.dtype = dtype_from(tensor.dtype);
  const int32_t type = tensor.device.device_type;
  view.device.kind = type == kDLCPU || type == kDLCUDAHost ? DeviceKind::kCpu
                     : type == kDLCUDA                     ? DeviceKind::kCuda
                                                           : DeviceKind::kOther;
  view.device.index = tensor.device.device_id;
  view.rank = tensor.ndim;
  int64_t dense = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    view.shape[i] = tensor.shape[i];
    view.strides[i] = tensor.strides != nullptr ? tensor.strides[i] : dense;
    if (__builtin_mul_overflow(dense, tensor.shape[i], &dense)) dense = 0;  // check_sizes refuses it
  }
  check_sizes(view, argument);
  return view;
}

// The tensor inside a capsule, which goes on owning it: nothing is consumed, so the capsule's own destructor
// frees it.
TensorView view_of(const py::capsule& capsule, const char* argument) {
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    const auto* managed =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1) {
      throw KindError(argument, "DLPack version 1", "version " + std::to_string(managed->version.major));
    }
    return view_of(managed->dl_tensor, argument);
  }
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    return view_of(static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))->dl_tensor,
                   argument);
  }
  throw KindError(argument, "a DLPack capsule that nobody consumed yet", "another capsule");
}

TensorView view_of(const py::buffer_info& info, const char* argument) {
  check_rank(info.ndim, argument);
  TensorView view;
  view.data = info.ptr;
  view.dtype = dtype_from(info);
  view.rank = static_cast<int>(info.ndim);
  for (int i = 0; i < view.rank; ++i) {
    view.shape[i] = info.shape[i];
    if (info.itemsize < 1 || info.strides[i] % info.itemsize != 0) {
      throw ArgumentError(argument, "strides of whole elements",
                          "a stride of " + std::to_string(info.strides[i]) + " bytes");
    }
    view.strides[i] = info.strides[i] / info.itemsize;
  }
  check_sizes(view, argument);
  return view;
}

bool is_on_cuda(py::handle object) {
  if (!py::hasattr(object, "__dlpack_device__")) return false;
  return object.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int>() == kDLCUDA;
}

py::object call_dlpack(py::handle object) {
  if (is_on_cuda(object)) {
    // -1: the producer need not wait for its stream, nor make another wait for it (which no CUDA graph
    // takes); the operation runs on the stream that the caller names.
    try {
      return object.attr("__dlpack__")(py::arg("stream") = -1, py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
    }
    return object.attr("__dlpack__")(py::arg("stream") = -1);
  }
  try {
    return object.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;  // TypeError: a producer older than DLPack 1.0
  }
  return object.attr("__dlpack__")();
}

// Exporters refuse what they cannot share (tensors that require grad, sparse or on a device without memory)
// with errors of many kinds; ours are KindErrors that name the argument.
[[noreturn]] void refuse(const py::error_already_set& error, const char* argument) {
  // Not the exporter's judgement: Ctrl-C, or no memory.
  if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw error;
  const std::string text = py::str(error.value());
  throw KindError(argument, "an array that can be shared", text.substr(0, text.find('\n')));
}

std::string shape_pattern(std::initializer_list<int64_t> shape) {
  std::string text = "(";
  size_t i = 0;
  for (int64_t n : shape) text += (i++ ? ", " : "") + (n < 0 ? std::string("any") : std::to_string(n));
  return text + (shape.size() == 1 ? ",)" : ")");
}

// --- Export

struct Shared {  // what an exported tensor keeps alive
  Array array;
};

template <typename Managed>
py::capsule export_as(const Array& array, const char* name) {
  auto* shared = new Shared{array};
  auto* managed = new Managed{};
  const TensorView& view = shared->array.view;
  managed->dl_tensor = {view.data,
                        {kDLCPU, 0},
                        view.rank,
                        dtype_to(view.dtype),
                        const_cast<int64_t*>(view.shape.data()),
                        const_cast<int64_t*>(view.strides.data()),
                        0};
  managed->manager_ctx = shared;
  managed->deleter = [](Managed* self) {
    delete static_cast<Shared*>(self->manager_ctx);
    delete self;
  };
  if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) managed->version = {1, 0};
  // A consumer renames the capsule and takes over; a capsule that still has its name frees the tensor itself.
  return py::capsule(managed, name, [](PyObject* capsule) {
    const char* current = PyCapsule_GetName(capsule);
    if (current == nullptr) return;
    const std::string label(current);
    if (label != "dltensor" && label != "dltensor_versioned") return;
    auto* unused = static_cast<Managed*>(PyCapsule_GetPointer(capsule, current));
    unused->deleter(unused);
  });
}

py::capsule to_dlpack(const Array& array, const py::object&, const py::object& max_version, const py::object&,
                      const py::object&) {
  const bool versioned = !max_version.is_none() && max_version.cast<py::tuple>()[0].cast<int>() >= 1;
  return versioned ? export_as<DLManagedTensorVersioned>(array, "dltensor_versioned")
                   : export_as<DLManagedTensor>(array, "dltensor");
}

}  // namespace

Input Input::from(py::handle object, const char* argument) {
  Input input;
  input.argument_ = argument;
  if (py::isinstance<py::capsule>(object)) {
    input.owner_ = py::reinterpret_borrow<py::object>(object);
    input.view_ = view_of(py::reinterpret_borrow<py::capsule>(object), argument);
  } else if (PyObject_CheckBuffer(object.ptr()) && !PyBytes_Check(object.ptr())) {
    try {
      input.buffer_ = std::make_unique<py::buffer_info>(py::reinterpret_borrow<py::buffer>(object).request());
    } catch (const py::error_already_set& error) {
      refuse(error, argument);
    }
    input.view_ = view_of(*input.buffer_, argument);
  } else if (py::hasattr(object, "__dlpack__")) {
    try {
      input.owner_ = call_dlpack(object);
    } catch (const py::error_already_set& error) {
      refuse(error, argument);
    }
    input.view_ = view_of(py::capsule(input.owner_), argument);
  } else {
    throw KindError(argument, "an array (NumPy, torch or anything with __dlpack__)",
                    Py_TYPE(object.ptr())->tp_name);
  }
  return input;
}

Input&& Input::require(DType dtype, std::initializer_list<int64_t> shape) && {
  if (view_.device.kind != DeviceKind::kCpu) {
    throw KindError(argument_, "an array in the memory of the CPU",
                    "one on a GPU; this operation has no GPU kernel yet, move the array to the CPU");
  }
  return std::move(*this).require_layout(dtype, shape);
}

Input&& Input::require_cuda(DType dtype, std::initializer_list<int64_t> shape, int device) && {
  if (view_.device.kind != DeviceKind::kCuda) {
    throw KindError(argument_, "an array in the memory of a CUDA device", "one elsewhere");
  }
  if (device >= 0 && view_.device.index != device) {
    throw KindError(argument_, "an array on CUDA device " + std::to_string(device),
                    "one on device " + std::to_string(view_.device.index));
  }
  return std::move(*this).require_layout(dtype, shape);
}

Input&& Input::require_layout(DType dtype, std::initializer_list<int64_t> shape) && {
  if (view_.dtype != dtype) throw KindError(argument_, name_of(dtype), name_of(view_.dtype));
  bool matches = view_.rank == static_cast<int>(shape.size());
  int axis = 0;
  for (int64_t n : shape) {
    matches = matches && (n < 0 || n == view_.shape[axis]);
    ++axis;
  }
  if (!matches)
    throw ArgumentError(argument_, "shape " + shape_pattern(shape), "shape " + view_.shape_text());
  if (!view_.is_contiguous())
    throw ArgumentError(argument_, "a contiguous array", "strides that skip elements");
  if (reinterpret_cast<uintptr_t>(view_.data) % static_cast<size_t>(item_size(dtype)) != 0) align();
  return std::move(*this);
}

void Input::align() {
  if (view_.device.kind != DeviceKind::kCpu) {
    throw ArgumentError(argument_, "an array aligned to its elements", "one between them");
  }
  const int64_t bytes = view_.size() * item_size(view_.dtype);
  copy_ = allocate(bytes);
  if (bytes > 0) std::memcpy(copy_.get(), view_.data, static_cast<size_t>(bytes));
  view_.data = copy_.get();
}

void bind_dlpack(py::module_& module) {
  py::class_<Array>(module, "Array",
                    "A result in the CPU's memory; numpy.from_dlpack and torch.from_dlpack take it.")
      .def("__dlpack__", &to_dlpack, py::kw_only(), py::arg("stream") = py::none(),
           py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(),
           py::arg("copy") = py::none())
      .def("__dlpack_device__", [](const Array&) { return py::make_tuple(kDLCPU, 0); })
      .def_property_readonly("shape", [](const Array& array) {
        py::tuple shape(array.view.rank);
        for (int i = 0; i < array.view.rank; ++i) shape[i] = array.view.shape[i];
        return shape;
      });
}

}  // namespace facetalk::python
