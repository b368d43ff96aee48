// Bindings of what finds a frame's surface: bands, the canonical cache, guided frames, and their bricks.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "core/guided_search.h"
#include "cpu/marching_cubes/marching_cubes.h"
#include "cpu/surface/field_band.h"
#include "cpu/surface/field_guided.h"
#include "python/bindings.h"
#include "python/dlpack.h"
#include "python/field.h"

namespace py = pybind11;

namespace facetalk::python {
namespace {

using Point = std::array<float, 3>;

// Slope bounds and the arrays that they point to.
struct Bounds {
  cpu::SlopeBounds view;
  std::vector<float> slope, stretches;
};

// (origin, cell sizes, reaches, values (levels, nx, ny, nz))
using LocalTuple = std::tuple<Point, Point, std::vector<float>, py::object>;

// Along an axis of a lattice.
int checked_size(const char* name, int64_t size) {
  if (size > (int64_t{1} << 20))
    throw ArgumentError(name, "at most 2^20 along an axis", std::to_string(size));
  return static_cast<int>(size);
}

void read_local(const std::optional<LocalTuple>& given, LocalBounds& bounds, std::vector<float>& values) {
  if (!given) return;
  const auto& [origin, spacing, reach, array] = *given;
  const Input input = Input::from(array, "values").require(DType::kFloat32, {-1, -1, -1, -1});
  if (input.size(0) != static_cast<int64_t>(reach.size()) || input.size(0) > LocalBounds::kMaxLevels) {
    throw ArgumentError("values", std::to_string(reach.size()) + " levels", std::to_string(input.size(0)));
  }
  for (int a = 0; a < 3; ++a) {
    bounds.shape[a] = checked_size("values", input.size(a + 1));
    bounds.origin[a] = origin[static_cast<size_t>(a)];
    bounds.inverse_spacing[a] = 1.0f / spacing[static_cast<size_t>(a)];
  }
  bounds.levels = static_cast<int>(reach.size());
  std::copy(reach.begin(), reach.end(), bounds.reach);
  values.assign(input.as<float>(), input.as<float>() + input.view().size());
  for (const float slope : values) {
    if (!(slope > 0.0f)) throw ArgumentError("values", "slopes above 0", std::to_string(slope));
  }
  bounds.values = values.data();
}

std::unique_ptr<Bounds> read_bounds(bool raw, float everywhere, float stretch,
                                    const std::optional<LocalTuple>& slope,
                                    const std::optional<LocalTuple>& stretches) {
  if (!(everywhere > 0.0f) || !(stretch > 0.0f)) {
    throw ArgumentError("bounds", "slopes above 0",
                        std::to_string(everywhere) + " and " + std::to_string(stretch));
  }
  auto out = std::make_unique<Bounds>();
  out->view.raw = raw;
  out->view.everywhere = everywhere;
  out->view.stretch = stretch;
  read_local(slope, out->view.slope, out->slope);
  read_local(stretches, out->view.stretches, out->stretches);
  return out;
}

int check_spacing(int spacing, int least) {
  constexpr int kMost = 1 << 20;  // as many samples as an axis may have
  if (spacing < least || spacing > kMost || (spacing & (spacing - 1)) != 0) {
    throw ArgumentError("spacing", "a power of two, " + std::to_string(least) + " to 2^20",
                        std::to_string(spacing));
  }
  return spacing;
}

cpu::Lattice read_cells(const std::array<std::vector<float>, 3>& axes) {
  for (const std::vector<float>& axis : axes) {
    if (axis.size() < 2)
      throw ArgumentError("axes", "at least two samples along every axis", std::to_string(axis.size()));
    if (axis.size() > (1u << 20))
      throw ArgumentError("axes", "at most 2^20 samples along an axis", std::to_string(axis.size()));
  }
  return read_lattice(axes);
}

py::tuple band(const Field& field, const std::array<std::vector<float>, 3>& axes, const py::object& biases,
               const std::optional<SmoothingTuple>& smoothing, const Bounds& bounds, int spacing) {
  Frames frames;
  read_frames(field, biases, smoothing, frames);
  if (frames.view.count != 1) throw ArgumentError("biases", "one frame", std::to_string(frames.view.count));
  const cpu::Lattice lattice = read_cells(axes);
  check_spacing(spacing, kBrickSide);
  cpu::BandReport report;
  auto volume = std::make_unique<BrickVolume>();
  {
    py::gil_scoped_release release;
    *volume = cpu::field_band(field.runner(), frames.view, lattice, bounds.view, spacing, report);
  }
  py::dict counts;
  counts["deformed"] = report.deformed;
  counts["evaluated"] = report.evaluated;
  counts["uncertified"] = report.uncertified;
  counts["steepest"] = report.steepest;
  return py::make_tuple(std::move(volume), counts);
}

py::tuple guided(const Field& field, const std::array<std::vector<float>, 3>& axes, const py::object& biases,
                 const std::optional<SmoothingTuple>& smoothing, const Bounds& bounds,
                 const cpu::StoredCache& cache, bool exact, float tolerance, float cache_tolerance,
                 int spacing) {
  Frames frames;
  read_frames(field, biases, smoothing, frames);
  if (frames.view.count != 1 || frames.view.biases == nullptr)
    throw ArgumentError("biases", "one frame", std::to_string(frames.view.count));
  if (field.model().deformation.outputs != 3) {
    throw ArgumentError("field", "a deformation of three offsets (a canonical field of space alone)",
                        std::to_string(field.model().deformation.outputs) + " outputs");
  }
  const cpu::Lattice lattice = read_cells(axes);
  cpu::GuideOptions options;
  options.exact = exact;
  options.tolerance = tolerance;
  options.cache_tolerance = cache_tolerance;
  options.spacing = check_spacing(spacing, GuidedSearch::kFinestSpacing);
  cpu::GuideReport report;
  auto volume = std::make_unique<BrickVolume>();
  {
    py::gil_scoped_release release;
    *volume =
        cpu::field_guided(field.runner(), frames.view, lattice, bounds.view, cache.view, options, report);
  }
  py::dict counts;
  counts["deformed"] = report.deformed;
  counts["evaluated"] = report.evaluated;
  counts["uncertified"] = report.uncertified;
  counts["bricks"] = report.bricks;
  counts["direct"] = report.direct;
  return py::make_tuple(std::move(volume), counts);
}

template <typename T>
std::vector<T> copy_of(py::handle array, const char* name, DType dtype,
                       std::initializer_list<int64_t> shape) {
  const Input input = Input::from(array, name).require(dtype, shape);
  return std::vector<T>(input.as<T>(), input.as<T>() + input.view().size());
}

std::unique_ptr<cpu::StoredCache> make_cache(const Point& origin, float spacing, py::handle table,
                                             py::handle children, py::handle data, py::handle error,
                                             const Point& far_origin, float far_spacing, py::handle far) {
  auto cache = std::make_unique<cpu::StoredCache>();
  std::copy(origin.begin(), origin.end(), cache->view.origin);
  std::copy(far_origin.begin(), far_origin.end(), cache->view.far_origin);
  if (!(spacing > 0.0f) || !(far_spacing > 0.0f))
    throw ArgumentError("spacing", "above 0",
                        std::to_string(spacing) + " and " + std::to_string(far_spacing));
  cache->view.spacing = spacing;
  cache->view.far_spacing = far_spacing;
  cache->table = copy_of<int32_t>(table, "table", DType::kInt32, {-1, -1, -1});
  cache->children = copy_of<int32_t>(children, "children", DType::kInt32, {-1, kCacheChildren});
  constexpr int64_t kNodes = kCacheNodes;
  cache->data = copy_of<float>(data, "data", DType::kFloat32, {-1, kNodes, kNodes, kNodes});
  const auto bricks = static_cast<int64_t>(cache->data.size()) / kCacheBrick;
  cache->error = copy_of<float>(error, "error", DType::kFloat32, {bricks});
  cache->data.resize(cache->data.size() + 4, 0.0f);  // rows of four are read
  cache->far = copy_of<float>(far, "far", DType::kFloat32, {-1, -1, -1});
  const Input shape = Input::from(table, "table").require(DType::kInt32, {-1, -1, -1});
  const Input far_shape = Input::from(far, "far").require(DType::kFloat32, {-1, -1, -1});
  for (int a = 0; a < 3; ++a) {
    cache->view.shape[a] = checked_size("table", shape.size(a));
    cache->view.far_shape[a] = checked_size("far", far_shape.size(a));
  }
  const auto groups = static_cast<int64_t>(cache->children.size()) / kCacheChildren;
  for (const std::vector<int32_t>* entries : {&cache->table, &cache->children}) {
    for (size_t e = 0; e < entries->size(); ++e) {
      const int64_t entry = (*entries)[e];
      // A group may only name later groups, so that no lookup runs in circles.
      const int64_t group = entries == &cache->children ? static_cast<int64_t>(e / kCacheChildren) : -1;
      if (entry >= bricks || (entry < -1 && (-2 - entry >= groups || -2 - entry <= group))) {
        throw ArgumentError(
            "table, children",
            "bricks below " + std::to_string(bricks) + " and later groups below " + std::to_string(groups),
            std::to_string(entry));
      }
    }
  }
  cache->point();
  return cache;
}

py::tuple cache_query(const cpu::StoredCache& cache, py::handle points) {
  const Input input = Input::from(points, "points").require(DType::kFloat32, {-1, 3});
  const int64_t n = input.size(0);
  Array values = Array::make<float>({n});
  Array covered = Array::make<uint8_t>({n});
  Array distances = Array::make<float>({n});
  Array errors = Array::make<float>({n});
  for (int64_t i = 0; i < n; ++i) {
    const float* y = input.as<float>() + 3 * i;
    float value = 0.0f;
    float error = 0.0f;
    covered.view.as<uint8_t>()[i] = cpu::cache_value(cache.view, y, &value, &error);
    errors.view.as<float>()[i] = error;
    values.view.as<float>()[i] = value;
    distances.view.as<float>()[i] = cache.view.distance(y);
  }
  return py::make_tuple(py::cast(std::move(values)), py::cast(std::move(covered)),
                        py::cast(std::move(distances)), py::cast(std::move(errors)));
}

// Samples of the whole lattice; +-1 where nothing is stored.
Array dense(const BrickVolume& volume) {
  Array out = Array::make<float>({volume.shape[0], volume.shape[1], volume.shape[2]});
  float* to = out.view.as<float>();
  for (int64_t i = 0; i < volume.shape[0]; ++i) {
    for (int64_t j = 0; j < volume.shape[1]; ++j) {
      for (int64_t k = 0; k < volume.shape[2]; ++k) {
        const int32_t entry = volume.table[static_cast<size_t>(
            volume.brick(i >> kBrickShift, j >> kBrickShift, k >> kBrickShift))];
        *to++ =
            entry >= 0
                ? volume.samples[static_cast<size_t>(entry * kBrickSamples + BrickVolume::within(i, j, k))]
            : entry == kBrickInside ? -1.0f
                                    : 1.0f;
      }
    }
  }
  return out;
}

py::tuple mesh_of(const BrickVolume& volume, const std::array<double, 3>& origin,
                  const std::array<double, 3>& step) {
  cpu::GridFrame frame;
  std::copy(origin.begin(), origin.end(), frame.origin);
  std::copy(step.begin(), step.end(), frame.step);
  cpu::SurfaceMesh mesh;
  {
    py::gil_scoped_release release;
    mesh = cpu::marching_cubes(volume, 0.0f, frame);
  }
  return py::make_tuple(mesh.vertices, mesh.faces);
}

// Sizes and knobs that Python computes with too, named once, in C++.
py::dict constants() {
  py::dict out;
  out["brick"] = kBrickSide;
  out["cache_cells"] = kCacheCells;
  out["cache_nodes"] = kCacheNodes;
  out["cache_children"] = kCacheChildren;
  out["longest_margin"] = GuidedSearch::kLongestMargin;
  out["first_stride"] = GuidedSearch::kFirstStride;
  out["least_share"] = GuidedSearch::kLeastShare;
  out["finest_spacing"] = GuidedSearch::kFinestSpacing;
  return out;
}

}  // namespace

void bind_extraction(py::module_& module) {
  module.def("surface_constants", &constants);
  py::class_<BrickVolume>(module, "BrickVolume", "Samples near a surface, in bricks of 8^3.")
      .def_property_readonly(
          "shape",
          [](const BrickVolume& v) { return std::array<int64_t, 3>{v.shape[0], v.shape[1], v.shape[2]}; })
      .def_property_readonly("stored", &BrickVolume::stored)
      .def("dense", &dense, "(nx, ny, nz) float32, +-1 where nothing is stored")
      .def("mesh", &mesh_of, py::arg("origin"), py::arg("step"),
           "(vertices (V, 3) float32, faces (F, 3) int32)");
  py::class_<cpu::StoredCache>(module, "CanonicalCache", "A canonical field sampled on a sparse lattice.")
      .def(py::init(&make_cache), py::kw_only(), py::arg("origin"), py::arg("spacing"), py::arg("table"),
           py::arg("children"), py::arg("data"), py::arg("error"), py::arg("far_origin"),
           py::arg("far_spacing"), py::arg("far"))
      .def("query", &cache_query, py::arg("points"),
           "values (N,), covered (N,) uint8, signed lower bounds of the distance (N,), error bounds (N,)")
      .def_property_readonly("bytes", [](const cpu::StoredCache& c) {
        return 4 * (c.table.size() + c.children.size() + c.data.size() + c.far.size());
      });
  py::class_<Bounds>(module, "SlopeBounds", "Bounds on how fast a field changes.")
      .def(py::init(&read_bounds), py::kw_only(), py::arg("raw"), py::arg("everywhere"), py::arg("stretch"),
           py::arg("slope") = py::none(), py::arg("stretches") = py::none());
  module.def("field_band", &band, py::arg("field"), py::arg("axes"), py::arg("biases"), py::kw_only(),
             py::arg("smoothing"), py::arg("bounds"), py::arg("spacing"));
  module.def("field_guided", &guided, py::arg("field"), py::arg("axes"), py::arg("biases"), py::kw_only(),
             py::arg("smoothing"), py::arg("bounds"), py::arg("cache"), py::arg("exact"),
             py::arg("tolerance"), py::arg("cache_tolerance"), py::arg("spacing"));
}

}  // namespace facetalk::python
