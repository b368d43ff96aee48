#include "cpu/head/extract.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/cpu_features.h"
#include "cpu/surface/field_band.h"

namespace facetalk::head {
namespace {

constexpr float kMetres = 0.25f;      // of a head unit
constexpr double kCoarseBand = 0.15;  // head units, as COARSE_BAND in facetalk/ops/field/cpu.py

// Head units.
cpu::SurfaceMesh band(const cpu::FieldRunner& runner, const cpu::FieldFrames& frame, const Box& box,
                      const Slopes& known, int64_t& uncertified) {
  cpu::Lattice lattice;
  cpu::GridFrame grid;
  double mean = 0.0;
  for (size_t a = 0; a < 3; ++a) {
    const double low = box.bounds[a];
    const double step = (static_cast<double>(box.bounds[3 + a]) - low) / (box.resolution - 1);
    for (int i = 0; i < box.resolution; ++i)
      lattice.axis[a].push_back(i + 1 < box.resolution ? static_cast<float>(low + i * step)
                                                       : box.bounds[3 + a]);
    grid.origin[a] = low;
    grid.step[a] = step;
    mean += step / 3.0;
  }
  const double cells = kCoarseBand / mean;
  const int spacing = 1 << std::clamp(static_cast<int>(std::lround(std::log2(std::max(cells, 1.0)))), 3, 10);
  cpu::BandReport report;
  const BrickVolume volume =
      cpu::field_band(runner, frame, lattice, with_stretch(known, runner, frame), spacing, report);
  uncertified = report.uncertified;
  return cpu::marching_cubes(volume, 0.0f, grid);
}

}  // namespace

std::shared_ptr<const Slopes> Knowledge::slopes(const cpu::FieldRunner& runner, const Box& box) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (slopes_ == nullptr || box_.bounds != box.bounds) {
    slopes_ = std::make_shared<const Slopes>(estimate_slopes(runner, box.bounds));
    box_ = box;
  }
  return slopes_;
}

std::shared_ptr<const Knowledge::Neutral> Knowledge::neutral(const cpu::FieldRunner& runner, const Box& box) {
  const std::lock_guard<std::mutex> lock(neutral_mutex_);
  if (neutral_ == nullptr || neutral_box_ != box) {
    auto found = std::make_shared<Neutral>();
    found->mesh = band(runner, {}, box, *slopes(runner, box), found->uncertified);
    neutral_ = std::move(found);
    neutral_box_ = box;
  }
  return neutral_;
}

void Knowledge::forget() {
  const std::scoped_lock lock(mutex_, neutral_mutex_);
  slopes_.reset();
  neutral_.reset();
}

cpu::SurfaceMesh extract(const BoundField& field, const float* biases, bool is_backward, const Box& box,
                         Knowledge& knowledge, int64_t& uncertified) {
  const cpu::FieldRunner runner{&field.packed.model(), &cpu::field_kernels(simd_level())};
  cpu::FieldFrames frame;
  frame.biases = biases;
  cpu::SurfaceMesh mesh;
  if (biases == nullptr || is_backward) {
    mesh = band(runner, frame, box, *knowledge.slopes(runner, box), uncertified);
    float* vertices = mesh.vertices.view.as<float>();
    for (int64_t i = 0; i < 3 * mesh.vertices.view.shape[0]; ++i) vertices[i] *= kMetres;
    return mesh;
  }
  const std::shared_ptr<const Knowledge::Neutral> neutral = knowledge.neutral(runner, box);
  uncertified = neutral->uncertified;
  const int64_t count = neutral->mesh.vertices.view.shape[0], faces = neutral->mesh.faces.view.shape[0];
  const auto* from = neutral->mesh.vertices.view.as<const float>();
  mesh.vertices = Array::make<float>({count, int64_t{3}});
  mesh.faces = Array::make<int32_t>({faces, int64_t{3}});
  std::copy_n(neutral->mesh.faces.view.as<const int32_t>(), 3 * faces, mesh.faces.view.as<int32_t>());
  float* to = mesh.vertices.view.as<float>();
  cpu::FieldOutputs outputs;
  outputs.offsets = to;
  if (count > 0) cpu::field_query(runner, frame, from, count, 3, outputs);
  for (int64_t i = 0; i < 3 * count; ++i) to[i] = (to[i] + from[i]) * kMetres;
  return mesh;
}

}  // namespace facetalk::head
