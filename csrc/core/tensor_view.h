// A strided array that somebody else owns: what every operation of the core takes and fills.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <new>
#include <string>

#include "core/status.h"

namespace facetalk {

enum class DType : uint8_t { kFloat16, kBFloat16, kFloat32, kFloat64, kUInt8, kInt32, kInt64, kBool, kOther };

constexpr int64_t item_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
    case DType::kInt64:
      return 8;
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat16:
    case DType::kBFloat16:
      return 2;
    default:
      return 1;
  }
}

constexpr const char* name_of(DType dtype) {
  constexpr const char* kNames[] = {"float16", "bfloat16", "float32",
                                    "float64", "uint8",    "int32",
                                    "int64",   "bool",     "a dtype that is not supported"};
  return kNames[static_cast<int>(dtype)];
}

template <typename T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct dtype_of<int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct dtype_of<int64_t> {
  static constexpr DType value = DType::kInt64;
};
template <>
struct dtype_of<uint8_t> {
  static constexpr DType value = DType::kUInt8;
};

enum class DeviceKind : int32_t { kCpu = 1, kCuda = 2, kOther = 0 };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int32_t index = 0;
};

struct TensorView {
  static constexpr int kMaxRank = 8;

  void* data = nullptr;  // first element, byte offset already applied
  DType dtype = DType::kFloat32;
  Device device;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};    // elements
  std::array<int64_t, kMaxRank> strides{};  // elements, not bytes

  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }

  bool is_contiguous() const {
    if (size() == 0) return true;  // strides of an empty array mean nothing
    int64_t expected = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (shape[i] != 1 && strides[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }

  std::string shape_text() const {
    std::string text = "(";
    for (int i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + (rank == 1 ? ",)" : ")");
  }
};

// Uninitialised memory, aligned to a cache line; shared, because a Python array may outlive the call that
// made it.
inline std::shared_ptr<void> allocate(int64_t bytes) {
  constexpr std::align_val_t kAlign{64};
  void* memory = ::operator new(static_cast<size_t>(bytes > 0 ? bytes : 1), kAlign);
  return std::shared_ptr<void>(memory, [](void* p) { ::operator delete(p, std::align_val_t{64}); });
}

// A contiguous CPU array together with its memory: what operations give back.
struct Array {
  std::shared_ptr<void> memory;
  TensorView view;

  // Throws std::bad_alloc where no memory holds the shape, however large its sides.
  template <typename T, size_t N>
  static Array make(const int64_t (&shape)[N]) {
    static_assert(N <= TensorView::kMaxRank);
    Array array;
    array.view.dtype = dtype_of<T>::value;
    array.view.rank = static_cast<int>(N);
    int64_t size = 1, bytes = 0;
    for (int i = static_cast<int>(N) - 1; i >= 0; --i) {
      array.view.shape[i] = shape[i];
      array.view.strides[i] = size;
      if (shape[i] < 0 || __builtin_mul_overflow(size, shape[i], &size)) throw std::bad_alloc();
    }
    if (__builtin_mul_overflow(size, static_cast<int64_t>(sizeof(T)), &bytes)) throw std::bad_alloc();
    array.memory = allocate(bytes);
    array.view.data = array.memory.get();
    return array;
  }
};

}  // namespace facetalk
