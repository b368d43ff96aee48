// Names of morph targets, and axes of a head: what an engine has otherwise than facetalk. Nothing of Unreal.
#pragma once

#include <cmath>
#include <string>
#include <vector>

namespace facetalk_live {

namespace shapes {

inline bool ends_with(const std::string& text, const char* end) {
  const std::string tail(end);
  return text.size() >= tail.size() && text.compare(text.size() - tail.size(), tail.size(), tail) == 0;
}

// A name without what a mesh writes before it, its case, and how it writes sides.
inline std::string key(const std::string& name) {
  std::string text = name.substr(name.rfind('.') + 1);
  for (char& letter : text)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  if (ends_with(text, "_l")) return text.substr(0, text.size() - 2) + "left";
  return ends_with(text, "_r") ? text.substr(0, text.size() - 2) + "right" : text;
}

// The weights whose mean a morph target takes: two where the model has a shape once a side and the mesh, as ARKit with
// browInnerUp and cheekPuff, has one; else the same one twice. names: the model's curves, then its tongue's weights.
// shape: "jawOpen", "JawOpen" or "face.jawOpen"; "mouthSmileLeft" or "mouthSmile_L". False where there are none.
inline bool find(const std::vector<std::string>& names, const std::string& shape, size_t& first,
                 size_t& second) {
  const std::string wanted = key(shape);
  const size_t none = names.size();
  size_t left = none, right = none;
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string name = key(names[i]);
    if (name == wanted) {
      first = second = i;
      return true;
    }
    // Not jawLeft for a shape called "jaw": those are ways to go, not halves.
    if (ends_with(names[i], "_L") && name == wanted + "left") left = i;
    if (ends_with(names[i], "_R") && name == wanted + "right") right = i;
  }
  first = left;
  second = right;
  return left != none && right != none;
}

}  // namespace shapes

// Degrees as an FRotator has them: pitch looks up, yaw to the right, roll tilts to the right shoulder.
struct Turn {
  double pitch, yaw, roll;
};

// The turn of a pose (pitch, yaw, roll in radians of facetalk.h, whose x is the head's left, y up and z forward), in a
// space with x forward, y right and z up of a body that faces `facing` degrees of yaw in it.
//
// Both turn by yaw last; a body that faces elsewhere has its turn between its own yaw and back again.
inline Turn turn_of(const float* pose, double facing) {
  constexpr double degrees = 57.295779513082320877;
  const double pitch = -static_cast<double>(pose[0]), roll = static_cast<double>(pose[2]);
  const double yaw = -static_cast<double>(pose[1]) + facing / degrees;
  const double sp = std::sin(pitch), cp = std::cos(pitch), sy = std::sin(yaw), cy = std::cos(yaw);
  const double sr = std::sin(roll), cr = std::cos(roll), sf = std::sin(facing / degrees),
               cf = std::cos(facing / degrees);
  // Where forward and right of the body go to, in the space that it faces elsewhere in.
  const double forward[3] = {cp * cy, cp * sy, sp};
  const double right[3] = {sr * sp * cy - cr * sy, sr * sp * sy + cr * cy, -sr * cp};
  // The space's own forward and right are those of the body turned back, and up is what it was but for its z.
  double x[3], y[3];
  for (int i = 0; i < 3; ++i) {
    x[i] = cf * forward[i] - sf * right[i];
    y[i] = sf * forward[i] + cf * right[i];
  }
  const double up_z = cr * cp;
  return {std::atan2(x[2], std::hypot(x[0], x[1])) * degrees, std::atan2(x[1], x[0]) * degrees,
          std::atan2(-y[2], up_z) * degrees};
}

// Where a pose moves the head, centimetres in that space.
inline void shift_of(const float* pose, double facing, double into[3]) {
  const double turn = facing / 57.295779513082320877;
  const double forward = static_cast<double>(pose[5]) / 10.0, right = -static_cast<double>(pose[3]) / 10.0;
  into[0] = std::cos(turn) * forward - std::sin(turn) * right;
  into[1] = std::sin(turn) * forward + std::cos(turn) * right;
  into[2] = static_cast<double>(pose[4]) / 10.0;
}

}  // namespace facetalk_live
