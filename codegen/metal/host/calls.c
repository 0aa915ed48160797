#include "calls.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { INTEGER = 1, RAW_STRING = 8, SMALL_STRING = 11, STRING = 65, MOST_ERROR_BYTES = 4096 };

typedef struct {
  const char* data;
  size_t size;
} Bytes;

// A string that is an object: what every object begins with, then where its text lies.
typedef struct {
  uint64_t references;
  int32_t type;
  uint32_t padding;
  void (*deleter)(void* self, int flags);
  Bytes text;
} StringObject;

// Of libtvm_ffi, which Python has loaded before it loads this library.
extern void TVMFFIErrorSetRaisedFromCStr(const char* kind, const char* message);
extern int TVMFFIStringFromByteArray(const Bytes* text, Value* result);

static bool is_string(int32_t type) { return type == RAW_STRING || type == SMALL_STRING || type == STRING; }

bool check_call(const char* function, const char* types, const Value* given, int32_t count) {
  bool fits = (size_t)count == strlen(types);
  for (int32_t i = 0; fits && i < count; ++i)
    fits = types[i] == 's' ? is_string(given[i].type) : given[i].type == INTEGER;
  if (!fits) refuse("%s takes other arguments than these %d: %s", function, count, types);
  return fits;
}

const char* text_of(const Value* value) {
  if (value->type == SMALL_STRING) return value->small;
  return value->type == STRING ? ((const StringObject*)value->object)->text.data : value->text;
}

int give_integer(Value* result, int64_t number) {
  result->type = INTEGER;
  result->small_length = 0;
  result->integer = number;
  return 0;
}

int give_text(Value* result, const char* text) {
  Bytes bytes = {text, strlen(text)};
  return TVMFFIStringFromByteArray(&bytes, result);
}

int refuse(const char* sentence, ...) {
  char text[MOST_ERROR_BYTES];
  va_list arguments;
  va_start(arguments, sentence);
  vsnprintf(text, sizeof text, sentence, arguments);
  va_end(arguments);
  TVMFFIErrorSetRaisedFromCStr("RuntimeError", text);
  return -1;
}
