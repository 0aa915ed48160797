// How Python calls this library: as a module of tvm_ffi, whose functions take and give values of one type.
//
// The layout is that of tvm/ffi/c_api.h, of which no more is needed.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
  int32_t type;
  uint32_t small_length;
  union {
    int64_t integer;
    const char* text;
    const void* object;
    char small[8];
  };
} Value;

// A function that Python knows by `name`.
#define FUNCTION(name) \
  __attribute__((visibility("default"))) int __tvm_ffi_##name(void* self, const Value* given, int32_t count, \
                                                              Value* result)

// Whether the values are as `types` says, a letter each: (i)nteger or (s)tring. If not, an error is raised.
bool check_call(const char* function, const char* types, const Value* given, int32_t count);

// The text of a string, which lives as long as the call and ends with a zero.
const char* text_of(const Value* value);

// Results; what a function returns.
int give_integer(Value* result, int64_t number);
int give_text(Value* result, const char* text);

// Raises an error in Python, of a sentence as printf makes it; what a function returns.
int refuse(const char* sentence, ...) __attribute__((format(printf, 1, 2)));
