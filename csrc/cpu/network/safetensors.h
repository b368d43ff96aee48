// The tensors of a .safetensors file, by memory map (huggingface.co/docs/safetensors: 8 bytes of length, a
// JSON header, the data).
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/platform/files.h"
#include "cpu/network/json.h"

namespace facetalk::network {

class Safetensors {
 public:
  // Throws FileError: no such file, or its header does not fit it.
  explicit Safetensors(const std::string& path);

  bool has(const std::string& name) const { return tensors_.count(name) != 0; }

  // What the file says of itself under a name; nothing where it says nothing.
  std::string metadata(const std::string& name) const;

  // Sizes of a tensor; throws FileError where there is none of that name.
  const std::vector<int64_t>& shape(const std::string& name) const;

  // A floating tensor of any stored precision as float32. Throws FileError where it is missing, of another
  // shape, or holds what no trained network does (not finite, or beyond 1e6).
  std::vector<float> floats(const std::string& name, const std::vector<int64_t>& shape) const;

  // A tensor of 32-bit integers or of 16-bit ones without a sign, or one of bytes.
  std::vector<int32_t> integers(const std::string& name, const std::vector<int64_t>& shape) const;
  std::vector<uint8_t> bytes(const std::string& name, const std::vector<int64_t>& shape) const;

 private:
  struct Entry {
    std::string dtype;
    std::vector<int64_t> shape;
    const unsigned char* data = nullptr;
    int64_t count = 0;
  };
  void read_header();
  const Entry& entry(const std::string& name, const std::vector<int64_t>& shape) const;

  std::string path_;
  platform::MappedFile file_;
  std::unordered_map<std::string, Entry> tensors_;
  std::unordered_map<std::string, std::string> metadata_;
};

}  // namespace facetalk::network
