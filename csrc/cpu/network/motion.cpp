#include "cpu/network/motion.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/number_text.h"
#include "core/platform/files.h"
#include "core/status.h"
#include "cpu/network/noise.h"

namespace facetalk::network {
namespace {

constexpr const char* kFormat = "facetalk-motion-model";
// Of a model whose values have no limits, which readers of the first version would cut to 0..1.
constexpr int64_t kWithoutLimits = 2;

std::vector<double> doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

double signal(double fraction) {
  const double root = std::cos((fraction + 0.008) / 1.008 * std::numbers::pi / 2.0);
  return root * root;
}

}  // namespace

NoiseSchedule::NoiseSchedule(int train_steps) {
  double power = 1.0;
  for (int i = 0; i < train_steps; ++i) {
    const double beta = 1.0 - signal((i + 1.0) / train_steps) / signal(static_cast<double>(i) / train_steps);
    power *= 1.0 - std::min(beta, 0.999);
    power_.push_back(power);
  }
}

std::vector<std::pair<int, int>> NoiseSchedule::transitions(int steps) const {
  const double total = train_steps();
  std::vector<std::pair<int, int>> out;
  for (int i = 0; i < steps; ++i) {
    const int timestep = static_cast<int>(std::nearbyint(total + i * (-total / steps))) - 1;
    if (i > 0) out.back().second = timestep;
    out.emplace_back(timestep, -1);
  }
  return out;
}

void LipContact::apply(float* weights) const {
  double gap = bias_mm;
  for (size_t i = 0; i < per_unit_mm.size(); ++i) gap += static_cast<double>(weights[i]) * per_unit_mm[i];
  const double excess = std::max(lowest_mm - gap, 0.0) / -per_unit_mm[close];
  weights[close] = static_cast<float>(std::max(static_cast<double>(weights[close]) - excess, 0.0));
}

MotionModel::MotionModel(const std::string& folder) {
  const std::string where = folder + "/config.json";
  const Json config = read_json(where);
  const int64_t version = config.at("version").whole(0, 1000);
  if (config.at("format").text() != kFormat || (version != 1 && version != kWithoutLimits))
    throw FileError(where + ": does not describe a motion model of version 1 or 2");
  limited_ = version != kWithoutLimits;
  const DenoiserSizes sizes = DenoiserSizes::read(config.at("denoiser"));
  const Safetensors file(folder + "/model.safetensors");
  denoiser_ = std::make_unique<Denoiser>(file, "denoiser.", sizes, false);
  if (config.at("schedule").find("kind") != nullptr && config.at("schedule").at("kind").text() != "cosine")
    throw FileError(where + ": the noise schedule is not cosine");
  schedule_ = NoiseSchedule(static_cast<int>(config.at("schedule").at("train_steps").whole(1, 100'000)));
  default_steps_ = static_cast<int>(config.at("sampling").at("steps").whole(1, schedule_.train_steps()));
  default_guidance_ = config.at("sampling").at("guidance").number(0.0, 20.0);
  for (const Json& name : config.at("expression_names").list()) {
    if (name.text().find('\0') != std::string::npos) throw FileError(where + ": a name with a zero byte");
    names_.push_back(name.text());
  }
  if (const Json* notes = config.find("notes"); notes != nullptr && notes->kind() == Json::Kind::kObject)
    feature_space_ = notes->text_at("feature_space");
  const auto count = static_cast<int64_t>(names_.size());
  if (count < 1 || count > 100'000)
    throw FileError(where + ": expression_names has " + std::to_string(count) + " entries");
  mean_ = doubles(file.floats("representation.mean", {count}));
  decode_ = doubles(file.floats("representation.decode_matrix", {count, sizes.motion}));
  feature_mean_ = file.floats("features.mean", {sizes.audio});
  feature_scale_ = file.floats("features.scale", {sizes.audio});
  for (const float scale : feature_scale_) {
    if (scale == 0.0f) throw FileError(folder + "/model.safetensors: features.scale has a zero");
  }
  if (const Json* told = config.find("contact")) {
    LipContact contact;
    contact.bias_mm = told->at("bias_mm").number(-1e6, 1e6);
    contact.lowest_mm = told->at("lowest_mm").number(-1e6, 1e6);
    contact.per_unit_mm = doubles(file.floats("contact.per_unit_mm", {count}));
    const auto found = std::find(names_.begin(), names_.end(), told->at("close").text());
    if (found == names_.end()) throw FileError(where + ": contact: close is none of expression_names");
    contact.close = static_cast<size_t>(found - names_.begin());
    if (contact.per_unit_mm[contact.close] == 0.0)
      throw FileError(where + ": contact: its weight does not close lips");
    contact_ = std::move(contact);
  }
  read_student(config, folder);
}

void MotionModel::read_student(const Json& config, const std::string& folder) {
  const Json* told = config.find("student");
  const std::string file = folder + "/student.safetensors";
  // A folder that has lost it is a teacher alone, as for facetalk/diffusion/checkpoint.py.
  if (told == nullptr || !platform::exists(file)) return;
  student_ = std::make_unique<Denoiser>(Safetensors(file), "", denoiser_->sizes(), true);
  student_steps_ = told->at("steps").sizes(1, schedule_.train_steps());
  const std::vector<Json>& guidance = told->at("guidance").list();
  if (guidance.size() != 2) throw FileError(folder + "/config.json: student: guidance has no two entries");
  student_low_ = guidance[0].number(0.0, 20.0);
  student_high_ = guidance[1].number(student_low_, 20.0);
  student_default_ = static_cast<int>(told->at("default_steps").whole(1, schedule_.train_steps()));
  if (std::find(student_steps_.begin(), student_steps_.end(), student_default_) == student_steps_.end())
    throw FileError(folder + "/config.json: student: default_steps is none of steps");
}

std::pair<int, const Denoiser*> MotionModel::network(int steps, double guidance) const {
  if (!(guidance >= 0.0 && guidance <= 20.0))
    throw ArgumentError("guidance must lie in 0..20, got " + number_text(guidance));
  if (steps < 0 || steps > schedule_.train_steps())
    throw ArgumentError("steps must be a whole number in 1.." + std::to_string(schedule_.train_steps()) +
                        ", got " + std::to_string(steps));
  const bool covers = student_ && student_low_ <= guidance && guidance <= student_high_;
  if (steps == 0) {
    if (covers) return {student_default_, student_.get()};
    return {default_steps_, denoiser_.get()};
  }
  const bool knows =
      student_ && std::find(student_steps_.begin(), student_steps_.end(), steps) != student_steps_.end();
  if (!knows) return {steps, denoiser_.get()};
  if (!covers)
    throw ArgumentError("with " + std::to_string(steps) + " steps guidance must lie in " +
                        number_text(student_low_) + ".." + number_text(student_high_) +
                        ", for which the few-step student was trained, got " + number_text(guidance) +
                        "; other numbers of steps take any, 25 for instance");
  return {steps, student_.get()};
}

bool is_upper_face(const std::string& name) {  // as facetalk/data/expressions.py
  for (const char* start : {"brow", "eye", "cheekSquint"}) {
    if (name.rfind(start, 0) == 0) return true;
  }
  return false;
}

MotionStream::MotionStream(const MotionModel& model, int steps, double guidance, uint64_t seed)
    : model_(model), guidance_(guidance), seed_(seed) {
  const auto [count, network] = model.network(steps, guidance);
  denoiser_ = network;
  guided_ = !network->is_student() && guidance != 1.0;
  transitions_ = model.schedule().transitions(count);
  for (const auto& [timestep, previous] : transitions_)
    modulations_.push_back(network->modulation(timestep, previous, guidance));
  for (auto& past : past_) past.resize(transitions_.size());
}

void MotionStream::push(const float* features, int64_t frames, std::vector<float>& weights) {
  const auto width = static_cast<size_t>(model_.audio_width());
  for (int64_t frame = 0; frame < frames; ++frame) {
    for (size_t i = 0; i < width; ++i)
      heard_.push_back((*features++ - model_.feature_mean_[i]) / model_.feature_scale_[i]);
  }
  const auto known = static_cast<int64_t>(heard_.size() / width);
  advance(known - context_ - denoiser_->sizes().right, weights);
}

void MotionStream::finish(std::vector<float>& weights) {
  advance(static_cast<int64_t>(heard_.size()) / model_.audio_width() - context_, weights);
}

void MotionStream::advance(int64_t count, std::vector<float>& weights) {
  const auto width = static_cast<int64_t>(model_.audio_width());
  const auto values = model_.names().size();
  const auto dim = static_cast<size_t>(denoiser_->sizes().motion);
  std::vector<float> coordinates;
  for (; count > 0; count -= kChunk) {
    const int64_t now = std::min(count, kChunk);
    if (done_ + now > (int64_t{1} << 32)) throw ArgumentError("samples", "fewer than 2^32 frames", "more");
    sample(now, coordinates);
    const int64_t keep = std::min<int64_t>(context_ + now, denoiser_->sizes().left);
    heard_.erase(heard_.begin(), heard_.begin() + (context_ + now - keep) * width);
    context_ = keep;
    done_ += now;
    for (int64_t frame = 0; frame < now; ++frame) {
      const size_t first = weights.size();
      weights.resize(first + values);
      const float* from = coordinates.data() + static_cast<size_t>(frame) * dim;
      for (size_t e = 0; e < values; ++e) {
        double sum = 0.0;
        for (size_t k = 0; k < dim; ++k) sum += static_cast<double>(from[k]) * model_.decode_[e * dim + k];
        const auto value = static_cast<float>(model_.mean_[e] + sum);
        if (!std::isfinite(value))
          throw FileError(
              "the motion model gives numbers that are not finite: its weights are damaged, or the audio "
              "encoder is not the one that it was trained with");
        weights[first + e] = model_.limited_ ? std::clamp(value, 0.0f, 1.0f) : value;
      }
      if (model_.contact_) model_.contact_->apply(weights.data() + first);
    }
  }
}

// DDIM without fresh noise (Song et al., 2021, eq. 12), in float32 as facetalk/diffusion/sampler.py.
void MotionStream::sample(int64_t count, std::vector<float>& coordinates) {
  const int dim = denoiser_->sizes().motion;
  const auto size = static_cast<size_t>(count * dim);
  const auto width = static_cast<int64_t>(model_.audio_width());
  const int64_t heard =
      std::min(context_ + count + denoiser_->sizes().right, static_cast<int64_t>(heard_.size()) / width);
  denoiser_->listen(heard_.data(), heard, heard_layers_[0]);
  if (guided_) denoiser_->listen(nullptr, heard, heard_layers_[1]);
  coordinates.resize(size);
  frame_noise(seed_, 0, done_, done_ + count, dim, coordinates.data());
  std::vector<float> clean(size), other(size);
  for (size_t step = 0; step < transitions_.size(); ++step) {
    const auto& [timestep, previous] = transitions_[step];
    denoiser_->predict(coordinates.data(), count, modulations_[step], heard_layers_[0], context_,
                       past_[0][step], clean.data(), scratch_);
    if (guided_) {
      denoiser_->predict(coordinates.data(), count, modulations_[step], heard_layers_[1], context_,
                         past_[1][step], other.data(), scratch_);
      const auto weight = static_cast<float>(guidance_), rest = static_cast<float>(1.0 - guidance_);
      for (size_t i = 0; i < size; ++i) clean[i] = weight * clean[i] + rest * other[i];
    }
    const double power = model_.schedule_.signal_power(timestep),
                 next = model_.schedule_.signal_power(previous);
    const auto keep = static_cast<float>(std::sqrt(power)),
               noise = static_cast<float>(std::sqrt(1.0 - power));
    const auto ahead = static_cast<float>(std::sqrt(next)),
               left = static_cast<float>(std::sqrt(std::max(0.0, 1.0 - next)));
    for (size_t i = 0; i < size; ++i)
      coordinates[i] = ahead * clean[i] + left * ((coordinates[i] - keep * clean[i]) / noise);
  }
}

}  // namespace facetalk::network
