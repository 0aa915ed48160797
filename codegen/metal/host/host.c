// What Python can call. A device is a number to it, and so is a kernel; both are gone when the device is closed.
#include <dlfcn.h>
#include <stdlib.h>

#include "calls.h"
#include "launches.h"
#include "memory.h"
#include "methods.h"
#include "program.h"

// Objects that belong to nobody else are gone when the pool of a call is.
#define IN_A_POOL(outcome, call)             \
  do {                                       \
    void* pool = objective_c.push_pool();    \
    outcome = call;                          \
    objective_c.pop_pool(pool);              \
  } while (0)

static Device* device_of(const Value* value) { return (Device*)value->integer; }

// The first GPU of Apple's own, held by the caller; all are asked for, because a program without windows need not be
// given a default one.
static Id new_gpu(Id (*new_list)(void)) {
  Id found = NULL, list = new_list();
  for (NSUInteger i = 0; list && !found && i < count_of(list); ++i)
    if (supports_family(object_at(list, i), MTL_GPU_FAMILY_APPLE7)) found = retain(object_at(list, i));
  release(list);
  return found;
}

// The device, of the Objective-C runtime and Metal in these two libraries.
FUNCTION(metal_open) {
  if (!check_call("metal_open", "ss", given, count)) return -1;
  const char* missing = load_objective_c(text_of(given));
  if (missing) return refuse("there is no Objective-C here: %s is missing", missing);
  void* metal = dlopen(text_of(given + 1), RTLD_NOW);
  Id (*new_list)(void) = metal ? (Id(*)(void))dlsym(metal, "MTLCopyAllDevices") : NULL;
  if (!new_list) return refuse("there is no Metal here: %s cannot be used", text_of(given + 1));
  Id gpu;
  IN_A_POOL(gpu, new_gpu(new_list));
  if (!gpu) return refuse("this machine shows no GPU of Apple's own");
  Device* device = calloc(1, sizeof(Device));
  if (!device) abort();
  device->device = gpu;
  IN_A_POOL(device->queue, new_command_queue(gpu));
  return give_integer(result, (int64_t)device);
}

FUNCTION(metal_name) {
  if (!check_call("metal_name", "i", given, count)) return -1;
  int outcome;
  IN_A_POOL(outcome, give_text(result, utf8_string(device_name(device_of(given)->device))));
  return outcome;
}

// A number that the device tells of itself by a method of this name, such as maxBufferLength.
FUNCTION(metal_number) {
  if (!check_call("metal_number", "is", given, count)) return -1;
  Selector selector = objective_c.selector_named(text_of(given + 1));
  Id gpu = device_of(given)->device;
  if (!responds_to(gpu, selector)) return refuse("a device of Metal has no %s", text_of(given + 1));
  return give_integer(result, ((int64_t(*)(Id, Selector))objective_c.send)(gpu, selector));
}

// The address of so many zeros, or 0.
FUNCTION(metal_allocate) {
  if (!check_call("metal_allocate", "ii", given, count)) return -1;
  uint64_t address;
  IN_A_POOL(address, allocate(device_of(given), (uint64_t)given[1].integer));
  return give_integer(result, (int64_t)address);
}

// Whether the GPU uses so many bytes from this address on, which are whole pages, where they lie.
FUNCTION(metal_share) {
  if (!check_call("metal_share", "iii", given, count)) return -1;
  bool is_shared;
  IN_A_POOL(is_shared, share(device_of(given), (uint64_t)given[1].integer, (uint64_t)given[2].integer));
  return give_integer(result, is_shared);
}

FUNCTION(metal_free) {
  if (!check_call("metal_free", "ii", given, count)) return -1;
  bool is_free;
  IN_A_POOL(is_free, give_back(device_of(given), (uint64_t)given[1].integer));
  return is_free ? give_integer(result, 0) : refuse("there is no memory of the GPU's to give back there");
}

// Compiles the text of a program.
FUNCTION(metal_compile) {
  if (!check_call("metal_compile", "is", given, count)) return -1;
  int outcome;
  IN_A_POOL(outcome, compile(device_of(given), text_of(given + 1)));
  return outcome;
}

// A kernel of the program, by its name.
FUNCTION(metal_kernel) {
  if (!check_call("metal_kernel", "is", given, count)) return -1;
  Id kernel;
  IN_A_POOL(kernel, find_kernel(device_of(given), text_of(given + 1)));
  return kernel ? give_integer(result, (int64_t)kernel) : -1;
}

// Launches what lies at this address, in so many words.
FUNCTION(metal_launch) {
  if (!check_call("metal_launch", "iii", given, count)) return -1;
  int outcome;
  IN_A_POOL(outcome, launch_all(device_of(given), (const int64_t*)given[1].integer, given[2].integer));
  return outcome;
}

FUNCTION(metal_wait) {
  if (!check_call("metal_wait", "i", given, count)) return -1;
  int outcome;
  IN_A_POOL(outcome, wait_for_all(device_of(given)));
  return outcome;
}

FUNCTION(metal_close) {
  if (!check_call("metal_close", "i", given, count)) return -1;
  Device* device = device_of(given);
  int outcome;
  IN_A_POOL(outcome, wait_for_all(device));
  void* pool = objective_c.push_pool();
  release_all(&device->pipelines);
  give_back_all(device);
  release(device->library);
  release(device->queue);
  release(device->device);
  objective_c.pop_pool(pool);
  free(device);
  return outcome;
}
