// The malloc family: C11, POSIX and glibc meanings over the allocator. Built with USE_DL_PREFIX the names
// carry the prefix `dl`. errno is set where the standards say so and is never changed otherwise.
#include <dlmalloc_nonreuse.h>
#include <errno.h>
#include <stdio.h>

#include "override/process_heap.hpp"
#include "override/process_statistics.hpp"

#define NONREUSE_PUBLIC extern "C" __attribute__((visibility("default")))

using namespace nonreuse;

namespace {

// Of this process' heap: on capability machines they are not those of the same name in nonreuse.
using Payload = ProcessAllocator::Payload;
NONREUSE_ALWAYS_INLINE ProcessAllocator::Wild Wild(void* pointer) {
  return process_heap.wild(pointer);
}

NONREUSE_NOINLINE void* out_of_memory() {
  errno = ENOMEM;
  return nullptr;
}

NONREUSE_ALWAYS_INLINE void* result(Payload payload) {
  if (payload) [[likely]]
    return payload.get();
  return out_of_memory();
}

NONREUSE_ALWAYS_INLINE void* allocate(size_t size) {
  return result(with_front([size](ThreadFront& front) { return process_heap.allocate(front, size); },
                           Payload{}, WatchedMalloc(size)));
}

void* allocate_aligned(size_t alignment, size_t size) {
  return result(
      with_front([=](ThreadFront& front) { return process_heap.allocate_aligned(front, alignment, size); },
                 Payload{}, WatchedAligned(alignment, size)));
}

NONREUSE_NOINLINE void release_watched(void* payload, const char* call) {
  const bool done = with_front(
      [=](ThreadFront& front) {
        process_heap.free(front, Wild(payload), call);
        return true;
      },
      false, WatchedFree(payload));
  if (!done) process_heap.abandon(Wild(payload), call);
}

// Nothing is left to do after the heap's part, so that it needs no frame of ours.
NONREUSE_ALWAYS_INLINE void release(void* payload, const char* call = "free") {
  if (payload == nullptr) return;
  ThreadFront* const front = thread_front;
  if (front == nullptr || WatchedFree::probed()) [[unlikely]]
    return release_watched(payload, call);
  process_heap.free(*front, Wild(payload), call);
}

void* reallocate(void* old, size_t size) {
  if (old == nullptr) return allocate(size);
  if (size == 0) {
    release(old, "realloc");
    return nullptr;
  }
  return result(
      with_front([=](ThreadFront& front) { return process_heap.reallocate(front, Wild(old), size); },
                 Payload{}, WatchedRealloc(old, size)));
}

}  // namespace

NONREUSE_PUBLIC void* NONREUSE_NAME(malloc)(size_t size) {
  return allocate(size);
}

NONREUSE_PUBLIC void NONREUSE_NAME(free)(void* payload) {
  release(payload);
}

// Memory is all zero when it is handed out, so nothing is left to clear.
NONREUSE_PUBLIC void* NONREUSE_NAME(calloc)(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return out_of_memory();
  return allocate(bytes);
}

NONREUSE_PUBLIC void* NONREUSE_NAME(realloc)(void* old, size_t size) {
  return reallocate(old, size);
}

NONREUSE_PUBLIC void* NONREUSE_NAME(reallocarray)(void* old, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return out_of_memory();
  return reallocate(old, bytes);
}

