// Surfaces of a bound head on a lattice: facetalk/nphm/surface/{find,forward}.py in C++.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "cpu/head/bake.h"
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

constexpr float kMetres = 0.25f;  // of a head unit

// Its samples, and where they lie.
struct Place {
  cpu::Lattice lattice;
  cpu::GridFrame grid;
  double mean = 0.0, diagonal = 0.0;  // of the steps
};
Place place_of(const Box& box);

// How a surface was found.
struct Report {
  int64_t uncertified = 0;  // cells whose sign rests on a bound that samples contradict
  int64_t baked = 0;        // bricks of the identity, where this call baked it
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
  // What a frame within a tolerance is found from.
  struct Guide {
    std::shared_ptr<const Slopes> slopes;  // of the box that is baked, somewhat larger
    std::shared_ptr<const Baked> baked;
  };
  // Null where bands are cheaper: baking the head costs as much as some frames, and is done once those were
  // asked for.
  std::shared_ptr<const Guide> guide(const cpu::FieldRunner& runner, const cpu::FieldFrames& frame,
                                     const Box& box, float tolerance_mm, Report& report);
  void forget();

 private:
  std::mutex mutex_, neutral_mutex_, guide_mutex_;
  Box box_, neutral_box_, guide_box_;
  std::shared_ptr<const Slopes> slopes_;
  std::shared_ptr<const Neutral> neutral_;
  std::shared_ptr<const Guide> guide_;
  std::shared_ptr<const Slopes> wide_slopes_;
  double spent_ = 0.0;  // points of the networks that frames within a tolerance have cost
};

// The surface in metres: of the canonical head where `biases` are null, else posed by a deformation that goes
// backward (the zero set of the posed field) or forward (the canonical surface, its vertices moved). Found in a
// band around it as Python's "band" does, or, once it pays, from a baked identity and interpolated offsets as
// its "cache" does, within `tolerance_mm`; 0 takes no such short cut.
cpu::SurfaceMesh extract(const BoundField& field, const float* biases, bool is_backward, const Box& box,
                         float tolerance_mm, Knowledge& knowledge, Report& report);

}  // namespace facetalk::head
