#include "capi/context.h"

#include <algorithm>
#include <cstring>

#include "capi/guard.h"

// Programs that were compiled before there was a device_index have the same struct: it took the place of padding.
static_assert(sizeof(void*) != 8 || sizeof(facetalk_options) == 56);

namespace facetalk::capi {

Context checked(const facetalk_options* given) {
  if (given == nullptr) return {};
  facetalk_options options;
  facetalk_options_default(&options);
  if (given->struct_size < sizeof(size_t) || given->struct_size > (size_t{1} << 20))
    throw ArgumentError("options: struct_size is not that of a facetalk_options");
  // A shorter one is from an older header; half a pointer is nobody's.
  const size_t size = std::min(given->struct_size, sizeof options);
  std::memcpy(&options, given, size - size % sizeof(void*));
  if ((options.allocate == nullptr) != (options.release == nullptr))
    throw ArgumentError("options: allocate and release go together; give both or neither");
  if (options.device != FACETALK_DEVICE_CPU && options.device != FACETALK_DEVICE_CUDA)
    throw ArgumentError("device", "one of the FACETALK_DEVICE_ numbers", std::to_string(options.device));
  Context context;
  context.memory = {options.allocate, options.release, options.memory_user};
  context.logged = options.log;
  context.log_user = options.log_user;
  context.device = options.device;
  context.device_index = options.device == FACETALK_DEVICE_CUDA ? options.device_index : 0;
  return context;
}

void require_cpu(const Context& context, const char* what) {
  if (context.device != FACETALK_DEVICE_CPU)
    throw Unsupported(std::string("options: device CUDA: ") + what +
                      " on the CPU alone; in the C library fields run on a GPU (facetalk_field_load_with)");
}

}  // namespace facetalk::capi

void facetalk_options_default(facetalk_options* options) {
  if (options == nullptr) return;
  *options = {};
  options->struct_size = sizeof(facetalk_options);
  options->device = FACETALK_DEVICE_CPU;
}
