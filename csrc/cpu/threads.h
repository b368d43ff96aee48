// How many threads the CPU operations use; see parallel.h for loops.
#pragma once

namespace facetalk::cpu {

// The number set last, or OMP_NUM_THREADS when the process started, or the cores that the process may use.
int threads();

// Throws ArgumentError unless 1 <= count <= 1024.
void set_threads(int count);

}  // namespace facetalk::cpu
