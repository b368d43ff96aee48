// Sound in 20 ms pieces, as a microphone gives it, to a face over Live Link Face's UDP protocol (Live Link,
// version 6, port 11111):
//   c++ -std=c++17 live_link.cpp $(python -m facetalk --cflags --libs) -o live_link
//   arecord -f FLOAT_LE -r 16000 -c 1 -t raw | ./live_link MODEL_FOLDER [HOST [PORT]]
// Standard input is mono float32 at 16 kHz.
#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <facetalk.hpp>
#include <map>
#include <string>
#include <vector>

namespace {

// Apple's shapes in the order of the packet; the angles of the head follow, and those of the eyes, which the shapes have.
const char* const kShapes[] = {
    "eyeBlink_L",     "eyeLookDown_L",  "eyeLookIn_L",      "eyeLookOut_L",     "eyeLookUp_L",
    "eyeSquint_L",    "eyeWide_L",      "eyeBlink_R",       "eyeLookDown_R",    "eyeLookIn_R",
    "eyeLookOut_R",   "eyeLookUp_R",    "eyeSquint_R",      "eyeWide_R",        "jawForward",
    "jawLeft",        "jawRight",       "jawOpen",          "mouthClose",       "mouthFunnel",
    "mouthPucker",    "mouthLeft",      "mouthRight",       "mouthSmile_L",     "mouthSmile_R",
    "mouthFrown_L",   "mouthFrown_R",   "mouthDimple_L",    "mouthDimple_R",    "mouthStretch_L",
    "mouthStretch_R", "mouthRollLower", "mouthRollUpper",   "mouthShrugLower",  "mouthShrugUpper",
    "mouthPress_L",   "mouthPress_R",   "mouthLowerDown_L", "mouthLowerDown_R", "mouthUpperUp_L",
    "mouthUpperUp_R", "browDown_L",     "browDown_R",       "browInnerUp",      "browOuterUp_L",
    "browOuterUp_R",  "cheekPuff",      "cheekSquint_L",    "cheekSquint_R",    "noseSneer_L",
    "noseSneer_R",    "tongueOut"};
constexpr size_t kValues = 61;

void put(std::vector<uint8_t>& packet, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) packet.push_back(static_cast<uint8_t>(value >> shift));
}

void put(std::vector<uint8_t>& packet, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  put(packet, bits);
}

void put(std::vector<uint8_t>& packet, const std::string& text) {
  put(packet, static_cast<uint32_t>(text.size()));
  packet.insert(packet.end(), text.begin(), text.end());
}

std::vector<uint8_t> packet_of(const std::map<std::string, float>& face, const float* pose, uint32_t frame,
                               uint32_t rate) {
  const auto value = [&](const std::string& name) {
    const auto found = face.find(name);
    return found == face.end() ? 0.0f : found->second;
  };
  std::vector<uint8_t> packet{6};
  put(packet, std::string("facetalk-0000-0000-0000-000000000000"));  // who sends
  put(packet, std::string("facetalk"));                              // the subject's name in Live Link
  put(packet, frame);
  put(packet, 0.0f);  // part of a frame
  put(packet, rate);
  put(packet, uint32_t{1});
  packet.push_back(kValues);
  for (const std::string name : kShapes) {
    // Apple has one shape where the face has one a side.
    const bool both = name == "browInnerUp" || name == "cheekPuff";
    put(packet, both ? (value(name + "_L") + value(name + "_R")) / 2 : value(name));
  }
  for (const int angle : {1, 0, 2}) put(packet, pose[angle]);  // HeadYaw, HeadPitch, HeadRoll
  for (size_t i = sizeof kShapes / sizeof *kShapes + 3; i < kValues; ++i) put(packet, 0.0f);
  return packet;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: live_link MODEL_FOLDER [HOST [PORT]] < sound.f32\n");
    return 2;
  }
  addrinfo hints{}, *place = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(argc > 2 ? argv[2] : "127.0.0.1", argc > 3 ? argv[3] : "11111", &hints, &place) != 0) {
    std::fprintf(stderr, "error: no such host\n");
    return 1;
  }
  const int out = socket(place->ai_family, place->ai_socktype, 0);
  const facetalk::Model model(argv[1]);
  facetalk::Stream stream(model);
  // Apple has one of the tongue's three weights; a rig of one's own may take the others.
  const std::vector<std::string> names = model.curves(), tongue = model.tongue();
  const auto rate = static_cast<uint32_t>(std::lround(model.fps()));
  uint32_t frame = 0;
  for (bool over = false; !over;) {
    float samples[320];
    const size_t heard = std::fread(samples, sizeof *samples, 320, stdin);
    over = heard < 320;
    stream.push(samples, heard);
    if (over) stream.finish();
    const facetalk::Frames frames = stream.pull_frames(true);
    for (size_t row = 0; row < frames.curves.size() / names.size(); ++row) {
      std::map<std::string, float> face;
      for (size_t i = 0; i < names.size(); ++i) face[names[i]] = frames.curves[row * names.size() + i];
      for (size_t i = 0; i < tongue.size(); ++i) face[tongue[i]] = frames.tongue[row * tongue.size() + i];
      const std::vector<uint8_t> packet = packet_of(face, frames.pose.data() + 6 * row, frame++, rate);
      sendto(out, packet.data(), packet.size(), 0, place->ai_addr, place->ai_addrlen);
    }
  }
  freeaddrinfo(place);
  close(out);
  std::printf("%u frames, %.0f ms behind the sound\n", frame, stream.latency_s() * 1e3);
  return 0;
} catch (const facetalk::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
