// What the bindings of field operations share: the bound field, arrays borrowed for a call, frames, lattices.
#pragma once

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "core/field_pack.h"
#include "cpu/field/field.h"
#include "python/bindings.h"
#include "python/dlpack.h"

namespace facetalk::python {

// Borrowed arrays of one call, kept until it ends.
class Borrowed {
 public:
  TensorView take(pybind11::handle object, const std::string& name, std::initializer_list<int64_t> shape) {
    names_.push_back(std::make_unique<std::string>(name));
    inputs_.push_back(Input::from(object, names_.back()->c_str()).require(DType::kFloat32, shape));
    return inputs_.back().view();
  }

  // [(hidden or None, coords or None), ...]
  std::vector<FieldLayerSource> layers(const pybind11::list& list, const std::string& network) {
    std::vector<FieldLayerSource> out;
    for (pybind11::handle item : list) {
      const auto pair = item.cast<pybind11::tuple>();
      const std::string name = network + " layer " + std::to_string(out.size());
      FieldLayerSource layer;
      if (!pair[0].is_none()) layer.hidden = take(pair[0], name + " hidden", {-1, -1, -1});
      if (!pair[1].is_none()) layer.coords = take(pair[1], name + " coords", {-1, -1, -1});
      out.push_back(layer);
    }
    return out;
  }

  std::vector<TensorView> biases(const pybind11::list& list, const std::string& network) {
    std::vector<TensorView> out;
    for (pybind11::handle item : list) {
      out.push_back(take(item, network + " layer " + std::to_string(out.size()) + " bias", {-1, -1}));
    }
    return out;
  }

 private:
  std::vector<std::unique_ptr<std::string>> names_;
  std::vector<Input> inputs_;
};

class Field {
 public:
  Field(const FieldSource& source, SimdLevel level)
      : kernels_(cpu::field_kernels(level)), level_(level), packed_(source, kernels_.panel) {}

  cpu::FieldRunner runner() const { return {&packed_.model(), &kernels_}; }
  const FieldModel& model() const { return packed_.model(); }
  const PackedField& packed() const { return packed_; }
  const char* simd() const { return name_of(level_); }

 private:
  const cpu::FieldKernels& kernels_;
  SimdLevel level_;
  PackedField packed_;
};

// The frames of a call: biases packed, smoothing read.
struct Frames {
  std::vector<float> biases;
  std::optional<FieldSmoothing> smoothing;
  cpu::FieldFrames view;
};

using SmoothingTuple = std::tuple<std::array<float, 3>, std::array<float, 3>, float, float>;

void read_frames(const Field& field, const pybind11::object& biases,
                 const std::optional<SmoothingTuple>& smoothing, Frames& frames);

cpu::Lattice read_lattice(const std::array<std::vector<float>, 3>& axes);

}  // namespace facetalk::python
