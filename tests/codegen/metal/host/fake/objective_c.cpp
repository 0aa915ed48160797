#include "objective_c.h"

#include <set>
#include <vector>

namespace fake {

namespace {

std::string complaints;
long living = 0;
std::vector<std::vector<Id>> pools;
std::set<std::string> selectors;

std::map<std::string, Class*>& classes() {
  static std::map<std::string, Class*> all;
  return all;
}

void* answer_nothing() { return nullptr; }

Id retain_method(Id self, Selector) { return retain(self); }
void release_method(Id self, Selector) { release(self); }
bool responds_method(Id self, Selector, Selector asked) { return self->isa->methods.count(*asked) > 0; }

void* method_of(Id self, Selector selector) {
  if (!self) return reinterpret_cast<void*>(answer_nothing);
  if (!self->isa) {
    auto& methods = static_cast<Class*>(self)->class_methods;
    auto found = methods.find(*selector);
    if (found != methods.end()) return found->second;
    complain("a class " + static_cast<Class*>(self)->name + " has no method " + *selector);
    return reinterpret_cast<void*>(answer_nothing);
  }
  if (self->references <= 0) {
    complain("the message " + *selector + " to a " + self->isa->name + " that is gone");
    return reinterpret_cast<void*>(answer_nothing);
  }
  if (*selector == "retain") return reinterpret_cast<void*>(retain_method);
  if (*selector == "release") return reinterpret_cast<void*>(release_method);
  if (*selector == "respondsToSelector:") return reinterpret_cast<void*>(responds_method);
  auto found = self->isa->methods.find(*selector);
  if (found != self->isa->methods.end()) return found->second;
  complain("a " + self->isa->name + " has no method " + *selector);
  return reinterpret_cast<void*>(answer_nothing);
}

}  // namespace

Object::Object(Class* isa) : isa(isa) { living += isa != nullptr; }

Class* class_of(const std::string& name) {
  Class*& found = classes()[name];
  if (!found) found = new Class(name);
  return found;
}

void complain(const std::string& text) { complaints += text + "\n"; }

Id retain(Id object) {
  ++object->references;
  return object;
}

// What is gone is kept in memory, so that messages to it are noticed.
void release(Id object) {
  if (--object->references == 0) {
    --living;
    Class* isa = object->isa;
    if (isa->methods.count("dealloc")) reinterpret_cast<void (*)(Id)>(isa->methods["dealloc"])(object);
  }
}

Id in_pool(Id object) {
  if (pools.empty()) complain("a " + object->isa->name + " that belongs to nobody, and there is no pool");
  else pools.back().push_back(object);
  return object;
}

}  // namespace fake

using fake::Id;
using fake::Selector;

extern "C" {

void* fake_method(Id self, Selector selector) { return fake::method_of(self, selector); }

Id objc_getClass(const char* name) {
  auto found = fake::classes().find(name);
  return found == fake::classes().end() ? nullptr : found->second;
}

Selector sel_registerName(const char* name) { return &*fake::selectors.insert(name).first; }

void* objc_autoreleasePoolPush() {
  fake::pools.emplace_back();
  return reinterpret_cast<void*>(fake::pools.size());
}

void objc_autoreleasePoolPop(void* pool) {
  if (fake::pools.size() != reinterpret_cast<size_t>(pool)) fake::complain("a pool that is not the innermost ends");
  std::vector<Id> objects = std::move(fake::pools.back());
  fake::pools.pop_back();
  for (Id object : objects) fake::release(object);
}

const char* fake_complaints() { return fake::complaints.c_str(); }
void fake_forget_complaints() { fake::complaints.clear(); }
long fake_living_objects() { return fake::living; }
}

// objc_msgSend finds the method and goes on there as if it had been called: arguments stay where they are.
#if defined(__x86_64__)
asm(R"(
.globl objc_msgSend
.type objc_msgSend, @function
objc_msgSend:
  pushq %rbp
  movq %rsp, %rbp
  subq $64, %rsp
  movq %rdi, -8(%rbp)
  movq %rsi, -16(%rbp)
  movq %rdx, -24(%rbp)
  movq %rcx, -32(%rbp)
  movq %r8, -40(%rbp)
  movq %r9, -48(%rbp)
  call fake_method@PLT
  movq %rax, %r11
  movq -8(%rbp), %rdi
  movq -16(%rbp), %rsi
  movq -24(%rbp), %rdx
  movq -32(%rbp), %rcx
  movq -40(%rbp), %r8
  movq -48(%rbp), %r9
  leave
  jmp *%r11
.size objc_msgSend, . - objc_msgSend
)");
#elif defined(__aarch64__)
asm(R"(
.globl objc_msgSend
.type objc_msgSend, %function
objc_msgSend:
  stp x29, x30, [sp, #-80]!
  mov x29, sp
  stp x0, x1, [sp, #16]
  stp x2, x3, [sp, #32]
  stp x4, x5, [sp, #48]
  stp x6, x7, [sp, #64]
  bl fake_method
  mov x16, x0
  ldp x0, x1, [sp, #16]
  ldp x2, x3, [sp, #32]
  ldp x4, x5, [sp, #48]
  ldp x6, x7, [sp, #64]
  ldp x29, x30, [sp], #80
  br x16
.size objc_msgSend, . - objc_msgSend
)");
#else
#error "objc_msgSend is written for x86-64 and aarch64"
#endif
