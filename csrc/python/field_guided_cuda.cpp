// The kernels of guided frames and of the canonical cache as facetalk._C.cuda_guided. As in field_cuda.cpp,
// arrays are passed as addresses; facetalk/ops/cuda/surface_guided.py owns them and is the typed face.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "core/status.h"
#include "python/bindings.h"

#if defined(FACETALK_WITH_CUDA) || defined(FACETALK_EMULATE_CUDA)
#include "cuda/surface/field_guided.h"

namespace py = pybind11;

namespace facetalk::python {
namespace guided {

using Address = uintptr_t;
using Point = std::array<float, 3>;
using Shape = std::array<int, 3>;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

CanonicalCache make_cache(const Point& origin, float spacing, const Shape& shape, Address table,
                          Address children, Address data, Address error, const Point& far_origin,
                          float far_spacing, const Shape& far_shape, Address far) {
  CanonicalCache cache;
  std::copy(origin.begin(), origin.end(), cache.origin);
  std::copy(shape.begin(), shape.end(), cache.shape);
  std::copy(far_origin.begin(), far_origin.end(), cache.far_origin);
  std::copy(far_shape.begin(), far_shape.end(), cache.far_shape);
  cache.spacing = spacing;
  cache.table = at<const int32_t>(table);
  cache.children = at<const int32_t>(children);
  cache.data = at<const float>(data);
  cache.error = at<const float>(error);
  cache.far_spacing = far_spacing;
  cache.far = at<const float>(far);
  return cache;
}

// (origin, cell sizes, reaches, shape, values)
using LocalTuple = std::tuple<Point, Point, std::vector<float>, Shape, Address>;

LocalBounds read_local(const std::optional<LocalTuple>& given) {
  LocalBounds bounds;
  if (!given) return bounds;
  const auto& [origin, spacing, reach, shape, values] = *given;
  if (reach.size() > LocalBounds::kMaxLevels) {
    throw ArgumentError("reach", "at most " + std::to_string(LocalBounds::kMaxLevels) + " levels",
                        std::to_string(reach.size()));
  }
  std::copy(origin.begin(), origin.end(), bounds.origin);
  std::copy(shape.begin(), shape.end(), bounds.shape);
  std::copy(reach.begin(), reach.end(), bounds.reach);
  for (size_t a = 0; a < 3; ++a) bounds.inverse_spacing[a] = 1.0f / spacing[a];
  bounds.levels = static_cast<int>(reach.size());
  bounds.values = at<const float>(values);
  return bounds;
}

cuda::FieldGuide make_guide(const cuda::FieldBricks& bricks, const Point& front, const Point& edge,
                            float diagonal, const CanonicalCache& cache, float everywhere,
                            const std::optional<LocalTuple>& slope, float stretch,
                            const std::optional<LocalTuple>& stretches) {
  cuda::FieldGuide guide;
  guide.bricks = bricks;
  std::copy(front.begin(), front.end(), guide.front);
  std::copy(edge.begin(), edge.end(), guide.edge);
  guide.diagonal = diagonal;
  guide.half_diagonal = 0.5f * kBrickSide * diagonal;
  guide.cache = cache;
  guide.everywhere = everywhere;
  guide.slope = read_local(slope);
  guide.stretch = stretch;
  guide.stretches = read_local(stretches);
  return guide;
}

cuda::FieldNodes make_nodes(const std::array<double, 3>& origin, const std::array<double, 3>& step,
                            const Shape& shape, int spacing, Address offset, Address error) {
  cuda::FieldNodes nodes;
  std::copy(origin.begin(), origin.end(), nodes.origin);
  std::copy(step.begin(), step.end(), nodes.step);
  std::copy(shape.begin(), shape.end(), nodes.shape);
  nodes.nodes = static_cast<int64_t>(shape[0]) * shape[1] * shape[2];
  nodes.spacing = spacing;
  nodes.offset = at<float>(offset);
  nodes.error = at<float>(error);
  return nodes;
}

using Release = py::call_guard<py::gil_scoped_release>;
using Guide = cuda::FieldGuide;
using Nodes = cuda::FieldNodes;

void bind_types(py::module_& module) {
  py::class_<CanonicalCache>(module, "Cache", py::module_local())
      .def(py::init(&make_cache), py::kw_only(), py::arg("origin"), py::arg("spacing"), py::arg("shape"),
           py::arg("table"), py::arg("children"), py::arg("data"), py::arg("error"), py::arg("far_origin"),
           py::arg("far_spacing"), py::arg("far_shape"), py::arg("far"));
  py::class_<Guide>(module, "Guide", py::module_local())
      .def(py::init(&make_guide), py::kw_only(), py::arg("bricks"), py::arg("front"), py::arg("edge"),
           py::arg("diagonal"), py::arg("cache"), py::arg("everywhere"), py::arg("slope"), py::arg("stretch"),
           py::arg("stretches"));
  py::class_<Nodes>(module, "Nodes", py::module_local())
      .def(py::init(&make_nodes), py::kw_only(), py::arg("origin"), py::arg("step"), py::arg("shape"),
           py::arg("spacing"), py::arg("offset"), py::arg("error"));
  module.attr("queued") = static_cast<int>(cuda::kSampleQueued);
  module.attr("broken") = static_cast<int>(cuda::kSampleBroken);
}

void bind_lattice(py::module_& module) {
  module.def(
      "near",
      [](const Guide& guide, Address stream, Address longest, Address table) {
        cuda::guided_near(guide, at<const float>(longest), at<int32_t>(table), at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("stream"), py::kw_only(), py::arg("longest"), py::arg("table"));
  module.def(
      "need",
      [](const Guide& guide, const Nodes& nodes, Address stream, Address list, int64_t listed,
         Address wanted) {
        cuda::guided_need(guide, nodes, at<const int64_t>(list), listed, at<uint8_t>(wanted),
                          at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("nodes"), py::arg("stream"), py::kw_only(), py::arg("list"),
      py::arg("listed"), py::arg("wanted"));
  module.def(
      "probes",
      [](const Guide& guide, const Nodes& nodes, Address stream, Address list, int64_t listed,
         Address wanted) {
        cuda::guided_probes(guide, nodes, at<const int64_t>(list), listed, at<uint8_t>(wanted),
                            at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("nodes"), py::arg("stream"), py::kw_only(), py::arg("list"),
      py::arg("listed"), py::arg("wanted"));
  module.def(
      "node_points",
      [](const Nodes& nodes, Address stream, bool middles, Address list, int64_t listed, Address points) {
        cuda::guided_node_points(nodes, middles, at<const int64_t>(list), listed, at<float>(points),
                                 at<void>(stream));
      },
      Release(), py::arg("nodes"), py::arg("stream"), py::kw_only(), py::arg("middles"), py::arg("list"),
      py::arg("listed"), py::arg("points"));
  module.def(
      "probe_errors",
      [](const Nodes& nodes, Address stream, Address list, int64_t listed, Address offsets) {
        cuda::guided_probe_errors(nodes, at<const int64_t>(list), listed, at<const float>(offsets),
                                  at<void>(stream));
      },
      Release(), py::arg("nodes"), py::arg("stream"), py::kw_only(), py::arg("list"), py::arg("listed"),
      py::arg("offsets"));
  module.def(
      "cross",
      [](const Guide& guide, const Nodes& nodes, Address stream, Address list, int64_t listed,
         Address table) {
        cuda::guided_cross(guide, nodes, at<const int64_t>(list), listed, at<int32_t>(table),
                           at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("nodes"), py::arg("stream"), py::kw_only(), py::arg("list"),
      py::arg("listed"), py::arg("table"));
  module.def(
      "levels",
      [](const Guide& guide, const Nodes& nodes, Address stream, int number, float tolerance, Address list,
         int64_t listed, Address level, Address error) {
        cuda::guided_levels(guide, nodes, number, tolerance, at<const int64_t>(list), listed,
                            at<int32_t>(level), at<float>(error), at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("nodes"), py::arg("stream"), py::kw_only(), py::arg("number"),
      py::arg("tolerance"), py::arg("list"), py::arg("listed"), py::arg("level"), py::arg("error"));
}

void bind_samples(py::module_& module) {
  module.def(
      "guess",
      [](const Guide& guide, const Nodes& nodes, Address stream, int number, bool rest, bool exact,
         float cache_tolerance, Address list, Address level, Address error, int64_t listed, Address samples,
         Address state) {
        cuda::guided_guess(guide, nodes, number, rest, exact, cache_tolerance, at<const int64_t>(list),
                           at<const int32_t>(level), at<const float>(error), listed, at<float>(samples),
                           at<uint8_t>(state), at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("nodes"), py::arg("stream"), py::kw_only(), py::arg("number"),
      py::arg("rest"), py::arg("exact"), py::arg("cache_tolerance"), py::arg("list"), py::arg("level"),
      py::arg("error"), py::arg("listed"), py::arg("samples"), py::arg("state"));
  module.def(
      "sample_points",
      [](const Guide& guide, Address stream, Address where, Address list, int64_t listed, Address points) {
        cuda::guided_sample_points(guide, at<const int64_t>(where), at<const int64_t>(list), listed,
                                   at<float>(points), at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("stream"), py::kw_only(), py::arg("where"), py::arg("list"),
      py::arg("listed"), py::arg("points"));
  module.def(
      "cached",
      [](const Guide& guide, Address stream, Address y, Address list, int64_t listed, float cache_tolerance,
         Address values, Address left) {
        cuda::guided_cached(guide, at<const float>(y), at<const int64_t>(list), listed, cache_tolerance,
                            at<float>(values), at<uint8_t>(left), at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("stream"), py::kw_only(), py::arg("y"), py::arg("list"),
      py::arg("listed"), py::arg("cache_tolerance"), py::arg("values"), py::arg("left"));
  module.def(
      "store",
      [](Address stream, Address list, int64_t listed, Address values, Address samples, Address state) {
        cuda::guided_store(at<const int64_t>(list), listed, at<const float>(values), at<float>(samples),
                           at<uint8_t>(state), at<void>(stream));
      },
      Release(), py::arg("stream"), py::kw_only(), py::arg("list"), py::arg("listed"), py::arg("values"),
      py::arg("samples"), py::arg("state"));
  module.def(
      "contradictions",
      [](const Guide& guide, Address stream, Address where, int64_t stored, Address table, Address samples,
         Address state) {
        cuda::guided_contradictions(guide, at<const int64_t>(where), stored, at<const int32_t>(table),
                                    at<const float>(samples), at<uint8_t>(state), at<void>(stream));
      },
      Release(), py::arg("guide"), py::arg("stream"), py::kw_only(), py::arg("where"), py::arg("stored"),
      py::arg("table"), py::arg("samples"), py::arg("state"));
  module.def(
      "query",
      [](const CanonicalCache& cache, Address stream, Address points, int64_t n, Address values,
         Address covered, Address far, Address error) {
        cuda::canonical_cache_query(cache, at<const float>(points), n, at<float>(values),
                                    at<uint8_t>(covered), at<float>(far), at<float>(error), at<void>(stream));
      },
      Release(), py::arg("cache"), py::arg("stream"), py::kw_only(), py::arg("points"), py::arg("n"),
      py::arg("values"), py::arg("covered"), py::arg("far"), py::arg("error"));
}

}  // namespace guided

void bind_field_guided_cuda(py::module_& parent) {
  py::module_ module = parent.def_submodule("cuda_guided", "Kernels of facetalk.ops.cuda.surface_guided.");
  guided::bind_types(module);
  guided::bind_lattice(module);
  guided::bind_samples(module);
}

}  // namespace facetalk::python

#else

namespace facetalk::python {

// Built without CUDA: the Python face says so.
void bind_field_guided_cuda(pybind11::module_&) {}

}  // namespace facetalk::python

#endif
