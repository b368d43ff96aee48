#include "cpu/network/safetensors.h"

#include <cmath>
#include <cstring>

namespace facetalk::network {
namespace {

constexpr uint64_t kMostHeader = 25'000'000;
constexpr float kLargest = 1e6f;  // as facetalk/weights.py: no trained network has a weight near it

int item_bytes(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "U8" || dtype == "I8" || dtype == "BOOL") return 1;
  return 0;
}

template <typename T>
T load(const unsigned char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float from_half(uint16_t half) {
  // Exponent and mantissa as those of a float, whose exponent is 112 too small: exact for subnormal ones too.
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7FFF) << 13;
  if (magnitude >= 0x0F800000u) return std::nanf("");  // infinite or NaN: refused by the caller
  float value;
  std::memcpy(&value, &magnitude, sizeof value);
  value *= 0x1p112f;
  return half & 0x8000 ? -value : value;
}

float from_bfloat(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

std::string text_of(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

}  // namespace

Safetensors::Safetensors(const std::string& path) : path_(path), file_(path) {
  if (!file_.is_open()) throw FileError(path + ": no such file, or it cannot be read");
  if (file_.data() == nullptr || file_.size() < 8) throw FileError(path + ": is no safetensors file");
  read_header();
}

void Safetensors::read_header() {
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | file_.data()[i];
  if (length > kMostHeader || length > file_.size() - 8)
    throw FileError(path_ + ": damaged (its header is longer than it)");
  const std::string_view text(reinterpret_cast<const char*>(file_.data() + 8), static_cast<size_t>(length));
  const Json header = Json::parse(text, path_);
  const unsigned char* data = file_.data() + 8 + length;
  const auto bytes = static_cast<int64_t>(file_.size() - 8 - length);
  for (const auto& [name, told] : header.entries()) {
    if (name == "__metadata__") {
      for (const auto& [key, value] : told.entries()) metadata_[key] = value.text();
      continue;
    }
    Entry entry;
    entry.dtype = told.at("dtype").text();
    const int item = item_bytes(entry.dtype);
    if (item == 0)
      throw FileError(path_ + ": tensor " + name + " has type " + entry.dtype + ", which this cannot read");
    entry.count = 1;
    for (const Json& side : told.at("shape").list()) {
      entry.shape.push_back(side.whole(0, int64_t{1} << 48));
      if (__builtin_mul_overflow(entry.count, entry.shape.back(), &entry.count))
        throw FileError(path_ + ": tensor " + name + " is too large");
    }
    const std::vector<Json>& offsets = told.at("data_offsets").list();
    if (offsets.size() != 2) throw FileError(path_ + ": tensor " + name + " has no two offsets");
    const int64_t begin = offsets[0].whole(0, bytes), end = offsets[1].whole(begin, bytes);
    if (entry.count > bytes || end - begin != entry.count * item)
      throw FileError(path_ + ": damaged (tensor " + name + " does not fit its bytes)");
    entry.data = data + begin;
    tensors_[name] = std::move(entry);
  }
}

std::string Safetensors::metadata(const std::string& name) const {
  const auto found = metadata_.find(name);
  return found == metadata_.end() ? std::string() : found->second;
}

const std::vector<int64_t>& Safetensors::shape(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw FileError(path_ + ": tensor " + name + " is missing");
  return found->second.shape;
}

const Safetensors::Entry& Safetensors::entry(const std::string& name,
                                             const std::vector<int64_t>& shape) const {
  if (this->shape(name) != shape)
    throw FileError(path_ + ": tensor " + name + " should have shape " + text_of(shape) + ", has " +
                    text_of(this->shape(name)));
  return tensors_.at(name);
}

std::vector<float> Safetensors::floats(const std::string& name, const std::vector<int64_t>& shape) const {
  const Entry& found = entry(name, shape);
  std::vector<float> out(static_cast<size_t>(found.count));
  const unsigned char* from = found.data;
  if (found.dtype == "F32") {
    if (found.count > 0) std::memcpy(out.data(), from, out.size() * sizeof(float));
  } else if (found.dtype == "F16") {
    for (float& value : out) value = from_half(load<uint16_t>(from)), from += 2;
  } else if (found.dtype == "BF16") {
    for (float& value : out) value = from_bfloat(load<uint16_t>(from)), from += 2;
  } else if (found.dtype == "F64") {
    for (float& value : out) value = static_cast<float>(load<double>(from)), from += 8;
  } else {
    throw FileError(path_ + ": tensor " + name + " has type " + found.dtype + ", no floating one");
  }
  for (const float value : out) {
    if (!(std::abs(value) <= kLargest))
      throw FileError(path_ + ": tensor " + name +
                      " holds numbers that are not finite or too large for a weight; " +
                      "the file is damaged");
  }
  return out;
}

std::vector<int32_t> Safetensors::integers(const std::string& name, const std::vector<int64_t>& shape) const {
  const Entry& found = entry(name, shape);
  std::vector<int32_t> out(static_cast<size_t>(found.count));
  const unsigned char* from = found.data;
  if (found.dtype == "I32") {
    if (found.count > 0) std::memcpy(out.data(), from, out.size() * sizeof(int32_t));
  } else if (found.dtype == "U16") {
    for (int32_t& value : out) value = load<uint16_t>(from), from += 2;
  } else {
    throw FileError(path_ + ": tensor " + name + " has type " + found.dtype + ", neither I32 nor U16");
  }
  return out;
}

std::vector<uint8_t> Safetensors::bytes(const std::string& name, const std::vector<int64_t>& shape) const {
  const Entry& found = entry(name, shape);
  if (found.dtype != "U8")
    throw FileError(path_ + ": tensor " + name + " has type " + found.dtype + ", not U8");
  return std::vector<uint8_t>(found.data, found.data + found.count);
}

}  // namespace facetalk::network
