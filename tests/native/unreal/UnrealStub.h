// As much of Unreal as examples/unreal asks for, so that it compiles and runs where there is none: declared as Epic's reference
// has it, done as simply as it goes. What the engine does by itself (time, ticks, the mixer, garbage) a test does.
#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using int32 = int32_t;
using int64 = int64_t;
using uint32 = uint32_t;
using uint64 = uint64_t;
using TCHAR = char16_t;

// Macros of the engine, some of which are in the way of other people's headers.
#define TEXT(text) u##text
#define check(text) static_assert(false, "a macro that an engine has")
#define verify(text) static_assert(false, "a macro that an engine has")
#define UCLASS(...)
#define UPROPERTY(...)
#define UFUNCTION(...)
#define GENERATED_BODY()         \
 public:                         \
  using Super = USynthComponent; \
                                 \
 private:
#define FACETALKUNREAL_API
#define THIRD_PARTY_INCLUDES_START
#define THIRD_PARTY_INCLUDES_END
#define DEFINE_LOG_CATEGORY_STATIC(name, ...) static const char* const name = #name
#define UE_LOG(category, verbosity, ...) stub::log(category, #verbosity, __VA_ARGS__)
#define IMPLEMENT_MODULE(type, name) \
  namespace {                        \
  [[maybe_unused]] type name;        \
  }

template <class T>
T&& MoveTemp(T& value) {
  return static_cast<T&&>(value);
}

namespace stub {

inline std::string narrow(const TCHAR* text) {
  std::string out;
  for (; *text != 0; ++text) out += static_cast<char>(*text);
  return out;
}

inline std::u16string wide(const char* text) {
  std::u16string out;
  for (; *text != 0; ++text) out += static_cast<TCHAR>(static_cast<unsigned char>(*text));
  return out;
}

// %s takes TCHAR, %d int32, as printf of the engine does.
inline void log(const char* category, const char* verbosity, const TCHAR* format, ...) {
  std::string line;
  va_list words;
  va_start(words, format);
  for (; *format != 0; ++format) {
    if (*format != u'%') {
      line += static_cast<char>(*format);
      continue;
    }
    ++format;
    if (*format == u's') line += narrow(va_arg(words, const TCHAR*));
    if (*format == u'd') line += std::to_string(va_arg(words, int32));
  }
  va_end(words);
  std::printf("%s: %s: %s\n", category, verbosity, line.c_str());
}

extern double now;  // the scene's clock

}  // namespace stub

#define TCHAR_TO_UTF8(text) stub::narrow(text).c_str()
#define UTF8_TO_TCHAR(text) stub::wide(text).c_str()

enum class ESPMode { ThreadSafe };

template <class T, ESPMode Mode = ESPMode::ThreadSafe>
class TSharedPtr : public std::shared_ptr<T> {
 public:
  TSharedPtr() = default;
  TSharedPtr(std::nullptr_t) {}
  TSharedPtr(std::shared_ptr<T> other) : std::shared_ptr<T>(std::move(other)) {}
  template <class Derived>
  TSharedPtr(const TSharedPtr<Derived, Mode>& other) : std::shared_ptr<T>(other) {}
  bool IsValid() const { return this->get() != nullptr; }
  void Reset() { this->reset(); }
};

template <class T, ESPMode Mode, class... Words>
TSharedPtr<T, Mode> MakeShared(Words&&... words) {
  return TSharedPtr<T, Mode>(std::make_shared<T>(std::forward<Words>(words)...));
}

template <class T>
class TArray {
 public:
  TArray() = default;
  TArray(std::initializer_list<T> values) : values_(values) {}
  int32 Num() const { return static_cast<int32>(values_.size()); }
  const T* GetData() const { return values_.data(); }
  void Add(const T& value) { values_.push_back(value); }
  void Reset() { values_.clear(); }
  void SetNum(int32 count) { values_.resize(static_cast<size_t>(count)); }
  T& operator[](int32 i) { return values_[static_cast<size_t>(i)]; }
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }

 private:
  std::vector<T> values_;
};

class FString {
 public:
  FString() = default;
  FString(const TCHAR* text) : text_(text) {}
  const TCHAR* operator*() const { return text_.c_str(); }
  friend FString operator+(const FString& a, const FString& b) {
    return FString((a.text_ + b.text_).c_str());
  }

 private:
  std::u16string text_;
};

// A number, as in the engine, so that to copy one takes no memory.
class FName {
 public:
  FName() = default;
  explicit FName(const char* text) {
    for (number_ = 0; number_ < names().size(); ++number_)
      if (names()[number_] == text) return;
    names().push_back(text);
  }
  FString ToString() const { return FString(stub::wide(names()[number_].c_str()).c_str()); }
  const std::string& text() const { return names()[number_]; }
  size_t number() const { return number_; }

 private:
  static std::vector<std::string>& names() {
    static std::vector<std::string> all;
    return all;
  }
  size_t number_ = 0;
};

struct FRotator {
  FRotator(double pitch, double yaw, double roll) : Pitch(pitch), Yaw(yaw), Roll(roll) {}
  double Pitch, Yaw, Roll;
  static const FRotator ZeroRotator;
};
inline const FRotator FRotator::ZeroRotator(0.0, 0.0, 0.0);

