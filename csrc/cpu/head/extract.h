// Surfaces of a bound head on a lattice: facetalk/nphm/surface/{find,forward}.py in C++.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "cpu/head/field_model.h"
#include "cpu/head/slopes.h"
#include "cpu/marching_cubes/marching_cubes.h"

namespace facetalk::head {

// Both ends of the box are samples; head units.
struct Box {
  int resolution = 0;             // along every axis
  std::array<float, 6> bounds{};  // low xyz, high xyz
  bool operator==(const Box& other) const = default;
};

// What was learned of a bound head; for many threads.
class Knowledge {
 public:
  // The slopes of the last box that was asked for.
  std::shared_ptr<const Slopes> slopes(const cpu::FieldRunner& runner, const Box& box);
  // The surface of the canonical field in the last box, head units, and cells that could not be certified.
  struct Neutral {
    cpu::SurfaceMesh mesh;
    int64_t uncertified = 0;
  };
  std::shared_ptr<const Neutral> neutral(const cpu::FieldRunner& runner, const Box& box);
  void forget();

 private:
  std::mutex mutex_, neutral_mutex_;
  Box box_, neutral_box_;
  std::shared_ptr<const Slopes> slopes_;
  std::shared_ptr<const Neutral> neutral_;
};

// The surface in metres: of the canonical head where `biases` are null, else posed by a deformation that goes
// backward (the zero set of the posed field) or forward (the canonical surface, its vertices moved). Found in a
// band around it as Python's "band" does. `uncertified`: cells whose sign rests on a bound that samples contradict.
cpu::SurfaceMesh extract(const BoundField& field, const float* biases, bool is_backward, const Box& box,
                         Knowledge& knowledge, int64_t& uncertified);

}  // namespace facetalk::head
