// Reading JSON that somebody else may have written: the settings of a model folder and the headers of
// safetensors.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace facetalk::network {

// A file is missing, damaged, or describes something that this runtime does not know. One line that names it.
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A value of a JSON text (RFC 8259): UTF-8, finite numbers, nested at most 64 deep. Accessors throw FileError
// that names the entry when it is missing, of another kind or out of range.
class Json {
 public:
  enum class Kind { kNull, kBool, kNumber, kText, kList, kObject };

  // `where` starts the messages of errors.
  static Json parse(std::string_view text, const std::string& where);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  bool has(std::string_view key) const { return find(key) != nullptr; }

  const Json& at(std::string_view key) const;    // of an object
  const Json* find(std::string_view key) const;  // null where there is none, or null is written
  const std::vector<Json>& list() const;         // of a list
  const std::string& text() const;
  std::string text_at(std::string_view key) const;  // of an object; empty where there is none, or no string
  bool boolean() const;
  double number(double low, double high) const;
  int64_t whole(int64_t low, int64_t high) const;
  std::vector<int> sizes(int64_t low, int64_t high) const;  // a list of whole numbers
  const std::vector<std::pair<std::string, Json>>& entries() const;

 private:
  friend class JsonReader;
  [[noreturn]] void wrong(const std::string& expected) const;

  Kind kind_ = Kind::kNull;
  bool truth_ = false;
  double number_ = 0.0;
  std::string text_;
  std::string name_;  // path of the entry, for messages
  std::vector<Json> list_;
  std::vector<std::pair<std::string, Json>> object_;
};

// The whole of a small text file; throws FileError.
std::string read_text(const std::string& path);

// Parsed, and an object at the top.
Json read_json(const std::string& path);

}  // namespace facetalk::network
