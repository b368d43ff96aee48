// A mouth that is heard and a face that is seen saying the same. Speech is pushed as samples, by whoever has it: a synthesizer
// of speech, a voice chat, a microphone. The component plays it from where it is, once its frames are known, and moves the
// morph targets of its actor's skeletal meshes that have ARKit's names. A head turns by HeadRotation() in an animation
// blueprint: a node "Transform (Modify) Bone" in component space, with the rotation mode "Add to Existing".
#pragma once

#include "Components/SynthComponent.h"
#include "CoreMinimal.h"
#include "FaceTalkComponent.generated.h"

class USkeletalMeshComponent;
struct FFaceTalkFace;

UCLASS(ClassGroup = (Audio), meta = (BlueprintSpawnableComponent))
class FACETALKUNREAL_API UFaceTalkComponent : public USynthComponent {
  GENERATED_BODY()

 public:
  UFaceTalkComponent(const FObjectInitializer& ObjectInitializer);

  /** The model's folder, absolute or in Resources of the plugin. */
  UPROPERTY(EditAnywhere, BlueprintReadOnly, Category = "FaceTalk")
  FString ModelFolder = TEXT("facetalk");

  /** Whisper hears, which people are heard better by and which takes more time: the model has to have whisper/listener.safetensors. */
  UPROPERTY(EditAnywhere, BlueprintReadOnly, Category = "FaceTalk")
  bool bWhisper = false;

  /** Hz of the speech that is pushed, which the engine resamples to play it. */
  UPROPERTY(EditAnywhere, BlueprintReadOnly, Category = "FaceTalk",
            meta = (ClampMin = "8000", ClampMax = "96000"))
  int32 SampleRate = 24000;

  /** Seconds of speech after a frame that are heard first. Less answers sooner and knows less of the next sound. */
  UPROPERTY(EditAnywhere, BlueprintReadOnly, Category = "FaceTalk", meta = (ClampMin = "0", ClampMax = "1"))
  float LookAhead = 0.2f;

  /** Equal seeds and speech give equal faces. */
  UPROPERTY(EditAnywhere, BlueprintReadOnly, Category = "FaceTalk")
  int32 Seed = 0;

  /** Seconds that threads may be late before speech falters. */
  UPROPERTY(EditAnywhere, BlueprintReadOnly, Category = "FaceTalk", meta = (ClampMin = "0", ClampMax = "1"))
  float Slack = 0.04f;

  /** Seconds from the mixer to ears: its own buffers, and much more with loudspeakers by Bluetooth. */
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk", meta = (ClampMin = "0", ClampMax = "1"))
  float OutputLatency = 0.05f;

  /** Yaw, in degrees, in which the face looks in the space of its mesh: 90 for +Y, as Epic's mannequins do, 0 for +X. */
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk")
  float Facing = 90.0f;

  /** Sliders; moved while it talks, they are followed within a second or two. Factor of what is expressed beside speech. */
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk|Style",
            meta = (ClampMin = "0", ClampMax = "2"))
  float Intensity = 1.0f;
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk|Style",
            meta = (ClampMin = "-1", ClampMax = "1"))
  float Smile = 0.0f;
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk|Style",
            meta = (ClampMin = "0", ClampMax = "3"))
  float BrowActivity = 1.0f;
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk|Style",
            meta = (ClampMin = "0", ClampMax = "3"))
  float BlinkRate = 1.0f;
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk|Style",
            meta = (ClampMin = "0", ClampMax = "1"))
  float GazeSteadiness = 0.0f;
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk|Style",
            meta = (ClampMin = "0", ClampMax = "2"))
  float HeadMotion = 1.0f;
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk|Style",
            meta = (ClampMin = "0", ClampMax = "2"))
  float Jaw = 1.0f;
  UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "FaceTalk|Style",
            meta = (ClampMin = "0", ClampMax = "2"))
  float Lips = 1.0f;

  /** Takes speech, interleaved if it has several channels, as fast as it comes; it is said one after the other.
   * @return How many samples of each channel were taken: fewer where a minute of them waits to be played. 0 before play began,
   * or where there is no model. */
  UFUNCTION(BlueprintCallable, Category = "FaceTalk")
  int32 PushSamples(const TArray<float>& Samples, int32 Channels = 1);

  /** What was said is over, and its end need not wait for more. */
  UFUNCTION(BlueprintCallable, Category = "FaceTalk")
  void FinishSpeech();

  /** Falls silent at once, whatever was still to be said. */
  UFUNCTION(BlueprintCallable, Category = "FaceTalk")
  void Interrupt();

  /** Moves these meshes, of any actor, instead of all that its own actor had when play began. */
  UFUNCTION(BlueprintCallable, Category = "FaceTalk")
  void SetFaces(const TArray<USkeletalMeshComponent*>& Meshes);

  /** Seconds, beside two blocks of the mixer, by which speech that comes as it is spoken is late; 0 without a model. */
  UFUNCTION(BlueprintPure, Category = "FaceTalk")
  float Delay() const;

  /** Seconds of speech that wait to be played. */
  UFUNCTION(BlueprintPure, Category = "FaceTalk")
  float Waiting() const;

  /** How the voice turns the head now, in the space of its mesh. */
  UFUNCTION(BlueprintPure, Category = "FaceTalk")
  FRotator HeadRotation() const;

  /** Where the voice moves the head now, centimetres, in the space of its mesh. */
  UFUNCTION(BlueprintPure, Category = "FaceTalk")
  FVector HeadTranslation() const;

  virtual void BeginPlay() override;
  virtual void EndPlay(const EEndPlayReason::Type Reason) override;
  virtual void TickComponent(float Seconds, ELevelTick TickType,
                             FActorComponentTickFunction* Function) override;

 protected:
  virtual bool Init(int32& OutSampleRate) override;
  virtual ISoundGeneratorPtr CreateSoundGenerator(const FSoundGeneratorInitParams& Params) override;

 private:
  void ShowRest();

  // Shared with the generator, which the audio thread may keep for a while.
  TSharedPtr<FFaceTalkFace, ESPMode::ThreadSafe> Face;
};
