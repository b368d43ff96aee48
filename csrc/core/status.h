// Errors of the core: exceptions that name the argument, what was expected and what was got.
#pragma once

#include <stdexcept>
#include <string>

namespace facetalk {

// The value or shape of an argument is wrong. Python sees ValueError.
class ArgumentError : public std::invalid_argument {
 public:
  explicit ArgumentError(const std::string& message) : std::invalid_argument(message) {}
  ArgumentError(const std::string& argument, const std::string& expected, const std::string& got)
      : std::invalid_argument(argument + ": expected " + expected + ", got " + got) {}
};

// The kind of an argument (not an array, wrong dtype, wrong device) is wrong. Python sees TypeError.
class KindError : public std::invalid_argument {
 public:
  KindError(const std::string& argument, const std::string& expected, const std::string& got)
      : std::invalid_argument(argument + ": expected " + expected + ", got " + got) {}
};

// This model, build or machine cannot do it.
class Unsupported : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A device failed, or has no memory left. Python sees RuntimeError.
class DeviceError : public std::runtime_error {
 public:
  DeviceError(const std::string& message, bool is_memory)
      : std::runtime_error(message), is_memory_(is_memory) {}
  bool is_memory() const { return is_memory_; }

 private:
  bool is_memory_;
};

}  // namespace facetalk
