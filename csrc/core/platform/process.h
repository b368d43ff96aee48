// What the system says of this process.
#pragma once

#include <cstdint>

namespace facetalk::platform {

// A number that a forked child does not share with its parent.
int64_t process_id();

// Processors that it may run on; 0 where the system does not say.
int usable_processors();

// Keeps the library, if it is one, in memory until the process ends. A thread that is never joined calls for it, where
// a library can be unloaded under the feet of its threads.
void stay_loaded();

}  // namespace facetalk::platform
