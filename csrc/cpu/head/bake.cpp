#include "cpu/head/bake.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cpu/head/distance.h"

namespace facetalk::head {
namespace {

// facetalk/nphm/surface/bake.py says why.
constexpr double kUnitMm = 250.0, kFirstSpacing = 0.01, kNearEnough = 1.3, kProbeMargin = 1.25,
                 kFlattest = 0.1;
constexpr int kDeepest = 1, kProbes = 20;
constexpr double kMostCells = 1e8;
constexpr int64_t kQuery = 1 << 16;

using Place = std::array<int64_t, 3>;

std::vector<float> values_at(const cpu::FieldRunner& runner, const std::vector<float>& points) {
  const auto count = static_cast<int64_t>(points.size() / 3);
  std::vector<float> out(static_cast<size_t>(count));
  for (int64_t first = 0; first < count; first += kQuery) {
    cpu::FieldOutputs outputs;
    outputs.sdf = out.data() + first;
    cpu::field_query(runner, {}, points.data() + 3 * first, std::min(kQuery, count - first), 3, outputs);
  }
  return out;
}

// Bricks of one spacing: where they are, and their samples.
struct Bricks {
  double origin[3] = {}, spacing = 0.0;
  std::vector<Place> at;
  std::vector<float> data;  // (n, 7, 7, 7)

  void sample(const cpu::FieldRunner& runner) {
    int64_t extent[3] = {1, 1, 1};
    for (const Place& brick : at) {
      for (size_t a = 0; a < 3; ++a) extent[a] = std::max(extent[a], brick[a] * kCacheCells + kCacheNodes);
    }
    std::vector<int64_t> keys;
    keys.reserve(at.size() * kCacheBrick);
    for (const Place& brick : at) {
      for (int64_t i = 0; i < kCacheBrick; ++i) {
        const int64_t step[3] = {i / (kCacheNodes * kCacheNodes), i / kCacheNodes % kCacheNodes,
                                 i % kCacheNodes};
        int64_t key = 0;
        for (size_t a = 0; a < 3; ++a) key = key * extent[a] + brick[a] * kCacheCells + step[a];
        keys.push_back(key);
      }
    }
    // Neighbours share samples: every one is asked once.
    std::vector<int64_t> named(keys);
    std::sort(named.begin(), named.end());
    named.erase(std::unique(named.begin(), named.end()), named.end());
    std::vector<float> points;
    points.reserve(3 * named.size());
    for (const int64_t key : named) {
      const int64_t index[3] = {key / (extent[1] * extent[2]), key / extent[2] % extent[1], key % extent[2]};
      for (int a = 0; a < 3; ++a)
        points.push_back(static_cast<float>(origin[a] + static_cast<double>(index[a] - 1) * spacing));
    }
    const std::vector<float> found = values_at(runner, points);
    data.resize(keys.size());
    for (size_t i = 0; i < keys.size(); ++i)
      data[i] =
          found[static_cast<size_t>(std::lower_bound(named.begin(), named.end(), keys[i]) - named.begin())];
  }
};

// Tricubic (Lagrange) value in a brick, and the length of its gradient, per cell.
std::pair<double, double> interpolate(const float* brick, const double (&unit)[3]) {
  double weight[3][4], slope[3][4];
  int64_t first = 0;
  for (int a = 0; a < 3; ++a) {
    const int cell = std::min(static_cast<int>(unit[a]), kCacheCells - 1);
    const double t = unit[a] - cell;
    first = first * kCacheNodes + cell;
    const double w[4] = {-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2,
                         -(t + 1) * t * (t - 2) / 2, (t + 1) * t * (t - 1) / 6};
    const double s[4] = {-(3 * t * t - 6 * t + 2) / 6, (3 * t * t - 4 * t - 1) / 2,
                         -(3 * t * t - 2 * t - 2) / 2, (3 * t * t - 1) / 6};
    std::copy(w, w + 4, weight[a]);
    std::copy(s, s + 4, slope[a]);
  }
  double value = 0.0, gradient[3] = {};
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      for (int k = 0; k < 4; ++k) {
        const double sample = brick[first + (i * kCacheNodes + j) * kCacheNodes + k];
        value += weight[0][i] * weight[1][j] * weight[2][k] * sample;
        gradient[0] += slope[0][i] * weight[1][j] * weight[2][k] * sample;
        gradient[1] += weight[0][i] * slope[1][j] * weight[2][k] * sample;
        gradient[2] += weight[0][i] * weight[1][j] * slope[2][k] * sample;
      }
    }
  }
  return {value,
          std::sqrt(gradient[0] * gradient[0] + gradient[1] * gradient[1] + gradient[2] * gradient[2])};
}

