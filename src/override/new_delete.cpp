// operator new and delete, all forms. The library does not depend on the C++ runtime: where a program has
// one, its new-handler and its bad_alloc are found through weak symbols.
#include <new>

#include "override/process_heap.hpp"
#include "override/quiet_handler.hpp"

#define NONREUSE_PUBLIC __attribute__((visibility("default")))

extern "C" {
// std::__throw_bad_alloc() and std::get_new_handler(), as every C++ runtime on this ABI exports them.
[[noreturn]] void _ZSt17__throw_bad_allocv() __attribute__((weak));
std::new_handler _ZSt15get_new_handlerv() noexcept __attribute__((weak));
}

using namespace nonreuse;

namespace {

// Of this process' heap: on capability machines they are not those of the same name in nonreuse.
using Payload = ProcessAllocator::Payload;
NONREUSE_ALWAYS_INLINE ProcessAllocator::Wild Wild(void* pointer) {
  return process_heap.wild(pointer);
}

Payload attempt(size_t size, size_t alignment) {
  return with_front(
      [=](ThreadFront& front) {
        return alignment <= kGranule ? process_heap.allocate(front, size)
                                     : process_heap.allocate_aligned(front, alignment, size);
      },
      Payload{}, WatchedAligned(alignment, size));
}

// Asks the new-handler for memory until there is some or no handler is left. A handler that throws leaves
// through the caller.
NONREUSE_NOINLINE void* insist(size_t size, size_t alignment, bool may_throw) {
  for (;;) {
    const std::new_handler handler = _ZSt15get_new_handlerv != nullptr ? _ZSt15get_new_handlerv() : nullptr;
    if (handler == nullptr) break;
    if (may_throw)
      handler();
    else if (!call_quietly(handler))
      return nullptr;
    if (const Payload payload = attempt(size, alignment)) return payload.get();
  }
  if (!may_throw) return nullptr;
  if (_ZSt17__throw_bad_allocv != nullptr) _ZSt17__throw_bad_allocv();
  misuse::say("operator new: out of memory, and the program has no C++ runtime to throw bad_alloc with");
  os::die();
}

NONREUSE_ALWAYS_INLINE void* create(size_t size, bool may_throw) {
  const Payload payload =
      with_front([size](ThreadFront& front) { return process_heap.allocate(front, size); }, Payload{},
                 WatchedMalloc(size));
  if (payload) [[likely]]
    return payload.get();
  return insist(size, 1, may_throw);
}

void* create_aligned(size_t size, std::align_val_t alignment, bool may_throw) {
  const size_t bytes = static_cast<size_t>(alignment);
  if (const Payload payload = attempt(size, bytes)) return payload.get();
  return insist(size, bytes, may_throw);
}

NONREUSE_ALWAYS_INLINE void destroy(void* payload) {
  if (payload == nullptr) return;
  const bool done = with_front(
      [=](ThreadFront& front) {
        process_heap.free(front, Wild(payload));
        return true;
      },
      false, WatchedFree(payload));
  if (!done) process_heap.abandon(Wild(payload), "free");
}

}  // namespace

NONREUSE_PUBLIC void* operator new(size_t size) {
  return create(size, true);
}
NONREUSE_PUBLIC void* operator new[](size_t size) {
  return create(size, true);
}
NONREUSE_PUBLIC void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return create(size, false);
}
NONREUSE_PUBLIC void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return create(size, false);
}
NONREUSE_PUBLIC void* operator new(size_t size, std::align_val_t a) {
  return create_aligned(size, a, true);
}
NONREUSE_PUBLIC void* operator new[](size_t size, std::align_val_t a) {
  return create_aligned(size, a, true);
}
NONREUSE_PUBLIC void* operator new(size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
  return create_aligned(size, a, false);
}
NONREUSE_PUBLIC void* operator new[](size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
  return create_aligned(size, a, false);
}

NONREUSE_PUBLIC void operator delete(void* p) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete[](void* p) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete(void* p, size_t) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete[](void* p, size_t) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete(void* p, const std::nothrow_t&) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete[](void* p, const std::nothrow_t&) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete(void* p, std::align_val_t) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete[](void* p, std::align_val_t) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete(void* p, size_t, std::align_val_t) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete[](void* p, size_t, std::align_val_t) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept {
  destroy(p);
}
NONREUSE_PUBLIC void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept {
  destroy(p);
}
