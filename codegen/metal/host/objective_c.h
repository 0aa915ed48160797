// The Objective-C runtime, found when a device is opened: so the library is linked without Apple's SDK.
#pragma once

typedef struct objc_object* Id;
typedef struct objc_selector* Selector;

// What is used of libobjc.
struct ObjectiveC {
  Id (*class_named)(const char* name);
  Selector (*selector_named)(const char* name);
  void (*send)(void);  // objc_msgSend, which is called as if it were the method
  void* (*push_pool)(void);
  void (*pop_pool)(void* pool);
};

extern struct ObjectiveC objective_c;

// Finds it in the library at `path`; returns what is missing, or null.
const char* load_objective_c(const char* path);

// The selector of a method that was looked up before, or is now.
static inline Selector find_selector(Selector* known, const char* name) {
  if (!*known) *known = objective_c.selector_named(name);
  return *known;
}
