// What every C function stands on: exceptions become a status and a text, nulls are refused by name.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "capi/context.h"
#include "core/status.h"
#include "cpu/network/json.h"
#include "facetalk.h"

namespace facetalk::capi {

// Sets what facetalk_last_error() gives, one line, whatever comes, and logs it.
facetalk_status fail(const Context& context, facetalk_status status, const char* message) noexcept;

// Called out of order.
class WrongState : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The caller's callback asked for an end.
class Stopped : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Runs the body of a call with the memory of its handle, if there is one; nothing gets out of it.
template <typename Body>
facetalk_status guarded(const Context& context, Body&& body) noexcept {
  const MemoryScope scope(context.memory);
  try {
    body();
    return FACETALK_OK;
  } catch (const network::FileError& error) {
    return fail(context, FACETALK_BAD_FILE, error.what());
  } catch (const Unsupported& error) {
    return fail(context, FACETALK_UNSUPPORTED, error.what());
  } catch (const WrongState& error) {
    return fail(context, FACETALK_WRONG_STATE, error.what());
  } catch (const Stopped& error) {
    return fail(context, FACETALK_STOPPED, error.what());
  } catch (const DeviceError& error) {
    return fail(context, error.is_memory() ? FACETALK_NO_MEMORY : FACETALK_DEVICE_FAILED, error.what());
  } catch (const std::invalid_argument& error) {  // ArgumentError, KindError
    return fail(context, FACETALK_INVALID, error.what());
  } catch (const std::bad_alloc&) {
    return fail(context, FACETALK_NO_MEMORY, "not enough memory");
  } catch (const std::length_error&) {
    return fail(context, FACETALK_NO_MEMORY, "not enough memory");
  } catch (const std::exception& error) {
    return fail(context, FACETALK_INTERNAL, error.what());
  } catch (...) {
    return fail(context, FACETALK_INTERNAL, "an unknown error");
  }
}

template <typename Body>
facetalk_status guarded(Body&& body) noexcept {
  return guarded(Context{}, body);
}

// The body of a call that begins something; it is given what the options ask for.
template <typename Body>
facetalk_status with_options(const facetalk_options* options, Body&& body) noexcept {
  Context context;
  const facetalk_status status = guarded(context, [&] { context = checked(options); });
  return status != FACETALK_OK ? status : guarded(context, [&] { body(context); });
}

inline void require(const void* pointer, const char* name) {
  if (pointer == nullptr) throw ArgumentError(std::string(name) + " is NULL");
}

// The operations take one thread, unless facetalk_set_threads() was called before.
void one_thread_unless_told();

// Throws ArgumentError naming the first value that is not finite.
void require_finite(const float* values, size_t count, const char* name);

// Throws ArgumentError for what is no sound: NULL, numbers that are not finite or beyond 1e30, more samples than memory
// has.
void require_samples(const float* samples, size_t count);

// A code of `expected` values, or none. Throws ArgumentError for another count, and for values that are no head's.
std::vector<float> checked_code(const float* values, int32_t count, int expected, const char* name);

}  // namespace facetalk::capi
