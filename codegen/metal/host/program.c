#include "program.h"

#include "calls.h"
#include "methods.h"

enum { LANES = 32 };

// Arithmetic as it is written: no shortcut that a compiler takes by itself.
static Id new_options(void) {
  Id options = new_of(objective_c.class_named("MTLCompileOptions"));
  set_language_version(options, MTL_LANGUAGE_VERSION_3_1);
  // Since macOS 15 by the first, which replaces the second.
  if (responds_to(options, objective_c.selector_named("setMathMode:"))) set_math_mode(options, MTL_MATH_MODE_SAFE);
  else set_fast_math(options, false);
  return options;
}

int compile(Device* device, const char* text) {
  Id error = NULL, options = new_options();
  Id library = new_library(device->device, string_of(text), options, &error);
  release(options);
  if (!library) return refuse("Metal refuses the kernels: %s", words_of(error));
  release(device->library);
  device->library = library;
  return 0;
}

Id find_kernel(Device* device, const char* name) {
  Id function = new_function(device->library, string_of(name));
  if (!function) {
    refuse("the program has no kernel %s", name);
    return NULL;
  }
  Id error = NULL, pipeline = new_pipeline(device->device, function, &error);
  release(function);
  if (!pipeline) {
    refuse("Metal makes no code of the kernel %s: %s", name, words_of(error));
    return NULL;
  }
  hold(&device->pipelines, pipeline);
  if (threads_of_simd_group(pipeline) != LANES) {
    refuse("the kernel %s runs %lu threads at a time, and is written for %d", name, threads_of_simd_group(pipeline),
           LANES);
    return NULL;
  }
  return pipeline;
}
