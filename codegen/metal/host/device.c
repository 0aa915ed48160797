#include "device.h"

#include <stdlib.h>

#include "methods.h"

void hold(Held* held, Id object) {
  if (held->count == held->capacity) {
    held->capacity = held->capacity ? 2 * held->capacity : 16;
    held->objects = realloc(held->objects, held->capacity * sizeof(Id));
    if (!held->objects) abort();
  }
  held->objects[held->count++] = object;
}

void release_all(Held* held) {
  for (size_t i = 0; i < held->count; ++i) release(held->objects[i]);
  free(held->objects);
  *held = (Held){0};
}

const char* words_of(Id error) {
  const char* text = error ? utf8_string(localized_description(error)) : NULL;
  return text ? text : "it does not say why";
}
