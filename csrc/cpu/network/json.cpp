#include "cpu/network/json.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "core/number_text.h"
#include "core/platform/files.h"

namespace facetalk::network {
namespace {

constexpr size_t kMostText = size_t{1} << 25;
constexpr int kDeepest = 64;
constexpr int kMostValues = 1'000'000;  // a value takes some hundred bytes of memory, two of the file
constexpr size_t kMostName = 200;       // of the path of an entry, which every entry under it holds

// Length of the UTF-8 sequence at `at`, 0 where there is none.
size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(at + 1);
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
      (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) {
    return 0;
  }
  return length;
}

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

}  // namespace

class JsonReader {
 public:
  JsonReader(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  Json whole() {
    Json value = read(where_, 0);
    skip_space();
    if (at_ != text_.size()) fail("something after its end");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw FileError(where_ + ": damaged JSON (" + what + " at byte " + std::to_string(at_) + ")");
  }

  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }

  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("no value");
    at_ += word.size();
  }

  Json read(const std::string& name, int depth) {
    if (depth > kDeepest) fail("nested too deeply");
    if (++values_ > kMostValues) fail("too many values");
    skip_space();
    if (at_ >= text_.size()) fail("it ends too early");
    Json value;
    value.name_ = name;
    switch (text_[at_]) {
      case '{':
        read_object(value, depth);
        break;
      case '[':
        read_list(value, depth);
        break;
      case '"':
        value.kind_ = Json::Kind::kText;
        value.text_ = read_string();
        break;
      case 't':
        expect("true");
        value.kind_ = Json::Kind::kBool;
        value.truth_ = true;
        break;
      case 'f':
        expect("false");
        value.kind_ = Json::Kind::kBool;
        break;
      case 'n':
        expect("null");
        break;
      default:
        value.kind_ = Json::Kind::kNumber;
        value.number_ = read_number();
    }
    return value;
  }

  void read_object(Json& value, int depth) {
    value.kind_ = Json::Kind::kObject;
    ++at_;
    skip_space();
    if (take('}')) return;
    do {
      skip_space();
      if (at_ >= text_.size() || text_[at_] != '"') fail("a key that is no string");
      std::string key = read_string();
      skip_space();
      if (!take(':')) fail("no colon after a key");
      Json entry = read((value.name_ + ": " + key).substr(0, kMostName), depth + 1);
      value.object_.emplace_back(std::move(key), std::move(entry));
      skip_space();
    } while (take(','));
    if (!take('}')) fail("an object without end");
  }

  void read_list(Json& value, int depth) {
    value.kind_ = Json::Kind::kList;
    ++at_;
    skip_space();
    if (take(']')) return;
    do {
      value.list_.push_back(read(value.name_, depth + 1));
      skip_space();
    } while (take(','));
    if (!take(']')) fail("a list without end");
  }

  uint32_t read_hex() {
    uint32_t code = 0;
    if (at_ + 4 > text_.size()) fail("a cut escape");
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, code, 16);
    if (error != std::errc() || end != text_.data() + at_ + 4) fail("an escape without four digits");
    at_ += 4;
    return code;
  }

  void read_escape(std::string& out) {
    if (at_ >= text_.size()) fail("a cut escape");
    const char c = text_[at_++];
    constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
    if (const size_t index = kFrom.find(c); index != std::string_view::npos) {
      out += kTo[index];
      return;
    }
    if (c != 'u') fail("an unknown escape");
    uint32_t code = read_hex();
    if (code >= 0xD800 && code < 0xDC00) {
      if (!take('\\') || !take('u')) fail("half a surrogate pair");
      const uint32_t low = read_hex();
      if (low < 0xDC00 || low >= 0xE000) fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code < 0xE000) {
      fail("half a surrogate pair");
    }
    append_utf8(out, code);
  }

  std::string read_string() {
    std::string out;
    ++at_;
    for (;;) {
      if (at_ >= text_.size()) fail("a string without end");
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return out;
      }
      if (c == '\\') {
        ++at_;
        read_escape(out);
        continue;
      }
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      const size_t length = utf8_length(text_, at_);
      if (length == 0) fail("bytes that are no UTF-8");
      out.append(text_.substr(at_, length));
      at_ += length;
    }
  }

  // All of the text, whatever the locale.
  static bool parse(const char* first, const char* last, double& value) {
#ifdef __EMSCRIPTEN__  // its C++ library has no from_chars of double, and its C library one locale
    const std::string text(first, last);
    char* stop = nullptr;
    value = std::strtod(text.c_str(), &stop);
    return stop == text.c_str() + text.size();
#else
    const auto [stop, error] = std::from_chars(first, last, value);
    return stop == last && error == std::errc();
#endif
  }

  double read_number() {
    size_t end = at_;
    while (end < text_.size() &&
           std::string_view("+-.eE0123456789").find(text_[end]) != std::string_view::npos)
      ++end;
    const char* first = text_.data() + at_;
    const char* last = text_.data() + end;
    double value = 0.0;
    if (first == last || *first == '+' || *first == '.' || !parse(first, last, value) ||
        !std::isfinite(value)) {
      fail("no value");
    }
    at_ = end;
    return value;
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
  int values_ = 0;
};

