#include "objective_c.h"

#include <dlfcn.h>
#include <stddef.h>

struct ObjectiveC objective_c;

const char* load_objective_c(const char* path) {
  void* library = dlopen(path, RTLD_NOW);
  if (!library) return path;
  const struct {
    const char* name;
    void** place;
  } functions[] = {
      {"objc_getClass", (void**)&objective_c.class_named},
      {"sel_registerName", (void**)&objective_c.selector_named},
      {"objc_msgSend", (void**)&objective_c.send},
      {"objc_autoreleasePoolPush", (void**)&objective_c.push_pool},
      {"objc_autoreleasePoolPop", (void**)&objective_c.pop_pool},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; ++i) {
    *functions[i].place = dlsym(library, functions[i].name);
    if (!*functions[i].place) return functions[i].name;
  }
  return NULL;
}
