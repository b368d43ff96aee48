#include "python/field.h"

#include <limits>
#include <map>

#include "core/blending.h"

namespace py = pybind11;

namespace facetalk::python {
namespace {

FieldBlending blending_from(const std::string& name) {
  if (name == "nphm") return FieldBlending::kNphm;
  if (name == "mononphm") return FieldBlending::kMonoNphm;
  throw ArgumentError("blending", "nphm or mononphm", "'" + name + "'");
}

}  // namespace

void read_frames(const Field& field, const py::object& biases, const std::optional<SmoothingTuple>& smoothing,
                 Frames& frames) {
  if (!biases.is_none()) {
    Borrowed borrowed;
    frames.biases = field.packed().frame_biases(borrowed.biases(biases.cast<py::list>(), "deformation"));
    frames.view.count = static_cast<int64_t>(frames.biases.size()) / field.model().deformation.bias_count;
    // An empty vector has no address; no frames are still not the canonical frame.
    static const float kNone = 0.0f;
    frames.view.biases = frames.biases.empty() ? &kNone : frames.biases.data();
  }
  if (smoothing) {
    FieldSmoothing s;
    for (int c = 0; c < 3; ++c) {
      s.centre[c] = std::get<0>(*smoothing)[c];
      s.inverse_sigma[c] = std::get<1>(*smoothing)[c];
    }
    s.scale = std::get<2>(*smoothing);
    s.shift = std::get<3>(*smoothing);
    frames.smoothing = s;
    frames.view.smoothing = &*frames.smoothing;
  }
}

cpu::Lattice read_lattice(const std::array<std::vector<float>, 3>& axes) {
  cpu::Lattice lattice;
  for (int a = 0; a < 3; ++a) {
    if (axes[a].empty()) throw ArgumentError("axes", "at least one sample along every axis", "none");
    constexpr const char* kNames[] = {"x axis", "y axis", "z axis"};
    cpu::check_coordinates(kNames[a], axes[a].data(), static_cast<int64_t>(axes[a].size()), 1);
    lattice.axis[a] = axes[a];
  }
  return lattice;
}

namespace {

py::dict query(const Field& field, py::handle points, const py::object& biases,
               const std::optional<SmoothingTuple>& smoothing, bool want_sdf, bool want_raw,
               bool want_gradient, bool want_offsets, bool want_jacobian) {
  Frames frames;
  read_frames(field, biases, smoothing, frames);
  const Input input = Input::from(points, "points").require(DType::kFloat32, {-1, -1});
  const int64_t n = input.size(0), coords = input.size(1), made = field.model().deformation.outputs;
  const bool deforms = frames.view.biases != nullptr;
  if (coords != 3 && (deforms || coords != field.model().identity.coords)) {
    throw ArgumentError("points", "shape (N, 3)", "shape " + input.view().shape_text());
  }
  if (!deforms && (want_offsets || want_jacobian))
    throw ArgumentError("biases", "frames to deform by", "None");
  const int64_t count = frames.view.count;
  const int64_t tangents = deforms ? 3 : coords;
  std::map<std::string, Array> arrays;
  cpu::FieldOutputs out;
  auto add = [&](bool wanted, const char* name, Array array) {
    if (!wanted) return static_cast<float*>(nullptr);
    float* data = array.view.as<float>();
    arrays.emplace(name, std::move(array));
    return data;
  };
  out.sdf = add(want_sdf, "sdf", Array::make<float>({count, want_sdf ? n : 0}));
  out.raw_sdf = add(want_raw, "raw_sdf", Array::make<float>({count, want_raw ? n : 0}));
  out.gradient = add(want_gradient, "gradient", Array::make<float>({count, want_gradient ? n : 0, tangents}));
  out.offsets = add(want_offsets, "offsets", Array::make<float>({count, want_offsets ? n : 0, made}));
  out.jacobian = add(want_jacobian, "jacobian", Array::make<float>({count, want_jacobian ? n : 0, made, 3}));
  {
    py::gil_scoped_release release;
    cpu::field_query(field.runner(), frames.view, input.as<float>(), n, static_cast<int>(coords), out);
  }
  py::dict result;
  for (auto& [name, array] : arrays) result[name.c_str()] = py::cast(std::move(array));
  return result;
}

Array grid(const Field& field, const std::array<std::vector<float>, 3>& axes, const py::object& biases,
           const std::optional<SmoothingTuple>& smoothing) {
  Frames frames;
  read_frames(field, biases, smoothing, frames);
  const cpu::Lattice lattice = read_lattice(axes);
  Array out = Array::make<float>({frames.view.count, static_cast<int64_t>(lattice.axis[0].size()),
                                  static_cast<int64_t>(lattice.axis[1].size()),
                                  static_cast<int64_t>(lattice.axis[2].size())});
  py::gil_scoped_release release;
  cpu::field_grid(field.runner(), frames.view, lattice, out.view.as<float>());
  return out;
}

py::tuple invert(const Field& field, py::handle targets, const py::object& biases, const py::object& starts,
                 const std::optional<SmoothingTuple>& smoothing, float tolerance, int iterations) {
  Frames frames;
  read_frames(field, biases, smoothing, frames);
  if (!frames.view.biases) throw ArgumentError("biases", "frames to invert", "None");
  const Input input = Input::from(targets, "targets").require(DType::kFloat32, {-1, 3});
  const int64_t n = input.size(0);
  if (iterations < 0 || iterations > 1000000)
    throw ArgumentError("iterations", "0 to 1000000", std::to_string(iterations));
  Borrowed borrowed;
  const float* first = starts.is_none() ? nullptr : borrowed.take(starts, "starts", {n, 3}).as<const float>();
  cpu::check_coordinates("targets", input.as<float>(), n, 3);
  if (first != nullptr) cpu::check_coordinates("starts", first, n, 3);
  Array positions = Array::make<float>({frames.view.count, n, 3});
  Array residuals = Array::make<float>({frames.view.count, n});
  {
    py::gil_scoped_release release;
    cpu::field_invert(field.runner(), frames.view, input.as<float>(), first, n, {tolerance, iterations},
                      positions.view.as<float>(), residuals.view.as<float>());
  }
  return py::make_tuple(py::cast(std::move(positions)), py::cast(std::move(residuals)));
}

// Constants of the blending weights, for the test that Python's are the same.
py::dict blending_constants() {
  py::dict out;
  out["nphm_variance"] = kVariance;
  out["nphm_distance_bias"] = kDistanceBias;
  out["nphm_background_exponent"] = kBackgroundExponent;
  out["nphm_denominator"] = kDenominator;
  out["mono_scale_rank"] = kScaleRank;
  out["mono_background"] = kMonoBackground;
  out["mono_denominator"] = kMonoDenominator;
  return out;
}

}  // namespace

void bind_field(py::module_& module) {
  module.def("blending_constants", &blending_constants);
  py::class_<Field>(module, "Field",
                    "A neural head field whose identity is bound; facetalk.ops.field.cpu wraps it.")
      .def(py::init([](const py::list& identity, const py::list& identity_bias, py::handle anchors,
                       const std::vector<int>& member_set, const std::vector<float>& mirror,
                       const py::object& deformation, const std::string& blending, int neighbours,
                       float blend_std, float cut) {
             Borrowed borrowed;
             FieldSource source;
             source.identity = borrowed.layers(identity, "identity");
             source.identity_bias = borrowed.biases(identity_bias, "identity");
             source.anchors = borrowed.take(anchors, "anchors", {-1, 3});
             source.member_set = member_set;
             source.mirror = mirror;
             if (!deformation.is_none())
               source.deformation = borrowed.layers(deformation.cast<py::list>(), "deformation");
             source.blending = blending_from(blending);
             source.neighbours = neighbours;
             source.blend_std = blend_std;
             source.cut = cut;
             return std::make_unique<Field>(source, simd_level());
           }),
           py::kw_only(), py::arg("identity"), py::arg("identity_bias"), py::arg("anchors"),
           py::arg("member_set"), py::arg("mirror"), py::arg("deformation") = py::none(),
           py::arg("blending") = "nphm", py::arg("neighbours") = 0, py::arg("blend_std") = 0.0f,
           py::arg("cut") = std::numeric_limits<float>::infinity())
      .def_property_readonly("simd", &Field::simd)
      .def("query", &query, py::arg("points"), py::arg("biases") = py::none(), py::kw_only(),
           py::arg("smoothing") = py::none(), py::arg("sdf") = true, py::arg("raw_sdf") = false,
           py::arg("gradient") = false, py::arg("offsets") = false, py::arg("jacobian") = false)
      .def("grid", &grid, py::arg("axes"), py::arg("biases") = py::none(), py::kw_only(),
           py::arg("smoothing") = py::none())
      .def("invert", &invert, py::arg("targets"), py::arg("biases"), py::kw_only(),
           py::arg("starts") = py::none(), py::arg("smoothing") = py::none(), py::arg("tolerance") = 1e-6f,
           py::arg("iterations") = 30);
}

}  // namespace facetalk::python
