// A scene for UFaceTalkComponent without Unreal: MODEL_FOLDER sound.f32 OUT, a command a line on standard input. Mono sound of
// 24 kHz is pushed, and played in blocks of 480 by the generator that the component gives the mixer; after each a picture is
// drawn, on a clock that only the scene moves. A line of OUT is a picture: seconds that were played, weights of all morph
// targets, rotation and translation of the head. OUT.f32 is what was played. Answers are on standard output.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <new>
#include <sstream>
#include <thread>

#include "FaceTalkComponent.h"
#include "UnrealStub.h"

double stub::now = 1000.0;

namespace {

bool is_counted = false;
long taken = 0;

void* take(size_t size) {
  if (is_counted) ++taken;
  void* memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return take(size); }
void* operator new[](size_t size) { return take(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace {

constexpr int32 kRate = 24000, kBlock = 480;
constexpr double kStep = static_cast<double>(kBlock) / kRate;

class Scene {
 public:
  Scene(const std::string& folder, const std::string& sound, const std::string& out)
      : voice_(std::make_unique<UFaceTalkComponent>(FObjectInitializer())),
        first_(std::make_unique<USkeletalMeshComponent>(
            std::initializer_list<const char*>{"face.jawOpen", "MouthSmile_R", "browInnerUp", "other"})),
        second_(std::make_unique<USkeletalMeshComponent>(
            std::initializer_list<const char*>{"tongueOut", "eyeBlinkLeft", "jawOpen"})),
        pictures_(std::fopen(out.c_str(), "w")),
        played_(std::fopen((out + ".f32").c_str(), "wb")) {
    std::FILE* file = std::fopen(sound.c_str(), "rb");
    float sample;
    while (std::fread(&sample, sizeof sample, 1, file) == 1) sound_.push_back(sample);
    std::fclose(file);
    actor_.components = {first_.get(), second_.get()};
    voice_->owner = &actor_;
    voice_->ModelFolder = FString(stub::wide(folder.c_str()).c_str());
  }
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
    if (word == "begin") begin();
    if (word == "end") end();
    if (word == "say") say(static_cast<int32>(number));  // SAMPLES in two channels
    if (word == "play") play(static_cast<int>(number));  // BLOCKS
    if (word == "finish") voice_->FinishSpeech();
    if (word == "interrupt") voice_->Interrupt();
    if (word == "smile") voice_->Smile = static_cast<float>(number);
    if (word == "lookahead") voice_->LookAhead = static_cast<float>(number);
    if (word == "facing") voice_->Facing = static_cast<float>(number);
    if (word == "whisper") voice_->bWhisper = true;
    if (word == "model") voice_->ModelFolder = FString(u"nothing");
    if (word == "channels") voice_->channels_of_device = static_cast<int32>(number);
    if (word == "stolen") voice_->Stop();  // by an engine that has no voice left
    if (word == "lose") second_.reset();   // a mesh that is gone
    if (word == "one") voice_->SetFaces({second_.get()});
    if (word == "count") is_counting_ = true;
    if (word == "held") held();
  }

 private:
  void begin() {
    voice_->BeginPlay();
    std::printf("delay %.6f playing %d first %d\n", static_cast<double>(voice_->Delay()),
                voice_->IsPlaying() ? 1 : 0, static_cast<int>(first_->before.size()));
  }

  void end() {
    voice_->EndPlay(EEndPlayReason::Destroyed);
    std::printf("end %d", voice_->IsPlaying() ? 1 : 0);
    for (const float weight : weights()) std::printf(" %.9g", static_cast<double>(weight));
    std::printf("\n");
  }

  // The mixer holds what it plays longer than the component is there.
  void held() {
    const ISoundGeneratorPtr generator = voice_->generator;
    voice_->EndPlay(EEndPlayReason::Destroyed);
    voice_.reset();
    std::vector<float> block(kBlock, 1.0f);
    std::printf("held %d\n", static_cast<int>(generator->OnGenerateAudio(block.data(), kBlock)));
  }

  void say(int32 count) {
    TArray<float> both;
    both.SetNum(2 * count);
    for (int32 i = 0; i < count; ++i) {
      const float sample = sound_[static_cast<size_t>(at_ + i)];
      both[2 * i] = sample * 1.5f;
      both[2 * i + 1] = sample * 0.5f;
    }
    const int32 got = voice_->PushSamples(both, 2);
    at_ += got;
    std::printf("took %d waiting %.3f starts %d\n", got, static_cast<double>(voice_->Waiting()),
                voice_->starts);
  }

  void play(int count) {
    const int32 channels = voice_->channels_of_device;
    std::vector<float> block(static_cast<size_t>(kBlock * channels));
    for (int i = 0; i < count; ++i) {
      // Its thread gets all the time that it takes to be ahead, while the scene's stands still.
      std::this_thread::sleep_for(std::chrono::milliseconds(i == 0 ? 300 : 6));
      std::fill(block.begin(), block.end(), 0.0f);
      if (voice_->IsPlaying()) voice_->generator->OnGenerateAudio(block.data(), kBlock * channels);
      std::fwrite(block.data(), sizeof(float), block.size(), played_);
      is_counted = is_counting_;
      voice_->TickComponent(static_cast<float>(kStep), LEVELTICK_All, nullptr);
      is_counted = false;
      const FRotator turn = voice_->HeadRotation();
      const FVector shift = voice_->HeadTranslation();
      std::fprintf(pictures_, "%.6f",
                   static_cast<double>(at_) / kRate - static_cast<double>(voice_->Waiting()));
      for (const float weight : weights()) std::fprintf(pictures_, " %.9g", static_cast<double>(weight));
      std::fprintf(pictures_, " %.9f %.9f %.9f %.9f %.9f %.9f\n", turn.Pitch, turn.Yaw, turn.Roll, shift.X,
                   shift.Y, shift.Z);
      stub::now += kStep;
    }
    if (is_counting_) std::printf("counted %ld\n", taken);
  }

  std::vector<float> weights() const {
    std::vector<float> all = first_->weights();
    if (second_) all.insert(all.end(), second_->weights().begin(), second_->weights().end());
    all.resize(7);
    return all;
  }

  AActor actor_;
  std::unique_ptr<UFaceTalkComponent> voice_;
  std::unique_ptr<USkeletalMeshComponent> first_, second_;
  std::vector<float> sound_;
  std::FILE *pictures_, *played_;
  int64 at_ = 0;
  bool is_counting_ = false;
};

}  // namespace

int main(int, char** words) {
  Scene scene(words[1], words[2], words[3]);
  for (std::string line; std::getline(std::cin, line);) scene.obey(line);
  return 0;
}
