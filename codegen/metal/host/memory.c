#include "memory.h"

#include <stdlib.h>
#include <string.h>

#include "methods.h"

// How many blocks begin at or below an address.
static size_t blocks_up_to(const Device* device, uint64_t address) {
  size_t low = 0, high = device->num_blocks;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (device->blocks[middle].address <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void add_block(Device* device, Block block) {
  if (device->num_blocks == device->block_capacity) {
    device->block_capacity = device->block_capacity ? 2 * device->block_capacity : 64;
    device->blocks = realloc(device->blocks, device->block_capacity * sizeof(Block));
    if (!device->blocks) abort();
  }
  size_t place = blocks_up_to(device, block.address);
  memmove(device->blocks + place + 1, device->blocks + place, (device->num_blocks - place) * sizeof(Block));
  device->blocks[place] = block;
  ++device->num_blocks;
}

uint64_t allocate(Device* device, uint64_t num_bytes) {
  Id buffer = new_buffer(device->device, num_bytes, MTL_RESOURCE_STORAGE_MODE_SHARED);
  if (!buffer) return 0;
  void* memory = contents(buffer);
  // Written once, so that what was promised is there, whatever else is asked for later.
  memset(memory, 0, num_bytes);
  add_block(device, (Block){(uint64_t)memory, num_bytes, buffer});
  return (uint64_t)memory;
}

bool share(Device* device, uint64_t address, uint64_t num_bytes) {
  Id buffer =
      new_buffer_over(device->device, (void*)address, num_bytes, MTL_RESOURCE_STORAGE_MODE_SHARED, NULL);
  if (!buffer) return false;
  add_block(device, (Block){address, num_bytes, buffer});
  return true;
}

const Block* block_of(const Device* device, uint64_t address) {
  size_t count = blocks_up_to(device, address);
  if (!count) return NULL;
  const Block* block = device->blocks + count - 1;
  return address - block->address < block->num_bytes ? block : NULL;
}

bool give_back(Device* device, uint64_t address) {
  const Block* block = block_of(device, address);
  if (!block || block->address != address) return false;
  release(block->buffer);
  size_t place = (size_t)(block - device->blocks);
  --device->num_blocks;
  memmove(device->blocks + place, device->blocks + place + 1, (device->num_blocks - place) * sizeof(Block));
  return true;
}

void give_back_all(Device* device) {
  for (size_t i = 0; i < device->num_blocks; ++i) release(device->blocks[i].buffer);
  free(device->blocks);
  device->blocks = NULL;
  device->num_blocks = device->block_capacity = 0;
}
