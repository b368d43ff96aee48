#include "FaceTalkComponent.h"

#include "Animation/MorphTarget.h"
#include "Components/SkeletalMeshComponent.h"
#include "Engine/SkeletalMesh.h"
#include "GameFramework/Actor.h"
#include "HAL/PlatformTime.h"
#include "Interfaces/IPluginManager.h"
#include "Misc/Paths.h"
#include "Sound/SoundGenerator.h"

THIRD_PARTY_INCLUDES_START
#include "FaceTalkLive.h"
#include "FaceTalkShapes.h"
THIRD_PARTY_INCLUDES_END

DEFINE_LOG_CATEGORY_STATIC(LogFaceTalk, Log, All);

// A model, what talks by it, and the morph targets that it moves.
namespace {

// What cannot be loaded says so by its status, which the streams made of it have, too.
facetalk::Model ModelOf(const std::string& Folder, bool bWhisper) {
  facetalk::Model Model(Folder);
  if (bWhisper && Model) Model.use_whisper();
  return Model;
}

}  // namespace

struct FFaceTalkFace {
  struct FBinding {
    TWeakObjectPtr<USkeletalMeshComponent> Mesh;
    FName Target;
    size_t First, Second;  // a weight is the mean of the two
  };

  FFaceTalkFace(const facetalk::Model& Loaded, const facetalk_stream_options& Options, double Slack)
      : Model(Loaded), Live(Model, Options, Slack) {
    Names = Model.curves();
    for (const std::string& Name : Model.tongue()) Names.push_back(Name);
  }

  void Bind(USkeletalMeshComponent* Mesh) {
    const USkeletalMesh* Asset = Mesh != nullptr ? Mesh->GetSkeletalMeshAsset() : nullptr;
    if (Asset == nullptr) return;
    for (const UMorphTarget* Target : Asset->GetMorphTargets()) {
      FBinding Found{Mesh, Target->GetFName(), 0, 0};
      const std::string Name(TCHAR_TO_UTF8(*Found.Target.ToString()));
      if (facetalk_live::shapes::find(Names, Name, Found.First, Found.Second)) Bindings.Add(Found);
    }
  }

  facetalk::Model Model;
  facetalk_live::Live Live;
  std::vector<std::string> Names;
  TArray<FBinding> Bindings;
  facetalk_style Style = facetalk::default_style();
};

namespace {

// What the audio thread calls; it takes no part in the life of objects.
class FFaceTalkVoice : public ISoundGenerator {
 public:
  FFaceTalkVoice(TSharedPtr<FFaceTalkFace, ESPMode::ThreadSafe> InFace, int32 InChannels)
      : Face(MoveTemp(InFace)), Channels(InChannels) {}

  virtual int32 OnGenerateAudio(float* Samples, int32 Count) override {
    const int32 Frames = Count / Channels;
    Face->Live.play(Samples, Frames, FPlatformTime::Seconds());
    // From the last one on, each is copied before it is written over.
    for (int32 i = Frames * Channels - 1; Channels > 1 && i >= 0; --i) Samples[i] = Samples[i / Channels];
    return Frames * Channels;
  }

 private:
  const TSharedPtr<FFaceTalkFace, ESPMode::ThreadSafe> Face;
  const int32 Channels;
};

bool AreSame(const facetalk_style& A, const facetalk_style& B) {
  return A.intensity == B.intensity && A.smile == B.smile && A.brow_activity == B.brow_activity &&
         A.blink_rate == B.blink_rate && A.gaze_steadiness == B.gaze_steadiness &&
         A.head_motion == B.head_motion && A.jaw == B.jaw && A.lips == B.lips;
}

facetalk_style StyleOf(const UFaceTalkComponent& Asked) {
  facetalk_style Style = facetalk::default_style();
  Style.intensity = Asked.Intensity;
  Style.smile = Asked.Smile;
  Style.brow_activity = Asked.BrowActivity;
  Style.blink_rate = Asked.BlinkRate;
  Style.gaze_steadiness = Asked.GazeSteadiness;
  Style.head_motion = Asked.HeadMotion;
  Style.jaw = Asked.Jaw;
  Style.lips = Asked.Lips;
  return Style;
}

FString FolderOf(const FString& Asked) {
  if (!FPaths::IsRelative(Asked)) return Asked;
  const TSharedPtr<IPlugin> Plugin = IPluginManager::Get().FindPlugin(TEXT("FaceTalk"));
  const FString Home = Plugin.IsValid() ? Plugin->GetBaseDir() : FString();
  return FPaths::ConvertRelativePathToFull(FPaths::Combine(Home, TEXT("Resources"), Asked));
}

}  // namespace

UFaceTalkComponent::UFaceTalkComponent(const FObjectInitializer& ObjectInitializer)
    : Super(ObjectInitializer) {
  PrimaryComponentTick.bCanEverTick = true;
  bAutoActivate = false;  // there is nothing to play before BeginPlay
}

bool UFaceTalkComponent::Init(int32& OutSampleRate) {
  NumChannels = 1;
  OutSampleRate = SampleRate;
  return true;
}

ISoundGeneratorPtr UFaceTalkComponent::CreateSoundGenerator(const FSoundGeneratorInitParams& Params) {
  if (!Face.IsValid()) return nullptr;
  if (static_cast<int32>(Params.SampleRate) != SampleRate)
    UE_LOG(LogFaceTalk, Warning, TEXT("%s: speech of %d Hz is played at %d"), *GetName(), SampleRate,
           static_cast<int32>(Params.SampleRate));
  return MakeShared<FFaceTalkVoice, ESPMode::ThreadSafe>(Face, FMath::Max(1, Params.NumChannels));
}

