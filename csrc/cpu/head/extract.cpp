// Finding the surface of a bound head on a lattice.
#include <algorithm>
#include <cmath>

#include "core/cpu_features.h"
#include "cpu/head/field_model.h"
#include "cpu/surface/field_band.h"

namespace facetalk::head {
namespace {

constexpr float kMetres = 0.25f;      // of a head unit
constexpr double kCoarseBand = 0.15;  // head units, as COARSE_BAND in facetalk/ops/field/cpu.py

}  // namespace

cpu::SurfaceMesh extract(const BoundField& field, const float* biases, int resolution,
                         const float (&bounds)[6], SlopeCache& slopes) {
  const cpu::FieldRunner runner{&field.packed.model(), &cpu::field_kernels(simd_level())};
  cpu::FieldFrames frame;
  frame.biases = biases;
  cpu::Lattice lattice;
  cpu::GridFrame grid;
  double mean = 0.0;
  for (int a = 0; a < 3; ++a) {
    const double low = bounds[a], step = (static_cast<double>(bounds[3 + a]) - low) / (resolution - 1);
    for (int i = 0; i < resolution; ++i)
      lattice.axis[a].push_back(i + 1 < resolution ? static_cast<float>(low + i * step) : bounds[3 + a]);
    grid.origin[a] = low;
    grid.step[a] = step;
    mean += step / 3.0;
  }
  const double cells = kCoarseBand / mean;
  const int spacing = 1 << std::clamp(static_cast<int>(std::lround(std::log2(std::max(cells, 1.0)))), 3, 10);
  const std::shared_ptr<const Slopes> known = slopes.find(runner, bounds);
  cpu::BandReport report;
  const BrickVolume volume =
      cpu::field_band(runner, frame, lattice, with_stretch(*known, runner, frame), spacing, report);
  cpu::SurfaceMesh mesh = cpu::marching_cubes(volume, 0.0f, grid);
  float* vertices = mesh.vertices.view.as<float>();
  for (int64_t i = 0; i < 3 * mesh.vertices.view.shape[0]; ++i) vertices[i] *= kMetres;
  return mesh;
}

}  // namespace facetalk::head
