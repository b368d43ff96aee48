// What facetalk.hpp does where exceptions are off: one file of a program whose other one has them.
//   without_exceptions MODEL_FOLDER < mono float32 at 16 kHz
#include <cstdio>
#include <string>
#include <vector>

#define check(text) static_assert(text, "a macro that an engine has")
#include <facetalk.hpp>

#if FACETALK_EXCEPTIONS || !defined(check)
#error "exceptions are taken for on, or a macro is gone"
#endif
check(true);

int status_thrown(const char* folder);

namespace {

int say(const char* what, facetalk_status status) {
  std::printf("%s: status %d, %s\n", what, static_cast<int>(status), facetalk_last_error());
  return 1;
}

}  // namespace

int main(int, char** arguments) {
  int heard = 0;
  auto log = [&heard](int32_t level, const char* line) {
    heard += level == FACETALK_LOG_ERROR && line[0] != '\0';
  };
  const facetalk_options options = facetalk::log_to(log);

  const facetalk::Model missing("/nowhere", &options);
  facetalk::Stream silent(missing);
  const facetalk::Rig shapeless(missing);
  if (missing || silent || shapeless || heard != 1) return say("what is missing was found", 0);
  say("missing", missing.status());
  if (silent.status() != missing.status() || shapeless.status() != missing.status()) return 1;
  const float sample = 0.0f;
  if (silent.push(&sample, 1) != FACETALK_INVALID || silent.finish() != FACETALK_INVALID) return 1;
  if (!silent.pull().empty() || !silent.pull_frames().curves.empty() || silent) return 1;
  if (shapeless.pose(&sample, nullptr) != FACETALK_INVALID || shapeless.vertices() != 0) return 1;
  std::printf("thrown elsewhere: %d\n", status_thrown("/nowhere"));

  facetalk::Model model(arguments[1], &options);
  facetalk::Stream stream(model);
  if (!model || !stream) return say("model", model.status());
  std::vector<float> sound(1600), curves;
  size_t count;
  while ((count = std::fread(sound.data(), sizeof(float), sound.size(), stdin)) > 0) {
    if (stream.push(sound.data(), count) != FACETALK_OK) return say("push", stream.status());
    const std::vector<float> ready = stream.pull();
    curves.insert(curves.end(), ready.begin(), ready.end());
  }
  if (stream.finish() != FACETALK_OK) return say("finish", stream.status());
  const std::vector<float> rest = stream.pull();
  curves.insert(curves.end(), rest.begin(), rest.end());
  std::printf("%zu frames\n", curves.size() / model.curves().size());

  if (stream.push(&sample, 1) != FACETALK_WRONG_STATE || stream) return 1;
  say("late", stream.status());
  stream.reset();
  if (!stream || heard != 2) return 1;
  for (float curve : curves) std::printf("%.9g\n", static_cast<double>(curve));
  return 0;
}
