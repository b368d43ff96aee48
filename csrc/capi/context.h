// What a program asked for with facetalk_options; every handle has a copy.
#pragma once

#include <string>

#include "core/memory.h"
#include "facetalk.h"

namespace facetalk::capi {

struct Context {
  Memory memory;
  facetalk_log_callback logged = nullptr;
  void* log_user = nullptr;

  bool is_logging() const noexcept { return logged != nullptr; }
  void log(int32_t level, const char* message) const noexcept {
    if (logged != nullptr) logged(log_user, level, message);
  }
};

// NULL gives the defaults. Throws ArgumentError, and Unsupported for a device that this build does not have.
Context checked(const facetalk_options* options);

// That of a handle, or the defaults for NULL.
template <typename Handle>
Context context_of(const Handle* handle) noexcept {
  return handle == nullptr ? Context{} : handle->context;
}

}  // namespace facetalk::capi