void UFaceTalkComponent::BeginPlay() {
  Super::BeginPlay();
  facetalk_stream_options Options = facetalk::default_options();
  Options.sample_rate = SampleRate;
  Options.look_ahead_s = LookAhead;
  Options.seed = static_cast<uint32>(Seed);
  const std::string Folder(TCHAR_TO_UTF8(*FolderOf(ModelFolder)));
  Face = MakeShared<FFaceTalkFace, ESPMode::ThreadSafe>(ModelOf(Folder, bWhisper), Options, Slack);
  if (!Face->Live) {
    const std::string Message = Face->Live.take_message();
    UE_LOG(LogFaceTalk, Error, TEXT("%s: %s"), *GetName(), UTF8_TO_TCHAR(Message.c_str()));
    Face.Reset();
    return;
  }
  Face->Live.set_style(Face->Style = StyleOf(*this));
  if (const AActor* Owner = GetOwner()) {
    TArray<USkeletalMeshComponent*> Meshes;
    Owner->GetComponents<USkeletalMeshComponent>(Meshes);
    SetFaces(Meshes);
  }
  Face->Live.start();
  Start();
}

void UFaceTalkComponent::EndPlay(const EEndPlayReason::Type Reason) {
  if (Face.IsValid()) {
    Stop();
    // Here and not where the last reference goes, which may be in the audio thread, where nobody may wait.
    Face->Live.stop();
    ShowRest();
    Face.Reset();
  }
  Super::EndPlay(Reason);
}

void UFaceTalkComponent::TickComponent(float Seconds, ELevelTick TickType,
                                       FActorComponentTickFunction* Function) {
  Super::TickComponent(Seconds, TickType, Function);
  if (!Face.IsValid()) return;
  const facetalk_style Style = StyleOf(*this);
  if (!AreSame(Style, Face->Style)) Face->Live.set_style(Face->Style = Style);
  const std::string Message = Face->Live.take_message();
  if (!Message.empty())
    UE_LOG(LogFaceTalk, Warning, TEXT("%s: %s"), *GetName(), UTF8_TO_TCHAR(Message.c_str()));
  Face->Live.show(FPlatformTime::Seconds(), Seconds, OutputLatency);
  const std::vector<float>& Weights = Face->Live.weights();
  for (const FFaceTalkFace::FBinding& Binding : Face->Bindings)
    if (USkeletalMeshComponent* Mesh = Binding.Mesh.Get())
      Mesh->SetMorphTarget(Binding.Target, (Weights[Binding.First] + Weights[Binding.Second]) / 2.0f);
}

int32 UFaceTalkComponent::PushSamples(const TArray<float>& Samples, int32 Channels) {
  if (!Face.IsValid() || Channels < 1) return 0;
  // An engine that had more sounds than voices, or another device, may have stopped it.
  if (!IsPlaying()) Start();
  return static_cast<int32>(Face->Live.push(Samples.GetData(), Samples.Num() / Channels, Channels));
}

void UFaceTalkComponent::FinishSpeech() {
  if (Face.IsValid()) Face->Live.finish();
}

void UFaceTalkComponent::Interrupt() {
  if (Face.IsValid()) Face->Live.interrupt();
}

void UFaceTalkComponent::SetFaces(const TArray<USkeletalMeshComponent*>& Meshes) {
  if (!Face.IsValid()) return;
  ShowRest();
  Face->Bindings.Reset();
  for (USkeletalMeshComponent* Mesh : Meshes) {
    const int32 Before = Face->Bindings.Num();
    Face->Bind(Mesh);
    // A mesh takes its morph targets when it ticks: those of this picture, and not of the one before.
    if (Face->Bindings.Num() > Before) Mesh->AddTickPrerequisiteComponent(this);
  }
  if (Face->Bindings.Num() == 0)
    UE_LOG(LogFaceTalk, Warning, TEXT("%s: no mesh has a morph target of ARKit's names, such as jawOpen"),
           *GetName());
}

float UFaceTalkComponent::Delay() const {
  return Face.IsValid() ? static_cast<float>(Face->Live.delay()) : 0.0f;
}

float UFaceTalkComponent::Waiting() const {
  return Face.IsValid() ? static_cast<float>(Face->Live.waiting()) : 0.0f;
}

FRotator UFaceTalkComponent::HeadRotation() const {
  if (!Face.IsValid()) return FRotator::ZeroRotator;
  const facetalk_live::Turn Turn = facetalk_live::turn_of(Face->Live.pose(), Facing);
  return FRotator(Turn.pitch, Turn.yaw, Turn.roll);
}

FVector UFaceTalkComponent::HeadTranslation() const {
  double Shift[3] = {0.0, 0.0, 0.0};
  if (Face.IsValid()) facetalk_live::shift_of(Face->Live.pose(), Facing, Shift);
  return FVector(Shift[0], Shift[1], Shift[2]);
}

void UFaceTalkComponent::ShowRest() {
  for (const FFaceTalkFace::FBinding& Binding : Face->Bindings)
    if (USkeletalMeshComponent* Mesh = Binding.Mesh.Get()) Mesh->SetMorphTarget(Binding.Target, 0.0f);
}
