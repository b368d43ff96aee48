// How many threads the CPU operations use; see parallel.h for loops.
#pragma once

namespace facetalk::cpu {

// The number set last, or what OpenMP chooses (OMP_NUM_THREADS, else the cores that the process may use).
int threads();

// Throws ArgumentError unless 1 <= count <= 1024.
void set_threads(int count);

}  // namespace facetalk::cpu
