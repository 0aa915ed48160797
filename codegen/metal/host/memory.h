// Memory that CPU and GPU share. An address is the CPU's; what Metal calls it is looked up here.
#pragma once

#include <stdbool.h>

#include "device.h"

// The address of `num_bytes` zeros; 0 where there is no memory for them.
uint64_t allocate(Device* device, uint64_t num_bytes);

// Lets the GPU use memory that is there already and stays the caller's: whole pages. False where it cannot.
bool share(Device* device, uint64_t address, uint64_t num_bytes);

// Gives back what begins at `address`; false where nothing does.
bool give_back(Device* device, uint64_t address);

// The block that `address` lies in, or null.
const Block* block_of(const Device* device, uint64_t address);

// Gives back all.
void give_back_all(Device* device);