NONREUSE_PUBLIC int NONREUSE_NAME(posix_memalign)(void** out, size_t alignment, size_t size) {
  if (!is_power_of_two(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  const int saved = errno;
  void* payload = allocate_aligned(alignment, size);
  errno = saved;
  if (payload == nullptr) return ENOMEM;
  *out = payload;
  return 0;
}

NONREUSE_PUBLIC void* NONREUSE_NAME(aligned_alloc)(size_t alignment, size_t size) {
  if (is_power_of_two(alignment)) return allocate_aligned(alignment, size);
  errno = EINVAL;
  return nullptr;
}

// As glibc: an alignment that is no power of two is rounded up to one.
NONREUSE_PUBLIC void* NONREUSE_NAME(memalign)(size_t alignment, size_t size) {
  if (alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return nullptr;
  }
  return allocate_aligned(alignment <= 1 ? 1 : std::bit_ceil(alignment), size);
}

NONREUSE_PUBLIC void* NONREUSE_NAME(valloc)(size_t size) {
  return allocate_aligned(os::page_size(), size);
}

NONREUSE_PUBLIC void* NONREUSE_NAME(pvalloc)(size_t size) {
  const size_t page = os::page_size();
  if (size > SIZE_MAX - page) return out_of_memory();
  return allocate_aligned(page, align_up(size, page));
}

NONREUSE_PUBLIC size_t NONREUSE_NAME(malloc_usable_size)(void* payload) {
  return payload == nullptr ? 0 : process_heap.usable_size(process_heap.wild(payload));
}

NONREUSE_PUBLIC int NONREUSE_NAME(mallopt)(int parameter, int value) {
  return set_mallopt(parameter, value, process_heap.options()) ? 1 : 0;
}

NONREUSE_PUBLIC nonreuse_mallinfo2 NONREUSE_NAME(mallinfo2)(void) {
  nonreuse_mallinfo2 info;
  process_heap.mallinfo(info);
  return info;
}

#if !USE_DL_PREFIX
// mallinfo(3): as mallinfo2 in ints, which wrap.
struct NarrowMallinfo {
  int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
NONREUSE_PUBLIC NarrowMallinfo mallinfo(void) {
  nonreuse_mallinfo2 wide;
  process_heap.mallinfo(wide);
  const auto narrow = [](size_t value) { return static_cast<int>(value); };
  return {narrow(wide.arena),    narrow(wide.ordblks), narrow(wide.smblks),  narrow(wide.hblks),
          narrow(wide.hblkhd),   narrow(wide.usmblks), narrow(wide.fsmblks), narrow(wide.uordblks),
          narrow(wide.fordblks), narrow(wide.keepcost)};
}
#endif

NONREUSE_PUBLIC int NONREUSE_NAME(malloc_info)(int options, FILE* stream) {
  if (options != 0) {
    errno = EINVAL;
    return -1;
  }
  nonreuse_statistics s;
  nonreuse_get_statistics(&s);
  const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  const int written =
      fprintf(stream,
              "<malloc version=\"nonreuse-1\">\n"
              "<system type=\"current\" size=\"%llu\"/>\n<system type=\"max\" size=\"%llu\"/>\n"
              "<heap inuse=\"%llu\" live=\"%llu\"/>\n"
              "<quarantine waiting=\"%llu\" given_back=\"%llu\" held_chunks=\"%llu\" held=\"%llu\"/>\n"
              "<sweeps count=\"%llu\" abandoned=\"%llu\" released=\"%llu\"/>\n</malloc>\n",
              number(s.footprint_bytes), number(s.footprint_max), number(s.heap_bytes), number(s.live_bytes),
              number(s.quarantined_bytes), number(s.decommitted_bytes), number(s.held_chunks),
              number(s.held_bytes), number(s.sweeps), number(s.sweeps_abandoned), number(s.released_bytes));
  return written < 0 ? -1 : 0;
}

NONREUSE_PUBLIC int NONREUSE_NAME(malloc_trim)(size_t pad) {
  return process_heap.trim(pad) ? 1 : 0;
}

NONREUSE_PUBLIC void NONREUSE_NAME(malloc_stats)(void) {
  print_statistics();
}

NONREUSE_PUBLIC int NONREUSE_NAME(malloc_revoke)(void) {
  const SweepResult swept =
      with_front([](ThreadFront& front) { return process_heap.revoke(front); }, SweepResult::nothing);
  if (swept == SweepResult::blind) errno = EPERM;
  if (swept == SweepResult::retry) errno = EAGAIN;
  return swept == SweepResult::blind || swept == SweepResult::retry ? -1 : 0;
}

NONREUSE_PUBLIC int NONREUSE_NAME(malloc_is_revoking)(void) {
  return process_heap.tells_revoking() ? 1 : 0;
}

NONREUSE_PUBLIC void nonreuse_get_statistics(nonreuse_statistics* out) {
  process_heap.statistics(*out);
}
