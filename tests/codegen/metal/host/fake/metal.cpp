// A Mac's GPU that is this machine's CPU: what the host library asks of Metal, over kernels compiled as C++.
//
// The compiled form of a program is found by the CRC of its text in a folder that tests name. It has for each kernel a
// function launch_NAME(grid, threads, values), which for no grid puts the number of its arguments to values[0].
// Nothing is computed before it is waited for, so that a wait that was forgotten shows.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "objective_c.h"

using namespace fake;

namespace {

typedef unsigned long NSUInteger;
typedef void (*Launcher)(const int* grid, int threads, void** values);

struct Size {
  NSUInteger width, height, depth;
};

// What tests set by name.
struct Setting {
  const char* name;
  int64_t value;
};
Setting settings[] = {
    {"family", 0}, {"working_set", 0}, {"longest_buffer", 0}, {"math_mode", 0}, {"most_threads", 0},
    {"lanes", 0},  {"fails", 0},       {"shares", 0},
};
int64_t setting(const char* name) {
  for (Setting& one : settings)
    if (!strcmp(one.name, name)) return one.value;
  abort();
}

std::string libraries;
int64_t allocated = 0, num_commits = 0, num_launches = 0, num_shared = 0;

constexpr int MOST_BUFFERS = 31;
constexpr size_t MOST_SET_BYTES = 4096;

struct Array : Object {
  std::vector<Id> items;
  Array() : Object(class_of("NSArray")) {}
};

struct Options : Object {
  int64_t version = 0;
  bool is_safe = false;
  Options() : Object(class_of("MTLCompileOptions")) {}
};

struct Device : Object {
  Device() : Object(class_of("MTLDevice")) {}
};

struct Buffer : Object {
  char* bytes;
  size_t size;
  bool is_own;
  Buffer(char* bytes, size_t size, bool is_own)
      : Object(class_of("MTLBuffer")), bytes(bytes), size(size), is_own(is_own) {}
};

struct Library : Object {
  void* code;
  explicit Library(void* code) : Object(class_of("MTLLibrary")), code(code) {}
};

struct Function : Object {
  Launcher launcher;
  explicit Function(Launcher launcher) : Object(class_of("MTLFunction")), launcher(launcher) {}
};

struct Pipeline : Object {
  Launcher launcher;
  explicit Pipeline(Launcher launcher) : Object(class_of("MTLComputePipelineState")), launcher(launcher) {}
};

struct Binding {
  Buffer* buffer = nullptr;
  size_t offset = 0;
  std::string bytes;
};

struct Dispatch {
  Pipeline* pipeline;
  std::vector<Binding> bindings;
  int grid[3], threads;
};

struct Queue;

struct Commands : Object {
  Queue* queue;
  std::vector<Dispatch> dispatches;
  NSUInteger status = 0;
  bool is_open = false;
  explicit Commands(Queue* queue) : Object(class_of("MTLCommandBuffer")), queue(queue) {}
};

struct Queue : Object {
  std::deque<Commands*> committed;
  Queue() : Object(class_of("MTLCommandQueue")) {}
};

struct Encoder : Object {
  Commands* commands;
  Dispatch next{nullptr, std::vector<Binding>(MOST_BUFFERS), {}, 0};
  bool is_open = true;
  explicit Encoder(Commands* commands) : Object(class_of("MTLComputeCommandEncoder")), commands(commands) {}
};

template <class Type>
Type* as(Id object) {
  return static_cast<Type*>(object);
}

uint32_t crc_of(const std::string& text) {
  uint32_t crc = ~0u;
  for (unsigned char byte : text) {
    crc ^= byte;
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

void run(const Dispatch& dispatch) {
  int count = 0;
  void* answer = &count;
  dispatch.pipeline->launcher(nullptr, 0, &answer);
  std::vector<uint64_t> words(count);
  std::vector<void*> values;
  for (int i = 0; i < count; ++i) {
    const Binding& binding = dispatch.bindings[i];
    if (binding.buffer) {
      if (binding.buffer->references <= 0) return complain("a buffer is gone before it is used");
      char* address = binding.buffer->bytes + binding.offset;
      memcpy(&words[i], &address, 8);
    } else if (binding.bytes.empty()) {
      return complain("argument " + std::to_string(i) + " of a kernel is not set");
    } else {
      memcpy(&words[i], binding.bytes.data(), binding.bytes.size());
    }
    values.push_back(&words[i]);
  }
  ++num_launches;
  dispatch.pipeline->launcher(dispatch.grid, dispatch.threads, values.data());
}

// All that was committed up to a command buffer, in the order of the queue.
void run_up_to(Commands* last) {
  auto& committed = last->queue->committed;
  while (last->status < 4 && !committed.empty()) {
    Commands* commands = committed.front();
    committed.pop_front();
    commands->status = setting("fails") ? 5 : 4;
    if (commands->status == 4)
      for (const Dispatch& dispatch : commands->dispatches) run(dispatch);
    for (const Dispatch& dispatch : commands->dispatches) {
      release(dispatch.pipeline);
      for (const Binding& binding : dispatch.bindings)
        if (binding.buffer) release(binding.buffer);
    }
    release(commands);
  }
}

NSUInteger page_size() { return NSUInteger(sysconf(_SC_PAGESIZE)); }

void define_foundation() {
  class_of("NSString")->class_methods["stringWithUTF8String:"] = reinterpret_cast<void*>(
      +[](Id, Selector, const char* text) -> Id { return in_pool(new String(text)); });
  class_of("NSString")->define("UTF8String", [](Id self, Selector) { return as<String>(self)->text.c_str(); });
  class_of("NSArray")->define("count", [](Id self, Selector) { return NSUInteger(as<Array>(self)->items.size()); });
  class_of("NSArray")->define("objectAtIndex:",
                              [](Id self, Selector, NSUInteger at) { return as<Array>(self)->items.at(at); });
  class_of("NSArray")->define("dealloc", [](Id self) {
    for (Id item : as<Array>(self)->items) release(item);
  });
  class_of("NSError")->define("localizedDescription",
                              [](Id self, Selector) { return in_pool(new String(as<Error>(self)->text)); });
}

void define_device() {
  Class* device = class_of("MTLDevice");
  device->define("name", [](Id, Selector) -> Id { return in_pool(new String("Fake M1")); });
  device->define("supportsFamily:", [](Id, Selector, long family) { return family <= setting("family"); });
  device->define("recommendedMaxWorkingSetSize", [](Id, Selector) { return uint64_t(setting("working_set")); });
  device->define("currentAllocatedSize", [](Id, Selector) { return NSUInteger(allocated); });
  device->define("maxBufferLength", [](Id, Selector) { return NSUInteger(setting("longest_buffer")); });
  device->define("newCommandQueue", [](Id, Selector) -> Id { return new Queue; });
  device->define("newBufferWithLength:options:", [](Id, Selector, NSUInteger size, NSUInteger options) -> Id {
    if (options || !size) complain("a buffer that is not shared, or empty");
    if (int64_t(size) > setting("longest_buffer") || int64_t(size) + allocated > setting("working_set"))
      return nullptr;
    allocated += int64_t(size);
    size_t whole = (size + page_size() - 1) / page_size() * page_size();
    char* bytes = static_cast<char*>(aligned_alloc(page_size(), whole));
    memset(bytes, 0x7f, whole);
    return new Buffer(bytes, size, true);
  });
  device->define(
      "newBufferWithBytesNoCopy:length:options:deallocator:",
      [](Id, Selector, char* bytes, NSUInteger size, NSUInteger options, Id deallocator) -> Id {
        if (uint64_t(bytes) % page_size() || size % page_size() || !size || options || deallocator)
          complain("memory to be shared is no whole pages");
        if (int64_t(size) > setting("longest_buffer")) complain("memory to be shared is longer than a buffer");
        if (!setting("shares")) return nullptr;
        ++num_shared;
        return new Buffer(bytes, size, false);
      });
  class_of("MTLBuffer")->define("contents", [](Id self, Selector) { return as<Buffer>(self)->bytes; });
  class_of("MTLBuffer")->define("dealloc", [](Id self) {
    if (!as<Buffer>(self)->is_own) return;
    allocated -= int64_t(as<Buffer>(self)->size);
    free(as<Buffer>(self)->bytes);
  });
}

void define_programs() {
  Class* options = class_of("MTLCompileOptions");
  options->class_methods["new"] = reinterpret_cast<void*>(+[](Id, Selector) -> Id { return new Options; });
  options->define("setLanguageVersion:",
                  [](Id self, Selector, NSUInteger version) { as<Options>(self)->version = int64_t(version); });
  options->define("setFastMathEnabled:",
                  [](Id self, Selector, bool is_fast) { as<Options>(self)->is_safe = !is_fast; });
  Class* device = class_of("MTLDevice");
  device->define("newLibraryWithSource:options:error:",
                 [](Id, Selector, Id source, Id options, Id* error) -> Id {
                   if (!as<Options>(options)->is_safe) complain("a program is compiled with fast math");
                   if (as<Options>(options)->version != (3 << 16) + 1) complain("a program is not of Metal 3.1");
                   char name[16];
                   snprintf(name, sizeof name, "%08x.so", crc_of(as<String>(source)->text));
                   void* code = dlopen((libraries + "/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
                   if (code) return new Library(code);
                   *error = in_pool(new Error("program_source:1:1: error: unknown type name 'kernal'"));
                   return nullptr;
                 });
  device->define("newComputePipelineStateWithFunction:error:", [](Id, Selector, Id function, Id*) -> Id {
    return new Pipeline(as<Function>(function)->launcher);
  });
  class_of("MTLLibrary")->define("newFunctionWithName:", [](Id self, Selector, Id name) -> Id {
    void* launcher = dlsym(as<Library>(self)->code, ("launch_" + as<String>(name)->text).c_str());
    return launcher ? new Function(reinterpret_cast<Launcher>(launcher)) : nullptr;
  });
  class_of("MTLFunction");
  class_of("MTLComputePipelineState")->define("maxTotalThreadsPerThreadgroup", [](Id, Selector) {
    return NSUInteger(setting("most_threads"));
  });
  class_of("MTLComputePipelineState")->define("threadExecutionWidth", [](Id, Selector) {
    return NSUInteger(setting("lanes"));
  });
}

void define_commands() {
  class_of("MTLCommandQueue")->define("commandBuffer", [](Id self, Selector) -> Id {
    return in_pool(new Commands(as<Queue>(self)));
  });
  Class* commands = class_of("MTLCommandBuffer");
  commands->define("computeCommandEncoderWithDispatchType:", [](Id self, Selector, NSUInteger type) -> Id {
    if (type) complain("launches of an encoder are not in order");
    if (as<Commands>(self)->is_open) complain("a command buffer has two encoders at once");
    as<Commands>(self)->is_open = true;
    return in_pool(new Encoder(as<Commands>(self)));
  });
  commands->define("commit", [](Id self, Selector) {
    Commands* own = as<Commands>(self);
    if (own->is_open) complain("a command buffer is committed while it is written");
    if (own->status) complain("a command buffer is committed twice");
    own->status = 2;
    ++num_commits;
    for (const Dispatch& dispatch : own->dispatches) {
      retain(dispatch.pipeline);
      for (const Binding& binding : dispatch.bindings)
        if (binding.buffer) retain(binding.buffer);
    }
    own->queue->committed.push_back(own);
    retain(own);
  });
  commands->define("waitUntilCompleted", [](Id self, Selector) {
    if (!as<Commands>(self)->status) complain("waiting for a command buffer that was not committed");
    run_up_to(as<Commands>(self));
  });
  commands->define("status", [](Id self, Selector) { return as<Commands>(self)->status; });
  commands->define("error", [](Id self, Selector) -> Id {
    return as<Commands>(self)->status == 5 ? in_pool(new Error("Caused GPU Timeout Error")) : nullptr;
  });
}

void define_encoder() {
  Class* encoder = class_of("MTLComputeCommandEncoder");
  encoder->define("setComputePipelineState:",
                  [](Id self, Selector, Id pipeline) { as<Encoder>(self)->next.pipeline = as<Pipeline>(pipeline); });
  encoder->define("setBuffer:offset:atIndex:",
                  [](Id self, Selector, Id buffer, NSUInteger offset, NSUInteger index) {
                    if (index >= MOST_BUFFERS) return complain("a kernel has more than 31 arguments");
                    if (offset >= as<Buffer>(buffer)->size || offset % 4)
                      complain("an array begins outside of its buffer, or at no word");
                    as<Encoder>(self)->next.bindings[index] = Binding{as<Buffer>(buffer), offset, {}};
                  });
  encoder->define("setBytes:length:atIndex:",
                  [](Id self, Selector, const char* bytes, NSUInteger length, NSUInteger index) {
                    if (index >= MOST_BUFFERS) return complain("a kernel has more than 31 arguments");
                    if (length > MOST_SET_BYTES) complain("more than 4 KiB are given as bytes");
                    as<Encoder>(self)->next.bindings[index] = Binding{nullptr, 0, std::string(bytes, length)};
                  });
  encoder->define("dispatchThreadgroups:threadsPerThreadgroup:", [](Id self, Selector, Size grid, Size threads) {
    Encoder* own = as<Encoder>(self);
    if (!own->is_open) complain("a launch behind the end of its encoder");
    if (!own->next.pipeline) return complain("a launch of no kernel");
    if (!grid.width || !grid.height || !grid.depth) complain("a launch of no blocks");
    if (threads.height != 1 || threads.depth != 1 || threads.width > NSUInteger(setting("most_threads")))
      complain("a launch of blocks with too many threads, or not in a row");
    Dispatch dispatch = own->next;
    dispatch.grid[0] = int(grid.width), dispatch.grid[1] = int(grid.height), dispatch.grid[2] = int(grid.depth);
    dispatch.threads = int(threads.width);
    own->commands->dispatches.push_back(dispatch);
  });
  encoder->define("endEncoding", [](Id self, Selector) {
    as<Encoder>(self)->is_open = as<Encoder>(self)->commands->is_open = false;
  });
  encoder->define("dealloc", [](Id self) {
    if (as<Encoder>(self)->is_open) complain("an encoder is gone before its end");
  });
}

// Since macOS 15 options have a mode of mathematics.
void define_math_mode() {
  Class* options = class_of("MTLCompileOptions");
  options->methods.erase("setMathMode:");
  if (setting("math_mode"))
    options->define("setMathMode:", [](Id self, Selector, long mode) { as<Options>(self)->is_safe = mode == 0; });
}

__attribute__((constructor)) void define_all() {
  define_foundation();
  define_device();
  define_programs();
  define_math_mode();
  define_commands();
  define_encoder();
}

}  // namespace

extern "C" {

Id MTLCopyAllDevices() {
  Array* all = new Array;
  all->items.push_back(new Device);
  return all;
}

void fake_set_libraries(const char* folder) { libraries = folder; }

void fake_set(const char* name, int64_t value) {
  for (Setting& one : settings)
    if (!strcmp(one.name, name)) one.value = value;
  define_math_mode();
}

int64_t fake_allocated() { return allocated; }
int64_t fake_commits() { return num_commits; }
int64_t fake_launches() { return num_launches; }
int64_t fake_shared() { return num_shared; }
}