struct FVector {
  FVector(double x, double y, double z) : X(x), Y(y), Z(z) {}
  double X, Y, Z;
};

struct FMath {
  template <class T>
  static T Max(T a, T b) {
    return std::max(a, b);
  }
};

struct FPlatformTime {
  static double Seconds() { return stub::now; }
};

struct FPaths {
  static bool IsRelative(const FString& path) { return (*path)[0] != u'/'; }
  static FString Combine(const FString& a, const FString& b, const FString& c) {
    return a + FString(u"/") + b + FString(u"/") + c;
  }
  static FString ConvertRelativePathToFull(const FString& path) { return path; }
};

struct IPlugin {
  FString GetBaseDir() const { return FString(u"/plugins/FaceTalk"); }
};

struct IPluginManager {
  static IPluginManager& Get() {
    static IPluginManager manager;
    return manager;
  }
  TSharedPtr<IPlugin> FindPlugin(const TCHAR*) { return MakeShared<IPlugin, ESPMode::ThreadSafe>(); }
};

struct FDefaultModuleImpl {};

class UObject {
 public:
  virtual ~UObject() { *is_there_ = false; }
  FString GetName() const { return FString(u"Voice"); }
  std::shared_ptr<bool> is_there() const { return is_there_; }

 private:
  std::shared_ptr<bool> is_there_ = std::make_shared<bool>(true);
};

template <class T>
class TWeakObjectPtr {
 public:
  TWeakObjectPtr(T* object) : object_(object), is_there_(object->is_there()) {}
  T* Get() const { return *is_there_ ? object_ : nullptr; }

 private:
  T* object_;
  std::shared_ptr<bool> is_there_;
};

struct EEndPlayReason {
  enum Type { Destroyed };
};
enum ELevelTick { LEVELTICK_All };
struct FObjectInitializer {};
struct FActorComponentTickFunction {
  bool bCanEverTick = false;
};

class AActor;

class UActorComponent : public UObject {
 public:
  virtual void BeginPlay() {}
  virtual void EndPlay(const EEndPlayReason::Type) {}
  virtual void TickComponent(float, ELevelTick, FActorComponentTickFunction*) {}
  virtual void AddTickPrerequisiteComponent(UActorComponent* first) { before.push_back(first); }
  AActor* GetOwner() const { return owner; }
  FActorComponentTickFunction PrimaryComponentTick;
  bool bAutoActivate = true;
  AActor* owner = nullptr;
  std::vector<UActorComponent*> before;
};

class UMorphTarget : public UObject {
 public:
  explicit UMorphTarget(const char* name) : name_(name) {}
  FName GetFName() const { return name_; }

 private:
  FName name_;
};

class USkeletalMesh : public UObject {
 public:
  const std::vector<UMorphTarget*>& GetMorphTargets() const { return targets; }
  std::vector<UMorphTarget*> targets;
};

class USkeletalMeshComponent : public UActorComponent {
 public:
  explicit USkeletalMeshComponent(std::initializer_list<const char*> names) {
    for (const char* name : names) {
      owned_.push_back(std::make_unique<UMorphTarget>(name));
      asset_.targets.push_back(owned_.back().get());
    }
    weights_.resize(names.size());
  }
  USkeletalMesh* GetSkeletalMeshAsset() const { return const_cast<USkeletalMesh*>(&asset_); }
  void SetMorphTarget(FName name, float value, bool remove_zero_weight = true) {
    (void)remove_zero_weight;
    for (size_t i = 0; i < weights_.size(); ++i)
      if (asset_.targets[i]->GetFName().number() == name.number()) weights_[i] = value;
  }
  const std::vector<float>& weights() const { return weights_; }

 private:
  std::vector<std::unique_ptr<UMorphTarget>> owned_;
  USkeletalMesh asset_;
  std::vector<float> weights_;
};

class AActor : public UObject {
 public:
  template <class T>
  void GetComponents(TArray<T*>& into) const {
    for (UActorComponent* component : components)
      if (T* found = static_cast<T*>(component)) into.Add(found);
  }
  std::vector<UActorComponent*> components;  // meshes alone
};

class ISoundGenerator {
 public:
  virtual ~ISoundGenerator() = default;
  virtual int32 OnGenerateAudio(float* samples, int32 count) = 0;
};
using ISoundGeneratorPtr = TSharedPtr<ISoundGenerator, ESPMode::ThreadSafe>;

struct FSoundGeneratorInitParams {
  float SampleRate = 0.0f;
  int32 NumChannels = 0;
};

class USynthComponent : public UActorComponent {
 public:
  explicit USynthComponent(const FObjectInitializer&) {}
  void Start() {
    int32 rate = 48000;
    if (!Init(rate)) return;
    generator = CreateSoundGenerator({static_cast<float>(rate), channels_of_device});
    ++starts;
  }
  void Stop() { generator.Reset(); }
  bool IsPlaying() const { return generator.IsValid(); }
  ISoundGeneratorPtr generator;  // which the mixer holds
  int32 channels_of_device = 1;
  int starts = 0;

 protected:
  virtual bool Init(int32&) { return true; }
  virtual ISoundGeneratorPtr CreateSoundGenerator(const FSoundGeneratorInitParams&) { return nullptr; }
  int32 NumChannels = 0;
};
