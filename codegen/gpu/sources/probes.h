// What a device can do at most: kernels that do one thing only, for benchmarks.
#pragma once

namespace ingot {

// Copy vectors of 16 bytes, several of which a thread has on their way at once.
template <int THREADS, int AT_ONCE>
INGOT_DEVICE void copy_vectors(Here here, GLOBAL const uint4* source, GLOBAL uint4* target, int num_vectors) {
  int first = here.block_x() * THREADS * AT_ONCE + here.thread_index();
  uint4 found[AT_ONCE];
  for (int j = 0; j < AT_ONCE; ++j)
    if (first + j * THREADS < num_vectors) found[j] = source[first + j * THREADS];
  for (int j = 0; j < AT_ONCE; ++j)
    if (first + j * THREADS < num_vectors) target[first + j * THREADS] = found[j];
}

}  // namespace ingot
