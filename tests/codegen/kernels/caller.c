/* Runs kernels that TVM compiled for another machine, under an emulator and without TVM.
 *
 * Reads requests from standard input until it ends, and answers each on standard output. All numbers are int64
 * of this machine. A request: the length of a library's path, the path, the number of tensors, and for each
 * tensor its element's DLPack code and bits, its rank, its shape, the number of its bytes, and these. The answer:
 * 0 and the bytes of all tensors, or another number and nothing.
 *
 * The library's function is __tvm_ffi_kernel. What it asks of TVM's runtime stands here: a parallel loop is run
 * as NUM_TASKS tasks, the last one first, so that a kernel that counts on their order or number is caught.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUM_TASKS = 3, GUARD = 256, DL_TENSOR_POINTER = 7 };

typedef struct { int32_t type_index; uint32_t padding; void *pointer; } Any;
typedef struct { uint8_t code, bits; uint16_t lanes; } DataType;
typedef struct {
  void *data;
  int32_t device_type, device_id, ndim;
  DataType dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} Tensor;
typedef struct { void *sync; int32_t num_tasks; } Environment;
typedef int (*Task)(int task, Environment *environment, void *closure);

static int parallel_launch(Task task, void *closure, int num_tasks) {
  Environment environment = {NULL, num_tasks ? num_tasks : NUM_TASKS};
  for (int index = environment.num_tasks - 1; index >= 0; --index) {
    int status = task(index, &environment, closure);
    if (status) return status;
  }
  return 0;
}

static void *allocate(int type, int id, uint64_t size, int code, int bits) {
  return aligned_alloc(64, (size + 63) / 64 * 64);
}

static int release(int type, int id, void *pointer) { return free(pointer), 0; }

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; ++i) fputs(parts[i] ? parts[i] : "", stderr);
  fputs("\n", stderr);
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1);
}

static int read_all(void *into, size_t size) { return fread(into, 1, size, stdin) == size; }

static int64_t read_number(void) {
  int64_t number;
  if (!read_all(&number, sizeof number)) exit(0);
  return number;
}

static void bind(void *library, const char *name, void *function) {
  void **slot = dlsym(library, name);
  if (slot) *slot = function;
}

static int call(const char *path, Any *arguments, int32_t count) {
  void *library = dlopen(path, RTLD_NOW);
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 1;
  bind(library, "__TVMBackendParallelLaunch", parallel_launch);
  bind(library, "__TVMBackendAllocWorkspace", allocate);
  bind(library, "__TVMBackendFreeWorkspace", release);
  int (*kernel)(void *, const Any *, int32_t, Any *) = dlsym(library, "__tvm_ffi_kernel");
  if (!kernel) return fprintf(stderr, "%s\n", dlerror()), 2;
  Any result = {0};
  return kernel(NULL, arguments, count, &result);
}

static int guards_are_whole(const unsigned char *data, int64_t size) {
  for (int64_t i = 0; i < GUARD; ++i)
    if (data[size + i] != 0xA5) return 0;
  return 1;
}

int main(void) {
  for (;;) {
    char path[4096] = {0};
    if (!read_all(path, read_number())) return 1;
    int64_t count = read_number(), sizes[32];
    Tensor tensors[32] = {0};
    Any arguments[32] = {0};
    for (int64_t i = 0; i < count; ++i) {
      Tensor *tensor = &tensors[i];
      tensor->device_type = 1;
      tensor->dtype.code = read_number();
      tensor->dtype.bits = read_number();
      tensor->dtype.lanes = 1;
      tensor->ndim = read_number();
      tensor->shape = calloc(tensor->ndim + 1, sizeof(int64_t));
      for (int32_t d = 0; d < tensor->ndim; ++d) tensor->shape[d] = read_number();
      sizes[i] = read_number();
      tensor->data = aligned_alloc(64, (sizes[i] + GUARD + 63) / 64 * 64);
      if (!read_all(tensor->data, sizes[i])) return 1;
      memset((char *)tensor->data + sizes[i], 0xA5, GUARD);
      arguments[i].type_index = DL_TENSOR_POINTER;
      arguments[i].pointer = tensor;
    }
    int64_t status = call(path, arguments, count);
    for (int64_t i = 0; i < count; ++i)
      if (!guards_are_whole(tensors[i].data, sizes[i])) status = 100 + i;
    fwrite(&status, sizeof status, 1, stdout);
    for (int64_t i = 0; i < count; ++i) {
      if (!status) fwrite(tensors[i].data, 1, sizes[i], stdout);
      free(tensors[i].data);
      free(tensors[i].shape);
    }
    fflush(stdout);
  }
}
