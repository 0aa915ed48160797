// What Python does with the host library, where there is no Python: on a processor that is emulated.
//
// Its arguments are what stands for macOS, and a folder of compiled programs; it prints what a kernel computed.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

typedef struct {
  const char* data;
  size_t size;
} Bytes;

void TVMFFIErrorSetRaisedFromCStr(const char* kind, const char* message) {
  printf("%s: %s\n", kind, message);
  exit(1);
}

int TVMFFIStringFromByteArray(const Bytes* text, Value* result) {
  result->type = 8;
  result->text = strndup(text->data, text->size);
  return 0;
}

typedef int Function(void* self, const Value* given, int32_t count, Value* result);
Function __tvm_ffi_metal_open, __tvm_ffi_metal_name, __tvm_ffi_metal_allocate, __tvm_ffi_metal_compile,
    __tvm_ffi_metal_kernel, __tvm_ffi_metal_launch, __tvm_ffi_metal_wait, __tvm_ffi_metal_close;
void fake_set_libraries(const char* folder);
void fake_set(const char* name, int64_t value);
const char* fake_complaints(void);
long fake_living_objects(void);

// A call with integers (i) and strings (s).
static Value call(Function* function, const char* types, ...) {
  Value given[8], result = {0, 0, {0}};
  va_list arguments;
  va_start(arguments, types);
  for (size_t i = 0; types[i]; ++i) {
    given[i].type = types[i] == 's' ? 8 : 1;
    if (types[i] == 's') given[i].text = va_arg(arguments, const char*);
    else given[i].integer = va_arg(arguments, int64_t);
  }
  va_end(arguments);
  if (function(NULL, given, (int32_t)strlen(types), &result)) exit(1);
  return result;
}

int main(int count, char** arguments) {
  if (count != 3) return 2;
  fake_set_libraries(arguments[2]);
  fake_set("family", 1007);
  fake_set("working_set", 1 << 20);
  fake_set("longest_buffer", 1 << 20);
  fake_set("most_threads", 1024);
  fake_set("lanes", 32);
  int64_t device = call(__tvm_ffi_metal_open, "ss", arguments[1], arguments[1]).integer;
  puts(call(__tvm_ffi_metal_name, "i", device).text);
  float* x = (float*)call(__tvm_ffi_metal_allocate, "ii", device, (int64_t)64).integer;
  float* y = (float*)call(__tvm_ffi_metal_allocate, "ii", device, (int64_t)64).integer;
  for (int i = 0; i < 16; ++i) x[i] = (float)i;
  call(__tvm_ffi_metal_compile, "is", device, "kernel void add(...)");
  int64_t kernel = call(__tvm_ffi_metal_kernel, "is", device, "add").integer;
  int64_t words[] = {kernel, 2, 1, 4, 1, 4, 12, (int64_t)x, (int64_t)(y + 1), 8, 3};
  call(__tvm_ffi_metal_launch, "iii", device, (int64_t)words, (int64_t)(sizeof words / sizeof *words));
  call(__tvm_ffi_metal_wait, "i", device);
  for (int i = 0; i < 10; ++i) printf("%g ", y[i]);
  call(__tvm_ffi_metal_close, "i", device);
  printf("\n%ld objects left\n%s", fake_living_objects(), fake_complaints());
  return 0;
}
