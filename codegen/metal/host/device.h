// A GPU, and all that was made on it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "objective_c.h"

// Memory of the CPU that the GPU uses too.
typedef struct {
  uint64_t address, num_bytes;
  Id buffer;
} Block;

// Objects that are held until `release_all`.
typedef struct {
  Id* objects;
  size_t count, capacity;
} Held;

typedef struct {
  Id device, queue, library;
  Block* blocks;  // by their addresses, which do not overlap
  size_t num_blocks, block_capacity;
  Held pipelines;
  Held command_buffers;  // committed, and not waited for yet
} Device;

// Keeps an object that the caller holds.
void hold(Held* held, Id object);
void release_all(Held* held);

// What an NSError says.
const char* words_of(Id error);