Json Json::parse(std::string_view text, const std::string& where) {
  if (text.size() > kMostText) throw FileError(where + ": too large for JSON that this reads");
  // Editors of Windows put a mark before UTF-8; Python's reader passes over it, too.
  if (constexpr std::string_view kMark = "\xEF\xBB\xBF"; text.substr(0, kMark.size()) == kMark)
    text.remove_prefix(kMark.size());
  return JsonReader(text, where).whole();
}

void Json::wrong(const std::string& expected) const { throw FileError(name_ + ": expected " + expected); }

const Json* Json::find(std::string_view key) const {
  if (kind_ != Kind::kObject) wrong("an object");
  // The last of equal keys counts, as in Python.
  for (auto entry = object_.rbegin(); entry != object_.rend(); ++entry) {
    if (entry->first == key) return entry->second.is_null() ? nullptr : &entry->second;
  }
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  const Json* found = find(key);
  if (found == nullptr) throw FileError(name_ + " lacks the entry " + std::string(key));
  return *found;
}

std::string Json::text_at(std::string_view key) const {
  const Json* found = find(key);
  return found != nullptr && found->kind_ == Kind::kText ? found->text_ : std::string();
}

const std::vector<Json>& Json::list() const {
  if (kind_ != Kind::kList) wrong("a list");
  return list_;
}

const std::vector<std::pair<std::string, Json>>& Json::entries() const {
  if (kind_ != Kind::kObject) wrong("an object");
  return object_;
}

const std::string& Json::text() const {
  if (kind_ != Kind::kText) wrong("a string");
  return text_;
}

bool Json::boolean() const {
  if (kind_ != Kind::kBool) wrong("true or false");
  return truth_;
}

double Json::number(double low, double high) const {
  if (kind_ != Kind::kNumber || !(number_ >= low && number_ <= high)) {
    wrong("a number in " + number_text(low) + ".." + number_text(high));
  }
  return number_;
}

int64_t Json::whole(int64_t low, int64_t high) const {
  if (kind_ != Kind::kNumber || number_ != std::floor(number_) || std::abs(number_) > 9e15 ||
      number_ < static_cast<double>(low) || number_ > static_cast<double>(high)) {
    wrong("a whole number in " + std::to_string(low) + ".." + std::to_string(high));
  }
  return static_cast<int64_t>(number_);
}

std::vector<int> Json::sizes(int64_t low, int64_t high) const {
  std::vector<int> out;
  for (const Json& entry : list()) out.push_back(static_cast<int>(entry.whole(low, high)));
  return out;
}

std::string read_text(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(platform::open_to_read(path), &std::fclose);
  if (!file) throw FileError(path + ": no such file, or it cannot be read");
  std::string text;
  char block[1 << 14];
  size_t count = 0;
  while ((count = std::fread(block, 1, sizeof block, file.get())) > 0) {
    text.append(block, count);
    if (text.size() > kMostText) throw FileError(path + ": too large for a JSON file that this reads");
  }
  if (std::ferror(file.get()) != 0) throw FileError(path + ": cannot be read");
  return text;
}

Json read_json(const std::string& path) {
  Json value = Json::parse(read_text(path), path);
  if (value.kind() != Json::Kind::kObject) throw FileError(path + ": holds no JSON object");
  return value;
}

}  // namespace facetalk::network
