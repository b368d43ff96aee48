// A tongue that moves: the shapes of facetalk/nphm/head/tongue.py, and how much of them a sound takes, in C++.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "cpu/head/template_mesh.h"

namespace facetalk::head {

// Tip up to the ridge behind the upper teeth, forward between the teeth, out of the mouth: facetalk/mesh/tongue.py.
constexpr std::array<const char*, 3> kTongueNames = {"tongueUp", "tongueForward", "tongueOut"};
constexpr size_t kTongueShapes = kTongueNames.size();
constexpr const char* kJaw = "jawOpen";  // the expression that opens the mouth

// Vertices of the template mesh that the tongue goes by.
struct Mouth {
  // `rest`: weights of the canonical shape. None of a mesh without a tongue.
  static std::optional<Mouth> of(const TemplateShapes& mesh, const std::vector<float>& rest);

  std::vector<size_t> body;   // that move
  std::vector<double> loose;  // how freely, from 0 where they hang on the floor of the mouth to 1
  size_t tip = 0,
         blade = 0;  // the foremost one, and one a little above and behind it, which touches the ridge
  size_t ridge = 0;  // of the gum behind the upper incisors
  size_t upper = 0, lower = 0;  // edges of the incisors
  size_t lips[2][3] = {};       // inner upper and lower lip
};

// Displacements (3, V, 3) of an identity's tongue at weight 1, head units: `neutral` (V, 3) has a closed jaw, `jaw`
// (V, 3) is what kJaw does. They need not be finite where the identity is no head.
std::vector<float> tongue_shapes(const Mouth& mouth, const std::vector<float>& neutral, const float* jaw);

// How much of each shape brings the mean head's tongue to where a sound is made, whatever the jaw does.
class Reach {
 public:
  // Reads a head folder; none of a head that has no tongue to move, or that is not there. Throws FileError, also
  // where the expressions are not `names`.
  static std::optional<Reach> read(const std::string& folder, const std::vector<std::string>& names);

  // contacts (2) and the weights of the expressions, of one frame, to kTongueShapes weights in 0..1. Where teeth are
  // closed the tip stays behind them, and between lips that are closed nothing comes out.
  void weights(const float* contacts, const float* curves, float* out) const;

 private:
  // Linear in the expressions; the last value is that at rest. Millimetres.
  using Track = std::vector<double>;

  Reach(const TemplateShapes& mesh, const Mouth& mouth, const std::vector<float>& neutral, size_t jaw);
  bool is_sound() const;

  Track to_ridge_;       // how far the blade is from the ridge
  Track tip_y_, tip_z_;  // the tip's place
  Track lower_y_;        // height of the lower incisors' edge
  Track lips_;           // how far the inner lips are apart
  double upper_[2];      // height and depth of the upper incisors' edge
  double up_[2];         // how much nearer to the ridge, and how much higher, tongueUp brings the tip
  double forward_[2];    // how much higher and further forward tongueForward brings it
  double out_;           // how much further forward tongueOut brings it
};

}  // namespace facetalk::head
