// From the text of kernels to what can be launched.
#pragma once

#include "device.h"

// Compiles a program; raises an error, and gives -1, where Metal refuses it.
int compile(Device* device, const char* text);

// A kernel of the program by its name; raises an error and gives null where there is none.
Id find_kernel(Device* device, const char* name);
