#include "launches.h"

#include "calls.h"
#include "memory.h"
#include "methods.h"

enum {
  // The GPU begins with the first while the next are prepared; and the system ends command buffers that take seconds.
  LAUNCHES_PER_COMMAND_BUFFER = 64,
};

static int encode(Device* device, Id encoder, const Launch* launch) {
  Id pipeline = (Id)launch->pipeline;
  if ((NSUInteger)launch->threads > most_threads(pipeline))
    return refuse("a kernel is launched with blocks of %d threads, and runs on this GPU with up to %lu",
                  (int)launch->threads, most_threads(pipeline));
  set_pipeline(encoder, pipeline);
  for (int64_t i = 0; i < launch->num_arguments; ++i) {
    if (launch->are_numbers >> i & 1) {
      int32_t number = (int32_t)launch->arguments[i];
      set_bytes(encoder, &number, sizeof number, (NSUInteger)i);
      continue;
    }
    uint64_t address = (uint64_t)launch->arguments[i];
    const Block* block = block_of(device, address);
    if (!block) return refuse("argument %d of a kernel points to memory that the GPU does not have", (int)i);
    set_buffer(encoder, block->buffer, address - block->address, (NSUInteger)i);
  }
  const int64_t* grid = launch->grid;
  MTLSize blocks = {(NSUInteger)grid[0], (NSUInteger)grid[1], (NSUInteger)grid[2]};
  MTLSize threads = {(NSUInteger)launch->threads, 1, 1};
  dispatch(encoder, blocks, threads);
  return 0;
}

int launch_all(Device* device, const int64_t* words, int64_t num_words) {
  const int64_t* end = words + num_words;
  while (words < end) {
    Id commands = command_buffer(device->queue);
    Id encoder = compute_encoder(commands, MTL_DISPATCH_TYPE_SERIAL);
    int failed = 0;
    for (int count = 0; !failed && words < end && count < LAUNCHES_PER_COMMAND_BUFFER; ++count) {
      const Launch* launch = (const Launch*)words;
      failed = encode(device, encoder, launch);
      words += sizeof(Launch) / sizeof *words + launch->num_arguments;
    }
    end_encoding(encoder);
    if (failed) return failed;
    commit(commands);
    hold(&device->command_buffers, retain(commands));
  }
  return 0;
}

int wait_for_all(Device* device) {
  int failed = 0;
  for (size_t i = 0; i < device->command_buffers.count; ++i) {
    Id commands = device->command_buffers.objects[i];
    wait_until_completed(commands);
    if (!failed && status_of(commands) == MTL_COMMAND_BUFFER_STATUS_ERROR)
      failed = refuse("the GPU did not do what it was given: %s", words_of(error_of(commands)));
  }
  release_all(&device->command_buffers);
  return failed;
}
