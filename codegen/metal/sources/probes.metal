// How fast matrices of simdgroups are multiplied, where nothing has to be read.
#pragma once

namespace ingot {

// CHAINS products at once, none of which waits for another; factors of many bits, as those of a model are. A block has
// WARPS simdgroups, and `shared` two factors, and then a matrix for each simdgroup.
template <class Factor, int CHAINS, int WARPS>
INGOT_DEVICE void probe_matrices(Here here, SHARED float (&shared)[(2 + WARPS) * SIDE * SIDE], GLOBAL float* out,
                                 int num_rounds) {
  constexpr int ELEMENTS = SIDE * SIDE;
  SHARED Factor* factors = reinterpret_cast<SHARED Factor*>(&shared[0]);
  for (int i = here.thread_index(); i < 2 * ELEMENTS; i += WARPS * WARP)
    factors[i] = Factor(float(i * 37 % 61) * 0.0171f - 0.5f);
  block_barrier();
  metal::simdgroup_matrix<Factor, SIDE, SIDE> a, b;
  metal::simdgroup_load(a, factors, SIDE);
  metal::simdgroup_load(b, factors + ELEMENTS, SIDE);
  metal::simdgroup_matrix<float, SIDE, SIDE> sums[CHAINS];
  for (int chain = 0; chain < CHAINS; ++chain)
    sums[chain] = metal::make_filled_simdgroup_matrix<float, SIDE, SIDE>(float(chain));
  for (int round = 0; round < num_rounds; ++round)
    for (int chain = 0; chain < CHAINS; ++chain)
      metal::simdgroup_multiply_accumulate(sums[chain], a, b, sums[chain]);
  SHARED float* own = &shared[(2 + here.warp()) * ELEMENTS];
  float total = 0;
  for (int chain = 0; chain < CHAINS; ++chain) {
    metal::simdgroup_store(sums[chain], own, SIDE);
    warp_barrier();
    total += own[here.lane()] + own[here.lane() + WARP];
    warp_barrier();
  }
  // Never so, which no compiler knows: without it nothing would be computed.
  if (total == 0.123f) out[here.thread_index()] = total;
}

}  // namespace ingot
