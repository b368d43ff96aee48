#include "cpu/raster/raster.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "core/status.h"
#include "python/bindings.h"
#include "python/dlpack.h"

namespace py = pybind11;

namespace facetalk::python {
namespace {

void require_finite(const Input& input) {
  const float* data = input.as<float>();
  const int64_t n = input.view().size();
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(data[i])) {
      throw ArgumentError(input.argument(), "finite values",
                          std::to_string(data[i]) + " at " + std::to_string(i));
    }
  }
}

// Numbers that index something of `limit` entries.
template <typename T>
void require_below(const Input& input, int64_t limit) {
  const T* data = input.as<T>();
  const int64_t n = input.view().size();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t value = static_cast<int64_t>(data[i]);
    if (value < 0 || value >= limit) {
      throw ArgumentError(input.argument(), "numbers from 0 to " + std::to_string(limit - 1),
                          std::to_string(value) + " at " + std::to_string(i));
    }
  }
}

cpu::Vec3 vec3(const float* p) { return {p[0], p[1], p[2]}; }

Array draw(const py::object& positions_, const py::object& normals_, const py::object& colors_,
           const py::object& faces_, const py::object& materials_, const py::object& background_,
           const py::object& palette_, const py::object& lights_, const py::object& ambient_,
           const py::object& camera_, float focal, float exposure, float occlusion_radius, int samples,
           bool alone, const py::object& ask, const py::object& uv_, const py::object& texels_,
           const py::object& textures_) {
  const Input positions = Input::from(positions_, "positions").require(DType::kFloat32, {-1, 3});
  const int64_t v = positions.size(0);
  const Input normals = Input::from(normals_, "normals").require(DType::kFloat32, {v, 3});
  const Input colors = Input::from(colors_, "colors").require(DType::kFloat32, {v, 3});
  const Input faces = Input::from(faces_, "faces").require(DType::kInt32, {-1, 3});
  const Input materials = Input::from(materials_, "materials").require(DType::kUInt8, {faces.size(0)});
  const Input background = Input::from(background_, "background").require(DType::kUInt8, {-1, -1, 3});
  const Input palette = Input::from(palette_, "palette").require(DType::kFloat32, {-1, 4});
  const Input lights = Input::from(lights_, "lights").require(DType::kFloat32, {-1, 6});
  const Input ambient = Input::from(ambient_, "ambient").require(DType::kFloat32, {2, 3});
  const Input camera = Input::from(camera_, "camera").require(DType::kFloat32, {3, 4});
  for (const Input* input : {&positions, &normals, &colors, &palette, &lights, &ambient, &camera})
    require_finite(*input);
  for (const Input* input : {&positions, &faces}) {
    if (input->size(0) > cpu::kMostElements) {
      throw ArgumentError(input->argument(), "at most " + std::to_string(cpu::kMostElements) + " rows",
                          std::to_string(input->size(0)));
    }
  }
  require_below<int32_t>(faces, v);
  require_below<uint8_t>(materials, palette.size(0));
  const Input uv = Input::from(uv_, "uv").require(DType::kFloat32, {-1, 2});
  const Input texels = Input::from(texels_, "texels").require(DType::kUInt8, {-1, cpu::kTexelBytes});
  const Input textures = Input::from(textures_, "textures").require(DType::kInt32, {-1, 3});
  require_finite(uv);
  if (uv.size(0) != 0 && (uv.size(0) != v || textures.size(0) != palette.size(0)))
    throw ArgumentError("uv", "a row for each vertex, and a texture for each material",
                        uv.view().shape_text());
  const int64_t height = background.size(0), width = background.size(1);
  if (samples < 1 || samples > 4) throw ArgumentError("samples", "1 to 4", std::to_string(samples));
  if (width < 1 || height < 1 || width > 8192 || height > 8192) {
    throw ArgumentError("background", "1 to 8192 pixels a side", background.view().shape_text());
  }
  if (!(focal > 0.0f && std::isfinite(focal)))
    throw ArgumentError("focal", "a positive number of pixels", std::to_string(focal));
  if (!std::isfinite(exposure)) throw ArgumentError("exposure", "a finite factor", std::to_string(exposure));
  if (!(occlusion_radius >= 0.0f && std::isfinite(occlusion_radius)))
    throw ArgumentError("occlusion_radius", "metres, 0 or more", std::to_string(occlusion_radius));

  cpu::Scene scene;
  scene.vertex_count = v, scene.face_count = faces.size(0);
  scene.positions = positions.as<float>(), scene.normals = normals.as<float>(),
  scene.colors = colors.as<float>();
  scene.faces = faces.as<int32_t>(), scene.materials = materials.as<uint8_t>();
  scene.background = background.as<uint8_t>();
  for (int64_t i = 0; i < palette.size(0); ++i) {
    const float* m = palette.as<float>() + 4 * i;
    scene.palette.push_back({std::clamp(m[0], 0.05f, 1.0f), m[1], m[2], m[3]});
  }
  if (uv.size(0) != 0) {
    const float* c = colors.as<float>();
    scene.white = std::all_of(c, c + 3 * v, [](float value) { return value == 1.0f; });
    scene.uv = uv.as<float>();
    for (int64_t i = 0; i < textures.size(0); ++i) {
      const int32_t* t = textures.as<int32_t>() + 3 * i;
      constexpr int32_t kMostSide = 1 << 14;
      const bool none = t[1] == 0 && t[2] == 0;
      const bool fits = t[0] >= 0 && t[1] > 0 && t[2] > 0 && t[1] <= kMostSide && t[2] <= kMostSide &&
                        t[0] + cpu::texels_of(t[1], t[2]) <= texels.size(0);
      if (!none && !fits)
        throw ArgumentError("textures", "first texel, width and height of pictures among the texels",
                            "row " + std::to_string(i));
      scene.textures.push_back({none ? nullptr : texels.as<uint8_t>() + int64_t{t[0]} * cpu::kTexelBytes,
                                none ? 0 : t[1], none ? 0 : t[2]});
    }
  }
  for (int64_t i = 0; i < lights.size(0); ++i) {
    const float* l = lights.as<float>() + 6 * i;
    scene.lights.push_back({cpu::normalized(vec3(l)), vec3(l + 3)});
  }
  scene.sky = vec3(ambient.as<float>()), scene.ground = vec3(ambient.as<float>() + 3);
  for (int row = 0; row < 3; ++row) std::copy_n(camera.as<float>() + 4 * row, 3, scene.rotation + 3 * row);
  scene.translation = {camera.as<float>()[3], camera.as<float>()[7], camera.as<float>()[11]};
  scene.focal = focal, scene.exposure = exposure, scene.occlusion_radius = occlusion_radius;
  scene.alone = alone;

  Array out = Array::make<uint8_t>({height, width, 3});
  bool whole = false;
  {
    py::gil_scoped_release release;
    // Ctrl-C in the main thread, and what the caller asks for in any other, where no signal arrives.
    cpu::Stop stop([&] {
      const py::gil_scoped_acquire acquire;
      if (PyErr_CheckSignals() != 0) return true;
      if (ask.is_none()) return false;
      PyObject* answer = PyObject_CallNoArgs(ask.ptr());
      const int yes = answer == nullptr ? 1 : PyObject_IsTrue(answer);
      Py_XDECREF(answer);
      return yes != 0;
    });
    whole = cpu::draw(scene, static_cast<int>(width), static_cast<int>(height), samples, stop,
                      out.view.as<uint8_t>());
  }
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (!whole) {
    PyErr_SetString(PyExc_InterruptedError, "drawing was stopped by its caller");
    throw py::error_already_set();
  }
  return out;
}

}  // namespace

void bind_raster(py::module_& module) {
  module.def("draw", &draw, py::arg("positions"), py::arg("normals"), py::arg("colors"), py::arg("faces"),
             py::arg("materials"), py::arg("background"), py::arg("palette"), py::arg("lights"),
             py::arg("ambient"), py::arg("camera"), py::arg("focal"), py::arg("exposure"),
             py::arg("occlusion_radius"), py::arg("samples"), py::arg("alone"), py::arg("stop"),
             py::arg("uv"), py::arg("texels"), py::arg("textures"),
             "Draws shaded triangles; see facetalk.ops.raster.");
}

}  // namespace facetalk::python
