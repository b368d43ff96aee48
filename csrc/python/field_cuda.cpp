// The field's CUDA kernels as facetalk._C.cuda_field. Arrays are passed as addresses, because their owner,
// the framework that allocated them, has checked them already; facetalk/ops/cuda/field.py is that owner and
// the typed face.
#include <pybind11/stl.h>

#include <tuple>

#include "core/status.h"
#include "python/bindings.h"

#if defined(FACETALK_WITH_CUDA) || defined(FACETALK_EMULATE_CUDA)
#include "cuda/field/field.h"

namespace py = pybind11;

namespace facetalk::python {
namespace {

using Address = uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

cuda::FieldPrecision precision_from(const std::string& name) {
  if (name == "float32") return cuda::FieldPrecision::kFloat32;
  if (name == "float16") return cuda::FieldPrecision::kFloat16;
  if (name == "bfloat16") return cuda::FieldPrecision::kBFloat16;
  throw ArgumentError("precision", "float32, float16 or bfloat16", "'" + name + "'");
}

// (hidden, outputs, bias, coords, weights) of a layer: see FieldDeviceLayer.
using LayerTuple = std::tuple<int, int, int, int, int64_t>;

cuda::FieldDeviceMlp make_mlp(const std::vector<LayerTuple>& layers, int coords, int chunks, bool staged,
                              int bias_count, int coord_count, int64_t weight_count, Address coord_weights,
                              Address weights) {
  if (layers.size() < 2 || layers.size() > kMaxFieldLayers) {
    throw ArgumentError("layers", "2 to " + std::to_string(kMaxFieldLayers), std::to_string(layers.size()));
  }
  if (coords < 3 || coords > kMaxFieldCoords) {
    throw ArgumentError("coords", "3 to " + std::to_string(kMaxFieldCoords), std::to_string(coords));
  }
  cuda::FieldDeviceMlp mlp;
  mlp.layers = static_cast<int>(layers.size());
  mlp.coords = coords;
  mlp.chunks = chunks;
  mlp.staged = staged;
  mlp.bias_count = bias_count;
  mlp.coord_count = coord_count;
  mlp.weight_count = weight_count;
  mlp.coord_weights = at<const float>(coord_weights);
  mlp.weights = at<const void>(weights);
  for (int l = 0; l < mlp.layers; ++l) {
    cuda::FieldDeviceLayer& layer = mlp.layer[l];
    std::tie(layer.hidden, layer.outputs, layer.bias, layer.coords, layer.weights) =
        layers[static_cast<size_t>(l)];
    if (l + 1 < mlp.layers && layer.outputs > mlp.width) mlp.width = layer.outputs;
  }
  mlp.outputs = mlp.layer[mlp.layers - 1].outputs;
  if (mlp.outputs > kMaxFieldCoords)
    throw ArgumentError("outputs", "at most " + std::to_string(kMaxFieldCoords), std::to_string(mlp.outputs));
  return mlp;
}

using SmoothingTuple = std::tuple<std::array<float, 3>, std::array<float, 3>, float, float>;

void set_smoothing(cuda::FieldSegments& segments, const std::optional<SmoothingTuple>& smoothing) {
  segments.smooth = smoothing.has_value();
  if (!smoothing) return;
  for (int c = 0; c < 3; ++c) {
    segments.smoothing.centre[c] = std::get<0>(*smoothing)[static_cast<size_t>(c)];
    segments.smoothing.inverse_sigma[c] = std::get<1>(*smoothing)[static_cast<size_t>(c)];
  }
  segments.smoothing.scale = std::get<2>(*smoothing);
  segments.smoothing.shift = std::get<3>(*smoothing);
}

void deform(const cuda::FieldDeviceMlp& mlp, const cuda::FieldPlan& plan, Address stream, Address points,
            int64_t point_stride, int64_t length, int64_t count, Address row, Address bias,
            const std::optional<SmoothingTuple>& smoothing, Address y, Address offsets, Address jacobian,
            Address seed) {
  cuda::FieldSegments segments;
  segments.points = at<const float>(points);
  segments.point_stride = point_stride;
  segments.length = length;
  segments.count = count;
  segments.row = at<const int32_t>(row);
  segments.bias = at<const float>(bias);
  set_smoothing(segments, smoothing);
  segments.y = at<float>(y);
  segments.offsets = at<float>(offsets);
  segments.jacobian = at<float>(jacobian);
  segments.seed = at<float>(seed);
  cuda::field_deform(mlp, plan, segments, at<void>(stream));
}

cuda::FieldRoute make_route(const std::string& blending, int anchors, int coords, int neighbours,
                            float blend_std, float cut, Address anchor, Address y, int64_t n, Address mask,
                            Address block_start, Address member_total, Address start, Address tile_start,
                            Address point, Address inverse, Address unshrink, Address sigma,
                            Address scale_from) {
  cuda::FieldRoute route;
  route.blending = blending == "nphm" ? FieldBlending::kNphm : FieldBlending::kMonoNphm;
  route.anchors = anchors;
  route.coords = coords;
  route.neighbours = neighbours;
  route.blend_std = blend_std;
  route.cut = cut;
  route.anchor = at<const float>(anchor);
  route.y = at<const float>(y);
  route.n = n;
  route.mask = at<uint32_t>(mask);
  route.block_start = at<int32_t>(block_start);
  route.member_total = at<int32_t>(member_total);
  route.start = at<int32_t>(start);
  route.tile_start = at<int32_t>(tile_start);
  route.point = at<int32_t>(point);
  route.inverse = at<float>(inverse);
  route.unshrink = at<float>(unshrink);
  route.sigma = at<float>(sigma);
  route.scale_from = at<int32_t>(scale_from);
  return route;
}

void members(const cuda::FieldDeviceMlp& mlp, const cuda::FieldPlan& plan, Address stream,
             const cuda::FieldRoute& route, Address seed, Address mirror, Address member_set, Address bias,
             Address value, Address slope) {
  cuda::FieldPairs pairs;
  pairs.y = route.y;
  pairs.seed = at<const float>(seed);
  pairs.anchor = route.anchor;
  pairs.mirror = at<const float>(mirror);
  pairs.member_set = at<const int32_t>(member_set);
  pairs.bias = at<const float>(bias);
  pairs.start = route.start;
  pairs.tile_start = route.tile_start;
  pairs.point = route.point;
  pairs.value = at<float>(value);
  pairs.slope = at<float>(slope);
  pairs.anchors = route.anchors;
  cuda::field_members(mlp, plan, pairs, at<void>(stream));
}

void combine(const cuda::FieldRoute& route, Address stream, Address value, Address slope, Address seed,
             Address sdf, Address raw_sdf, Address gradient) {
  cuda::field_combine(route,
                      {at<const float>(value), at<const float>(slope), at<const float>(seed), at<float>(sdf),
                       at<float>(raw_sdf), at<float>(gradient)},
                      at<void>(stream));
}

cuda::FieldBricks make_bricks(const std::array<Address, 3>& axes, const std::array<int, 3>& shape,
                              int64_t frames, int side) {
  cuda::FieldBricks bricks;
  bricks.side = side;
  bricks.count = frames;
  for (size_t a = 0; a < 3; ++a) {
    if (shape[a] < 1)
      throw ArgumentError("axes", "at least one sample along every axis", std::to_string(shape[a]));
    bricks.axis[a] = at<const float>(axes[a]);
    bricks.shape[a] = shape[a];
    bricks.bricks[a] = (shape[a] + side - 1) / side;
    bricks.count *= bricks.bricks[a];
  }
  return bricks;
}

void bind_band(py::module_& module) {
  const auto release = py::call_guard<py::gil_scoped_release>();
  using Bricks = cuda::FieldBricks;
  module.attr("brick_wanted") = cuda::kBrickWanted;
  // Local to the module: tests load the same classes once more, over emulated kernels.
  py::class_<Bricks>(module, "Bricks", py::module_local())
      .def(py::init(&make_bricks), py::kw_only(), py::arg("axes"), py::arg("shape"), py::arg("frames"),
           py::arg("side"));
  module.def(
      "classify",
      [](const Bricks& blocks, Address stream, Address nodes, Address parents, float lipschitz,
         Address table) {
        cuda::field_classify(blocks, at<const float>(nodes), at<const int32_t>(parents), lipschitz,
                             at<int32_t>(table), at<void>(stream));
      },
      release, py::arg("blocks"), py::arg("stream"), py::kw_only(), py::arg("nodes"), py::arg("parents") = 0,
      py::arg("lipschitz"), py::arg("table"));
  module.def(
      "brick_points",
      [](const Bricks& bricks, Address stream, Address list, int64_t listed, int side, int step,
         Address points) {
        cuda::field_brick_points(bricks, at<const int64_t>(list), listed, side, step, at<float>(points),
                                 at<void>(stream));
      },
      release, py::arg("bricks"), py::arg("stream"), py::kw_only(), py::arg("list"), py::arg("listed"),
      py::arg("side"), py::arg("step"), py::arg("points"));
  module.def(
      "contradictions",
      [](const Bricks& bricks, Address stream, Address table, Address samples, Address wanted) {
        cuda::field_contradictions(bricks, at<const int32_t>(table), at<const float>(samples),
                                   at<uint8_t>(wanted), at<void>(stream));
      },
      release, py::arg("bricks"), py::arg("stream"), py::kw_only(), py::arg("table"), py::arg("samples"),
      py::arg("wanted"));
}

cuda::FieldWalk make_walk(Address state, int64_t count, Address target, int64_t targets, Address list,
                          int64_t listed, int outputs, Address offsets, Address jacobian) {
  return {at<float>(state),
          count,
          at<const float>(target),
          targets,
          at<const int64_t>(list),
          listed,
          outputs,
          at<const float>(offsets),
          at<const float>(jacobian)};
}

void bind_invert(py::module_& module) {
  const auto release = py::call_guard<py::gil_scoped_release>();
  using Walk = cuda::FieldWalk;
  py::class_<Walk>(module, "Walk", py::module_local())
      .def(py::init(&make_walk), py::kw_only(), py::arg("state"), py::arg("count"), py::arg("target"),
           py::arg("targets"), py::arg("list"), py::arg("listed"), py::arg("outputs"), py::arg("offsets"),
           py::arg("jacobian"));
  module.def(
      "invert_start",
      [](const Walk& walk, Address stream, Address starts) {
        cuda::field_invert_start(walk, at<const float>(starts), at<void>(stream));
      },
      release, py::arg("walk"), py::arg("stream"), py::kw_only(), py::arg("starts"));
  module.def(
      "invert_plan",
      [](const Walk& walk, Address stream, int step, float tolerance, Address due) {
        cuda::field_invert_plan(walk, step, tolerance, at<uint8_t>(due), at<void>(stream));
      },
      release, py::arg("walk"), py::arg("stream"), py::kw_only(), py::arg("step"), py::arg("tolerance"),
      py::arg("due"));
  module.def(
      "invert_points",
      [](const Walk& walk, Address stream, bool ahead, Address points) {
        cuda::field_invert_points(walk, ahead, at<float>(points), at<void>(stream));
      },
      release, py::arg("walk"), py::arg("stream"), py::kw_only(), py::arg("ahead"), py::arg("points"));
  module.def(
      "invert_sharpen",
      [](const Walk& walk, Address stream) { cuda::field_invert_sharpen(walk, at<void>(stream)); }, release,
      py::arg("walk"), py::arg("stream"));
  module.def(
      "invert_advance",
      [](const Walk& walk, Address stream, Address points) {
        cuda::field_invert_advance(walk, at<const float>(points), at<void>(stream));
      },
      release, py::arg("walk"), py::arg("stream"), py::kw_only(), py::arg("points"));
}

}  // namespace

void bind_field_cuda(py::module_& parent) {
  py::module_ module = parent.def_submodule("cuda_field", "Kernels of facetalk.ops.cuda.field.");
  module.attr("route_block") = cuda::kFieldRouteBlock;
  module.attr("most_half_width") = cuda::kFieldMaxHalfWidth;
  module.attr("walker_floats") = cuda::kFieldWalkerFloats;
  module.attr("chunk_tiles") = cuda::kFieldChunkTiles;
  module.def("wgmma_columns", &cuda::field_wgmma_columns, py::arg("outputs"));
  module.def("wgmma_missing", &cuda::field_wgmma_missing);
  py::class_<cuda::FieldDeviceMlp>(module, "Mlp", py::module_local())
      .def(py::init(&make_mlp), py::kw_only(), py::arg("layers"), py::arg("coords"), py::arg("chunks"),
           py::arg("staged"), py::arg("bias_count"), py::arg("coord_count"), py::arg("weight_count"),
           py::arg("coord_weights"), py::arg("weights"));
  py::class_<cuda::FieldPlan>(module, "Plan", py::module_local())
      .def(py::init([](const cuda::FieldDeviceMlp& mlp, const std::string& precision, bool tangents,
                       int64_t shared_limit) {
             return cuda::field_plan(mlp, precision_from(precision), tangents, shared_limit);
           }),
           py::arg("mlp"), py::kw_only(), py::arg("precision"), py::arg("tangents"),
           py::arg("shared_limit") = 0)
      .def_readonly("points", &cuda::FieldPlan::points)
      .def_readonly("kind", &cuda::FieldPlan::kind)
      .def_readonly("stages", &cuda::FieldPlan::stages)
      .def_readonly("slab_steps", &cuda::FieldPlan::slab_steps)
      .def_readonly("shared_bytes", &cuda::FieldPlan::shared_bytes);
  py::class_<cuda::FieldRoute>(module, "Route", py::module_local())
      .def(py::init(&make_route), py::kw_only(), py::arg("blending"), py::arg("anchors"), py::arg("coords"),
           py::arg("neighbours"), py::arg("blend_std"), py::arg("cut"), py::arg("anchor"), py::arg("y"),
           py::arg("n"), py::arg("mask"), py::arg("block_start"), py::arg("member_total"), py::arg("start"),
           py::arg("tile_start"), py::arg("point"), py::arg("inverse"), py::arg("unshrink"), py::arg("sigma"),
           py::arg("scale_from"))
      .def_property_readonly("most_pairs", &cuda::field_most_pairs);
  bind_band(module);
  bind_invert(module);
  const auto release = py::call_guard<py::gil_scoped_release>();
  module.def("deform", &deform, release, py::arg("mlp"), py::arg("plan"), py::arg("stream"), py::kw_only(),
             py::arg("points"), py::arg("point_stride"), py::arg("length"), py::arg("count"),
             py::arg("row") = 0, py::arg("bias"), py::arg("smoothing") = py::none(), py::arg("y") = 0,
             py::arg("offsets") = 0, py::arg("jacobian") = 0, py::arg("seed") = 0);
  module.def(
      "route",
      [](const cuda::FieldRoute& route, int tile_points, Address stream) {
        cuda::field_route(route, tile_points, at<void>(stream));
      },
      release, py::arg("route"), py::arg("tile_points"), py::arg("stream"));
  module.def("members", &members, release, py::arg("mlp"), py::arg("plan"), py::arg("stream"),
             py::arg("route"), py::kw_only(), py::arg("seed") = 0, py::arg("mirror"), py::arg("member_set"),
             py::arg("bias"), py::arg("value"), py::arg("slope") = 0);
  module.def("combine", &combine, release, py::arg("route"), py::arg("stream"), py::kw_only(),
             py::arg("value"), py::arg("slope") = 0, py::arg("seed") = 0, py::arg("sdf") = 0,
             py::arg("raw_sdf") = 0, py::arg("gradient") = 0);
}

}  // namespace facetalk::python

#else

namespace facetalk::python {

// Built without CUDA: the Python face says so.
void bind_field_cuda(pybind11::module_&) {}

}  // namespace facetalk::python

#endif
