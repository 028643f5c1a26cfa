// Stub: what the library uses of FreeBSD's header of this name (utrace(2)). Types and names only.
#pragma once
#include <stddef.h>
extern "C" int utrace(const void* address, size_t length);
