#include "cpu/head/extract.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/cpu_features.h"
#include "cpu/surface/field_band.h"
#include "cpu/surface/field_guided.h"

namespace facetalk::head {
namespace {

constexpr double kCoarseBand = 0.15;  // head units, as COARSE_BAND in facetalk/ops/field/cpu.py

// facetalk/nphm/surface/plan.py says why.
constexpr double kUnitMm = 250.0, kDefaultToleranceMm = 0.05, kCacheShare = 0.65, kBoxMargin = 0.12,
                 kWidestStretch = 1.2, kSpareWidth = 1.1, kCoarseOffsets = 0.08, kBandPoints = 18.0,
                 kBakePoints = 220.0, kFirstSpacing = 0.01;

// The nearest power of two on a logarithmic scale.
int power_of_two(double value, int least) {
  return 1 << std::clamp(static_cast<int>(std::lround(std::log2(std::max(value, 1.0)))), least, 10);
}

// Head units.
cpu::SurfaceMesh band(const cpu::FieldRunner& runner, const cpu::FieldFrames& frame, const Box& box,
                      const Slopes& known, int64_t& uncertified) {
  const Place place = place_of(box);
  cpu::BandReport report;
  const Stretched stretched(known, runner, frame, true);
  const BrickVolume volume = cpu::field_band(runner, frame, place.lattice, stretched.bounds(),
                                             power_of_two(kCoarseBand / place.mean, 3), report);
  uncertified = report.uncertified;
  return cpu::marching_cubes(volume, 0.0f, place.grid);
}

// The same within a tolerance, from what is known of the identity.
cpu::SurfaceMesh guided(const cpu::FieldRunner& runner, const cpu::FieldFrames& frame, const Box& box,
                        float tolerance_mm, const Knowledge::Guide& guide, int64_t& uncertified) {
  const Place place = place_of(box);
  cpu::GuideOptions options;
  options.tolerance = static_cast<float>((1.0 - kCacheShare) * tolerance_mm / kUnitMm);
  options.cache_tolerance = static_cast<float>(kCacheShare * tolerance_mm / kUnitMm);
  options.spacing = power_of_two(kCoarseOffsets / place.mean, 2);
  cpu::GuideReport report;
  const Stretched stretched(*guide.slopes, runner, frame, false);
  const BrickVolume volume = cpu::field_guided(runner, frame, place.lattice, stretched.bounds(),
                                               guide.baked->cache.view, options, report);
  uncertified = report.uncertified;
  return cpu::marching_cubes(volume, 0.0f, place.grid);
}

}  // namespace

Place place_of(const Box& box) {
  Place place;
  for (size_t a = 0; a < 3; ++a) {
    const double low = box.bounds[a];
    const double step = (static_cast<double>(box.bounds[3 + a]) - low) / (box.resolution - 1);
    for (int i = 0; i < box.resolution; ++i)
      place.lattice.axis[a].push_back(i + 1 < box.resolution ? static_cast<float>(low + i * step)
                                                             : box.bounds[3 + a]);
    place.grid.origin[a] = low;
    place.grid.step[a] = step;
    place.mean += step / 3.0;
    place.diagonal += step * step;
  }
  place.diagonal = std::sqrt(place.diagonal);
  return place;
}

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

std::shared_ptr<const Knowledge::Guide> Knowledge::guide(const cpu::FieldRunner& runner,
                                                         const cpu::FieldFrames& frame, const Box& box,
                                                         float tolerance_mm, Report& report) {
  const std::lock_guard<std::mutex> lock(guide_mutex_);
  if (guide_box_.bounds != box.bounds) {
    guide_.reset();
    wide_slopes_.reset();
    spent_ = 0.0;
    guide_box_ = box;
  }
  std::array<float, 6> wide{};
  for (size_t a = 0; a < 3; ++a) {
    wide[a] = static_cast<float>(box.bounds[a] - kBoxMargin);
    wide[3 + a] = static_cast<float>(box.bounds[3 + a] + kBoxMargin);
  }
  if (wide_slopes_ == nullptr) wide_slopes_ = std::make_shared<const Slopes>(estimate_slopes(runner, wide));
  const Place place = place_of(box);
  // A corner of a cell that the surface cuts is no farther from it than this, with room for errors.
  const auto width_of = [&](double stretch) {
    return 1.05 * place.diagonal * std::min(stretch, kWidestStretch) + 2.0 * kDefaultToleranceMm / kUnitMm;
  };
  const double share = kCacheShare * tolerance_mm;
  if (guide_ != nullptr && guide_->baked->fits(width_of(kWidestStretch), share)) return guide_;
  const Stretched stretched(*wide_slopes_, runner, frame, true);
  const double width = width_of(stretched.greatest());
  if (guide_ != nullptr && guide_->baked->fits(width, share)) return guide_;
  spent_ += kBandPoints * stretched.usual() / (place.mean * place.mean);
  if (spent_ <= kBakePoints / (kFirstSpacing * kFirstSpacing)) return nullptr;
  cpu::SlopeBounds bounds = wide_slopes_->bounds;
  bounds.slope.values = wide_slopes_->levels.data();
  std::shared_ptr<const Baked> baked = bake(runner, bounds, wide, kSpareWidth * width, share);
  if (baked == nullptr) return nullptr;
  report.baked = static_cast<int64_t>(baked->cache.error.size());
  guide_ = std::make_shared<const Guide>(Guide{wide_slopes_, std::move(baked)});
  return guide_;
}

void Knowledge::forget() {
  const std::scoped_lock lock(mutex_, neutral_mutex_, guide_mutex_);
  slopes_.reset();
  neutral_.reset();
  guide_.reset();
  wide_slopes_.reset();
  spent_ = 0.0;
}

cpu::SurfaceMesh extract(const BoundField& field, const float* biases, bool is_backward, const Box& box,
                         float tolerance_mm, Knowledge& knowledge, Report& report) {
  const cpu::FieldRunner runner{&field.packed.model(), &cpu::field_kernels(simd_level())};
  cpu::FieldFrames frame;
  frame.biases = biases;
  cpu::SurfaceMesh mesh;
  if (biases == nullptr || is_backward) {
    // A cache is of the canonical field over space alone.
    const bool may_guide = biases != nullptr && tolerance_mm > 0.0f && runner.model->identity.coords == 3;
    const auto guide = may_guide ? knowledge.guide(runner, frame, box, tolerance_mm, report) : nullptr;
    mesh = guide != nullptr ? guided(runner, frame, box, tolerance_mm, *guide, report.uncertified)
                            : band(runner, frame, box, *knowledge.slopes(runner, box), report.uncertified);
    float* vertices = mesh.vertices.view.as<float>();
    for (int64_t i = 0; i < 3 * mesh.vertices.view.shape[0]; ++i) vertices[i] *= kMetres;
    return mesh;
  }
  const std::shared_ptr<const Knowledge::Neutral> neutral = knowledge.neutral(runner, box);
  report.uncertified = neutral->uncertified;
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
