// The methods of Foundation and Metal that are called, each as a function of its own type.
//
// https://developer.apple.com/documentation/metal says what they do. Those that begin with `new` give an object
// that must be released; any other belongs to the pool around the call.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "objective_c.h"

typedef unsigned long NSUInteger;

typedef struct {
  NSUInteger width, height, depth;
} MTLSize;

enum {
  MTL_GPU_FAMILY_APPLE7 = 1007,
  MTL_LANGUAGE_VERSION_3_1 = (3 << 16) + 1,
  MTL_MATH_MODE_SAFE = 0,
  MTL_RESOURCE_STORAGE_MODE_SHARED = 0,
  MTL_DISPATCH_TYPE_SERIAL = 0,
  MTL_COMMAND_BUFFER_STATUS_ERROR = 5,
};

#define METHOD_0(result, name, selector)                                                     \
  static inline result name(Id self) {                                                       \
    static Selector known;                                                                   \
    return ((result(*)(Id, Selector))objective_c.send)(self, find_selector(&known, selector)); \
  }
#define METHOD_1(result, name, selector, A)                                                          \
  static inline result name(Id self, A a) {                                                          \
    static Selector known;                                                                           \
    return ((result(*)(Id, Selector, A))objective_c.send)(self, find_selector(&known, selector), a); \
  }
#define METHOD_2(result, name, selector, A, B)                                                             \
  static inline result name(Id self, A a, B b) {                                                           \
    static Selector known;                                                                                 \
    return ((result(*)(Id, Selector, A, B))objective_c.send)(self, find_selector(&known, selector), a, b); \
  }
#define METHOD_3(result, name, selector, A, B, C)                                                                \
  static inline result name(Id self, A a, B b, C c) {                                                            \
    static Selector known;                                                                                       \
    return ((result(*)(Id, Selector, A, B, C))objective_c.send)(self, find_selector(&known, selector), a, b, c); \
  }
#define METHOD_4(result, name, selector, A, B, C, D)                                                        \
  static inline result name(Id self, A a, B b, C c, D d) {                                                  \
    static Selector known;                                                                                  \
    return ((result(*)(Id, Selector, A, B, C, D))objective_c.send)(self, find_selector(&known, selector), a, \
                                                                   b, c, d);                                \
  }

// Every object's.
METHOD_0(Id, retain, "retain")
METHOD_0(void, release, "release")
METHOD_0(Id, new_of, "new")
METHOD_1(bool, responds_to, "respondsToSelector:", Selector)

// Foundation's.
METHOD_1(Id, string_with_utf8, "stringWithUTF8String:", const char*)  // a class method
METHOD_0(const char*, utf8_string, "UTF8String")
METHOD_0(NSUInteger, count_of, "count")
METHOD_1(Id, object_at, "objectAtIndex:", NSUInteger)
METHOD_0(Id, localized_description, "localizedDescription")

// A device's.
METHOD_0(Id, device_name, "name")
METHOD_1(bool, supports_family, "supportsFamily:", long)
METHOD_0(Id, new_command_queue, "newCommandQueue")
METHOD_2(Id, new_buffer, "newBufferWithLength:options:", NSUInteger, NSUInteger)
METHOD_4(Id, new_buffer_over, "newBufferWithBytesNoCopy:length:options:deallocator:", void*, NSUInteger, NSUInteger,
         Id)
METHOD_3(Id, new_library, "newLibraryWithSource:options:error:", Id, Id, Id*)
METHOD_2(Id, new_pipeline, "newComputePipelineStateWithFunction:error:", Id, Id*)

// Of options, libraries and pipelines.
METHOD_1(void, set_math_mode, "setMathMode:", long)
METHOD_1(void, set_fast_math, "setFastMathEnabled:", bool)
METHOD_1(void, set_language_version, "setLanguageVersion:", NSUInteger)
METHOD_1(Id, new_function, "newFunctionWithName:", Id)
METHOD_0(NSUInteger, most_threads, "maxTotalThreadsPerThreadgroup")
METHOD_0(NSUInteger, threads_of_simd_group, "threadExecutionWidth")

// Of buffers, queues and command buffers.
METHOD_0(void*, contents, "contents")
METHOD_0(Id, command_buffer, "commandBuffer")
METHOD_1(Id, compute_encoder, "computeCommandEncoderWithDispatchType:", NSUInteger)
METHOD_0(void, commit, "commit")
METHOD_0(void, wait_until_completed, "waitUntilCompleted")
METHOD_0(NSUInteger, status_of, "status")
METHOD_0(Id, error_of, "error")

// An encoder's.
METHOD_1(void, set_pipeline, "setComputePipelineState:", Id)
METHOD_3(void, set_buffer, "setBuffer:offset:atIndex:", Id, NSUInteger, NSUInteger)
METHOD_3(void, set_bytes, "setBytes:length:atIndex:", const void*, NSUInteger, NSUInteger)
METHOD_2(void, dispatch, "dispatchThreadgroups:threadsPerThreadgroup:", MTLSize, MTLSize)
METHOD_0(void, end_encoding, "endEncoding")

// A string of Foundation's.
static inline Id string_of(const char* text) { return string_with_utf8(objective_c.class_named("NSString"), text); }