int64_t key_of(const Place& at) {
  constexpr int64_t kSide = 1 << 21;
  return (at[0] * kSide + at[1]) * kSide + at[2];
}

// The largest error of every brick and its six neighbours, at random points that may be near the surface.
std::vector<double> probe(const cpu::FieldRunner& runner, const Bricks& bricks, const cpu::StoredCache& cache,
                          double width, std::mt19937& random) {
  std::vector<float> points;
  std::vector<std::pair<size_t, std::array<double, 3>>> asked;
  for (size_t n = 0; n < bricks.at.size(); ++n) {
    for (int p = 0; p < kProbes; ++p) {
      std::array<double, 3> unit{};
      float point[3];
      for (size_t a = 0; a < 3; ++a) {
        unit[a] = static_cast<double>(random()) * (kCacheCells / 4294967296.0);
        point[a] = static_cast<float>(bricks.origin[a] +
                                      (static_cast<double>(bricks.at[n][a] * kCacheCells) + unit[a]) *
                                          bricks.spacing);
      }
      if (std::abs(cache.view.distance(point)) > width) continue;
      points.insert(points.end(), point, point + 3);
      asked.emplace_back(n, unit);
    }
  }
  const std::vector<float> truth = values_at(runner, points);
  std::unordered_map<int64_t, double> worst;
  for (size_t i = 0; i < asked.size(); ++i) {
    const double unit[3] = {asked[i].second[0], asked[i].second[1], asked[i].second[2]};
    const auto [value, slope] = interpolate(bricks.data.data() + asked[i].first * kCacheBrick, unit);
    // Where the field is flat, an error moves the surface farther.
    const double error = std::abs(value - truth[i]) / std::clamp(slope / bricks.spacing, kFlattest, 1.0);
    double& known = worst[key_of(bricks.at[asked[i].first])];
    known = std::max(known, error);
  }
  std::vector<double> out;
  for (const Place& at : bricks.at) {
    double most = 0.0;
    for (int side = -1; side < 6; ++side) {
      Place there = at;
      if (side >= 0) there[static_cast<size_t>(side / 2)] += side % 2 == 0 ? -1 : 1;
      if (const auto found = worst.find(key_of(there)); found != worst.end())
        most = std::max(most, found->second);
    }
    out.push_back(kProbeMargin * most);
  }
  return out;
}

// Keeps the bricks that are good enough; gives those that replace the others, and where their numbers go.
// A slot below 0 is one of `children`, -1 - slot.
void store(cpu::StoredCache& cache, Bricks& bricks, std::vector<int64_t>& slots,
           const std::vector<double>& error, double bar, double width) {
  std::vector<Place> finer;
  std::vector<int64_t> finer_slots;
  for (size_t n = 0; n < bricks.at.size(); ++n) {
    const float* data = bricks.data.data() + n * kCacheBrick;
    int32_t& entry = slots[n] >= 0 ? cache.table[static_cast<size_t>(slots[n])]
                                   : cache.children[static_cast<size_t>(-1 - slots[n])];
    if (error[n] <= bar) {
      entry = static_cast<int32_t>(cache.error.size());
      cache.data.insert(cache.data.end(), data, data + kCacheBrick);
      cache.error.push_back(static_cast<float>(error[n]));
      continue;
    }
    const size_t group = cache.children.size();
    entry = -2 - static_cast<int32_t>(group / kCacheChildren);
    cache.children.insert(cache.children.end(), kCacheChildren, -1);
    for (int child = 0; child < kCacheChildren; ++child) {
      // Three of the brick's samples along each axis bound or halve the smaller one.
      double nearest = INFINITY;
      for (int i = 0; i < 27; ++i) {
        const int step[3] = {i / 9, i / 3 % 3, i % 3};
        int64_t at = 0;
        for (int a = 0; a < 3; ++a) at = at * kCacheNodes + 1 + 2 * (child >> (2 - a) & 1) + step[a];
        nearest = std::min(nearest, static_cast<double>(std::abs(data[at])));
      }
      if (nearest > kNearEnough * width) continue;
      finer.push_back({2 * bricks.at[n][0] + (child >> 2 & 1), 2 * bricks.at[n][1] + (child >> 1 & 1),
                       2 * bricks.at[n][2] + (child & 1)});
      finer_slots.push_back(-1 - static_cast<int64_t>(group) - child);
    }
  }
  bricks.at = std::move(finer);
  slots = std::move(finer_slots);
}

}  // namespace

