// As much of the CUDA driver as ingot calls, over memory and kernels of this machine's CPU.
//
// A module's image is the path of a library of emulated kernels. Graphs keep launches, and replay them.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <string>
#include <vector>

namespace {

typedef void (*Launcher)(const int*, int, int, void**);

struct Recorded {
  Launcher launcher;
  int grid[3], threads, shared_bytes;
  std::vector<uint64_t> values;
};

std::vector<Recorded>* recording = nullptr;
int num_launches = 0, num_replays = 0, num_allocations = 0, num_events = 0;
const int SHARED_BYTES = 227 << 10;  // of a block, as Hopper has them
size_t free_bytes = size_t(1) << 30;

void run(const Recorded& launch) {
  std::vector<void*> pointers;
  for (const uint64_t& value : launch.values) pointers.push_back(const_cast<uint64_t*>(&value));
  launch.launcher(launch.grid, launch.threads, launch.shared_bytes, pointers.data());
}

}  // namespace

extern "C" {

int emulated_launches() { return num_launches; }
int emulated_replays() { return num_replays; }
int emulated_allocations() { return num_allocations; }

int cuInit(unsigned) { return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceGet(int* device, int) { *device = 0; return 0; }
int cuDeviceGetName(char* name, int length, int) { strncpy(name, "Emulated GPU", length); return 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = size_t(1) << 30; return 0; }
int cuDeviceGetAttribute(int* value, int which, int) {
  *value = which == 75 ? 9 : which == 76 ? 0 : which == 97 ? SHARED_BYTES : 4;
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) { *context = &num_launches; return 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(void*) { return 0; }
int cuStreamCreate(void** stream, unsigned) { *stream = &num_replays; return 0; }
int cuStreamSynchronize(void*) { return recording ? 900 : 0; }
int cuGetErrorString(int, const char** text) { *text = "an emulated error"; return 0; }

int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  if (bytes > free_bytes) return 2;
  *address = uint64_t(aligned_alloc(256, (bytes + 255) / 256 * 256));
  free_bytes -= bytes;
  ++num_allocations;
  return 0;
}
int cuMemFree_v2(uint64_t address) { free(reinterpret_cast<void*>(address)); --num_allocations; return 0; }
int cuMemGetInfo_v2(size_t* available, size_t* total) { *available = free_bytes; *total = size_t(1) << 30; return 0; }
int cuMemAllocHost_v2(void** memory, size_t bytes) { *memory = malloc(bytes); return 0; }
int cuMemFreeHost(void* memory) { free(memory); return 0; }
int cuMemsetD8Async(uint64_t address, unsigned char value, size_t bytes, void*) {
  memset(reinterpret_cast<void*>(address), value, bytes);
  return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t target, const void* source, size_t bytes, void*) {
  if (recording) return 900;
  memcpy(reinterpret_cast<void*>(target), source, bytes);
  return 0;
}
int cuMemcpyDtoHAsync_v2(void* target, uint64_t source, size_t bytes, void*) {
  memcpy(target, reinterpret_cast<void*>(source), bytes);
  return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t target, uint64_t source, size_t bytes, void*) {
  memmove(reinterpret_cast<void*>(target), reinterpret_cast<void*>(source), bytes);
  return 0;
}

typedef std::chrono::steady_clock::time_point Time;
int cuEventCreate(void** event, unsigned) { *event = new Time; ++num_events; return 0; }
int cuEventRecord(void* event, void*) { *static_cast<Time*>(event) = std::chrono::steady_clock::now(); return 0; }
int cuEventSynchronize(void*) { return 0; }
int cuEventElapsedTime(float* passed, void* before, void* after) {
  *passed = std::chrono::duration<float, std::milli>(*static_cast<Time*>(after) - *static_cast<Time*>(before)).count();
  return 0;
}
int cuEventDestroy_v2(void* event) { delete static_cast<Time*>(event); --num_events; return 0; }

int cuModuleLoadData(void** module, const void* image) {
  *module = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
  return *module ? 0 : 209;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = dlsym(module, (std::string("launch_") + name).c_str());
  return *function ? 0 : 500;
}
// More than 48 KiB of shared memory are given to who asked for them.
std::map<void*, int> most_shared_bytes;
int cuFuncSetAttribute(void* function, int attribute, int value) {
  if (attribute != 8 || value > SHARED_BYTES) return 1;
  most_shared_bytes[function] = value;
  return 0;
}
struct LaunchAttribute {
  int id, padding, value[16];
};
struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  const LaunchAttribute* attributes;
  unsigned num_attributes;
};
int num_early_launches = 0;
int emulated_early_launches() { return num_early_launches; }
int cuDriverGetVersion(int* version) { *version = 13000; return 0; }
// What a launch says of itself: its shared memory; early ones are counted.
int emulated_tell(const LaunchConfig* config) {
  for (unsigned i = 0; i < config->num_attributes; ++i)
    if (config->attributes[i].id == 6) num_early_launches += config->attributes[i].value[0];
  return int(config->shared_bytes);
}
int cuLaunchKernelEx(const LaunchConfig* config, void* function, void** arguments, void**) {
  unsigned x = config->grid[0], y = config->grid[1], z = config->grid[2];
  unsigned threads = config->block[0], shared_bytes = config->shared_bytes;
  emulated_tell(config);
  if (int(shared_bytes) > 48 << 10 && int(shared_bytes) > most_shared_bytes[function]) return 1;
  typedef int (*Counter)();
  Launcher launcher = reinterpret_cast<Launcher>(function);
  Recorded launch{launcher, {int(x), int(y), int(z)}, int(threads), int(shared_bytes), {}};
  // How many arguments there are, a launcher says where it is asked with no grid.
  int count = 0;
  void* answer = &count;
  launcher(nullptr, 0, 0, &answer);
  for (int i = 0; i < count; ++i) {
    uint64_t value = 0;
    // A pointer has eight bytes, a number four; reading eight of either is safe from ctypes' objects.
    memcpy(&value, arguments[i], 8);
    launch.values.push_back(value);
  }
  if (recording) recording->push_back(launch);
  else {
    ++num_launches;
    run(launch);
  }
  return 0;
}

int cuStreamBeginCapture_v2(void*, int) { recording = new std::vector<Recorded>; return 0; }
int cuStreamEndCapture(void*, void** graph) { *graph = recording; recording = nullptr; return 0; }
int cuGraphInstantiateWithFlags(void** executable, void* graph, uint64_t) { *executable = graph; return 0; }
int cuGraphDestroy(void*) { return 0; }
int cuGraphExecDestroy(void* executable) { delete static_cast<std::vector<Recorded>*>(executable); return 0; }
int cuGraphLaunch(void* executable, void*) {
  ++num_replays;
  for (const Recorded& launch : *static_cast<std::vector<Recorded>*>(executable)) run(launch);
  return 0;
}

}  // extern "C"
