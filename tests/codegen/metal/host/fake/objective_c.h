// As much of an Objective-C runtime as the host library needs: classes, selectors, messages, counted references
// and pools of what belongs to nobody.
//
// Whatever a real one would end the program for is a complaint that tests read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace fake {

struct Class;

struct Object {
  Class* isa;
  long references = 1;
  explicit Object(Class* isa);
  virtual ~Object() = default;
};

typedef Object* Id;
typedef const std::string* Selector;

struct Class : Object {
  std::string name;
  std::map<std::string, void*> methods, class_methods;
  explicit Class(std::string name) : Object(nullptr), name(std::move(name)) {}
  template <class Method>
  void define(const char* selector, Method method) {
    methods[selector] = reinterpret_cast<void*>(+method);
  }
};

// The class of this name, which comes to be when it is first asked for.
Class* class_of(const std::string& name);

void complain(const std::string& text);

Id retain(Id object);
void release(Id object);

// Gives an object to the innermost pool.
Id in_pool(Id object);

struct String : Object {
  std::string text;
  explicit String(std::string text) : Object(class_of("NSString")), text(std::move(text)) {}
};

struct Error : Object {
  std::string text;
  explicit Error(std::string text) : Object(class_of("NSError")), text(std::move(text)) {}
};

}  // namespace fake