std::unique_ptr<Baked> bake(const cpu::FieldRunner& runner, const cpu::SlopeBounds& bounds,
                            const std::array<float, 6>& box, double width, double tolerance_mm) {
  // The error of cubic interpolation grows with the fourth power of the spacing.
  const double spacing = kFirstSpacing * std::clamp(std::pow(tolerance_mm / 0.03, 0.25), 0.4, 2.0);
  auto baked = std::make_unique<Baked>();
  baked->width = width;
  baked->tolerance_mm = tolerance_mm;
  cpu::StoredCache& cache = baked->cache;
  Bricks bricks;
  double cells = 1.0;
  int counts[3];
  for (size_t a = 0; a < 3; ++a) {
    const double bricks_along =
        std::ceil((static_cast<double>(box[3 + a]) - box[a]) / (kCacheCells * spacing));
    cells *= kCacheCells * bricks_along;
    if (!(cells <= kMostCells)) return nullptr;
    cache.view.shape[a] = static_cast<int>(bricks_along);
    cache.view.far_shape[a] = 2 * cache.view.shape[a];
    cache.view.origin[a] = cache.view.far_origin[a] = box[a];
    counts[a] = kCacheCells * cache.view.shape[a];
    bricks.origin[a] = box[a];
  }
  cache.view.spacing = static_cast<float>(spacing);
  cache.view.far_spacing = static_cast<float>(2.0 * spacing);
  cache.far = least_distances(runner, bounds, bricks.origin, spacing, counts);
  cache.point();

  std::vector<int64_t> slots;
  const int (&shape)[3] = cache.view.shape;
  cache.table.assign(
      static_cast<size_t>(shape[0]) * static_cast<size_t>(shape[1]) * static_cast<size_t>(shape[2]), -1);
  for (int64_t i = 0; i < shape[0]; ++i) {
    for (int64_t j = 0; j < shape[1]; ++j) {
      for (int64_t k = 0; k < shape[2]; ++k) {
        float nearest = INFINITY;
        for (int c = 0; c < 8; ++c) {
          const int64_t at =
              ((2 * i + (c >> 2)) * 2 * shape[1] + 2 * j + (c >> 1 & 1)) * 2 * shape[2] + 2 * k + (c & 1);
          nearest = std::min(nearest, std::abs(cache.far[static_cast<size_t>(at)]));
        }
        if (nearest > width) continue;
        bricks.at.push_back({i, j, k});
        slots.push_back((i * shape[1] + j) * shape[2] + k);
      }
    }
  }
  std::mt19937 random(0);
  for (int depth = 0; depth <= kDeepest && !bricks.at.empty(); ++depth) {
    bricks.spacing = spacing / (1 << depth);
    bricks.sample(runner);
    const std::vector<double> error = probe(runner, bricks, cache, width, random);
    store(cache, bricks, slots, error, depth < kDeepest ? tolerance_mm / kUnitMm : INFINITY, width);
  }
  cache.data.resize(cache.data.size() + 4, 0.0f);  // rows of four are read
  cache.point();
  return baked;
}

}  // namespace facetalk::head
