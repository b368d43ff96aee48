// What is free of Unreal in examples/unreal, by itself: MODEL_FOLDER sound.f32 OUT [LOOK_AHEAD], a command a line on standard
// input. Mono sound of 24 kHz is pushed and played in blocks of 480, and before each block a picture is drawn, on a clock that
// only the scene moves. A line of OUT is a picture: seconds, weights, pose. OUT.f32 is what was played. Answers are on
// standard output.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#define check(text) static_assert(text, "a macro that an engine has")
#include "FaceTalkLive.h"
#include "FaceTalkShapes.h"

#if FACETALK_EXCEPTIONS
#error "exceptions are on"
#endif

namespace {

constexpr int64_t kRate = 24000, kBlock = 480;
constexpr double kStep = static_cast<double>(kBlock) / static_cast<double>(kRate), kLatency = 0.05;

class Scene {
 public:
  Scene(facetalk_live::Live& live, std::vector<float> sound, const std::string& out)
      : live_(live),
        sound_(std::move(sound)),
        pictures_(std::fopen(out.c_str(), "w")),
        played_(std::fopen((out + ".f32").c_str(), "wb")) {}
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() {
    std::fclose(pictures_);
    std::fclose(played_);
  }

  void obey(const std::string& line) {
    std::istringstream words(line);
    std::string word;
    double number = 0.0;
    words >> word >> number;
    const auto count = static_cast<int64_t>(number);
    if (word == "say") say(count);             // SAMPLES: at once
    if (word == "live") blocks(count, true);   // BLOCKS, each of them pushed before it is played
    if (word == "play") blocks(count, false);  // BLOCKS
    if (word == "finish") live_.finish();
    if (word == "interrupt") live_.interrupt();
    if (word == "threads") threads(count);  // SAMPLES, by four threads
    if (word == "bad") bad();
    if (word == "smile" || word == "jaw") {  // VALUE
      (word == "smile" ? style_.smile : style_.jaw) = number;
      live_.set_style(style_);
    }
    if (word == "message") std::printf("message %s\n", live_.take_message().c_str());
  }

 private:
  void say(int64_t count) {
    count = std::min(count, static_cast<int64_t>(sound_.size()) - at_);
    const int64_t taken = live_.push(sound_.data() + at_, count, 1);
    at_ += taken;
    std::printf("took %d\n", static_cast<int>(taken));
  }

  // Two channels, whose mean is heard.
  void blocks(int64_t count, bool live) {
    std::vector<float> block(kBlock), both(2 * kBlock);
    for (int64_t i = 0; i < count; ++i) {
      if (live) {
        for (int64_t j = 0; j < kBlock; ++j) {
          const float sample = sound_[static_cast<size_t>(at_ + j) % sound_.size()];
          both[static_cast<size_t>(2 * j)] = sample * 1.5f;
          both[static_cast<size_t>(2 * j + 1)] = sample * 0.5f;
        }
        at_ += live_.push(both.data(), kBlock, 2);
      }
      live_.work(now_);
      live_.play(block.data(), kBlock, now_);
      picture(kStep);
      std::fwrite(block.data(), sizeof(float), block.size(), played_);
      now_ += kStep;
    }
  }

  void picture(double step) {
    live_.show(now_, step, kLatency);
    std::fprintf(pictures_, "%.9f", live_.seconds());
    for (const float weight : live_.weights()) std::fprintf(pictures_, " %.9g", static_cast<double>(weight));
    for (size_t i = 0; i < facetalk_live::Live::pose_count; ++i)
      std::fprintf(pictures_, " %.9g", static_cast<double>(live_.pose()[i]));
    std::fprintf(pictures_, "\n");
  }

  // Sound is pushed in pieces of all sizes as fast as it is taken, and played faster than it would be spoken.
  void threads(int64_t count) {
    live_.start();
    std::atomic<bool> is_over{false};
    std::atomic<double> now{now_};
    std::thread pusher([&] {
      uint32_t random = 1;
      for (int64_t pushed = 0; pushed < count;) {
        random = random * 1664525u + 1013904223u;
        const int64_t piece = std::min<int64_t>(random >> 20, count - pushed);
        pushed += live_.push(sound_.data() + pushed, piece, 1);
        if (random % 16 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      live_.finish();
    });
    std::thread player([&] {
      std::vector<float> block(kBlock);
      while (!is_over) {
        live_.play(block.data(), kBlock, now);
        std::fwrite(block.data(), sizeof(float), block.size(), played_);
        now = now + kStep;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    });
    double last = now_;
    for (int pictures = 0; pictures < 20000 && !(pictures > 10 && live_.waiting() <= 0.0); ++pictures) {
      now_ = now;
      picture(now_ - last);
      last = now_;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    pusher.join();
    is_over = true;
    player.join();
    live_.stop();
  }

  void bad() {
    const float samples[4] = {0.0f, NAN, INFINITY, 1e9f};
    std::printf("bad %d %d %d\n", static_cast<int>(live_.push(samples, 4, 1)),
                static_cast<int>(live_.push(samples, 4, 0)), static_cast<int>(live_.push(samples, -1, 1)));
  }

  facetalk_live::Live& live_;
  const std::vector<float> sound_;
  std::FILE *pictures_, *played_;
  int64_t at_ = 0;
  double now_ = 1000.0;
  facetalk_style style_ = facetalk::default_style();
};

std::vector<float> read(const char* path) {
  std::vector<float> sound;
  std::FILE* file = std::fopen(path, "rb");
  float block[1024];
  for (size_t count; (count = std::fread(block, sizeof(float), 1024, file)) > 0;)
    sound.insert(sound.end(), block, block + count);
  std::fclose(file);
  return sound;
}

// FACING and six values of a pose a line: degrees as an FRotator has them, and centimetres.
int turns() {
  double facing;
  float pose[6];
  while (std::cin >> facing >> pose[0] >> pose[1] >> pose[2] >> pose[3] >> pose[4] >> pose[5]) {
    const facetalk_live::Turn turn = facetalk_live::turn_of(pose, facing);
    double shift[3];
    facetalk_live::shift_of(pose, facing, shift);
    std::printf("%.9f %.9f %.9f %.9f %.9f %.9f\n", turn.pitch, turn.yaw, turn.roll, shift[0], shift[1],
                shift[2]);
  }
  return 0;
}

// A morph target a line: the weights that it takes, or "none".
int names(const std::vector<std::string>& names) {
  for (std::string shape; std::getline(std::cin, shape);) {
    size_t first, second;
    if (facetalk_live::shapes::find(names, shape, first, second))
      std::printf("%s %s\n", names[first].c_str(), names[second].c_str());
    else
      std::printf("none\n");
  }
  return 0;
}

}  // namespace

int main(int count, char** words) {
  if (std::string(words[1]) == "turns") return turns();
  const facetalk::Model model(words[1]);
  if (std::string(words[2]) == "names") return names(model.curves());
  facetalk_stream_options options = facetalk::default_options();
  options.sample_rate = kRate;
  if (count > 4) options.look_ahead_s = std::atof(words[4]);
  facetalk_live::Live live(model, options, 0.04, 10.0);
  if (!live) {
    std::printf("error %s\n", live.take_message().c_str());
    return 0;
  }
  std::printf("delay %.9f\n", live.delay());
  Scene scene(live, read(words[2]), words[3]);
  for (std::string line; std::getline(std::cin, line);) scene.obey(line);
  return 0;
}
