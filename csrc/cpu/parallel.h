// Splits a loop over the CPU operations' threads.
#pragma once

#include <cstdint>
#include <functional>

namespace facetalk::cpu {

// Calls work(begin, end) for consecutive pieces of [0, size), each of grain elements (the last may be
// shorter), on up to threads() threads, and returns when all are done. The caller takes pieces too and waits
// only for pieces that somebody has begun, never for a thread to wake up: on a busy machine a call costs at
// most what one thread needs, where a barrier would wait for the scheduler. A process forked from this one
// works the same, and so does one to which the system gives no more threads: the caller then does all the work. Pieces must not depend on each other. What work throws is thrown again here.
void parallel_for(int64_t size, int64_t grain, const std::function<void(int64_t, int64_t)>& work);

}  // namespace facetalk::cpu
