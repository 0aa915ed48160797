// Kernels, one after the other.
#pragma once

#include "device.h"

// A kernel over a grid of blocks; arguments are addresses, or numbers where `are_numbers` has the argument's bit.
// The next launch lies behind the last argument.
typedef struct {
  int64_t pipeline, threads, grid[3], num_arguments, are_numbers;
  int64_t arguments[];
} Launch;

// Hands launches, which take `num_words` words together, to the GPU and returns; raises an error where an address is
// none of the device's. Each sees what those before it wrote.
int launch_all(Device* device, const int64_t* words, int64_t num_words);

// Waits until all that was handed over is done; raises an error where something of it failed.
int wait_for_all(Device* device);
