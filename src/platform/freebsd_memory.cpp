#include "platform/freebsd_memory.hpp"

#include <string.h>
#include <sys/mman.h>

#include "base/settings.hpp"
#include "platform/os.hpp"
#include "platform/saved_errno.hpp"
#include "platform/zeroing.hpp"

// What the whole reservation may become. A FreeBSD without PROT_MAX lets every mapping be anything. CheriBSD
// adds the right to hold capabilities (PROT_CAP) to anonymous memory by itself; where it has a name it is
// asked for.
#ifndef PROT_MAX
#define PROT_MAX(protection) 0
#endif
#ifndef PROT_CAP
#define PROT_CAP 0
#endif

namespace nonreuse {
namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE | PROT_CAP;

// The one region of a build without HAVE_MMAP: uninitialised static data, backed when touched.
constexpr size_t kStaticRegion = kHaveMmap ? 16 : kStaticHeapBytes;
[[maybe_unused]] alignas(65536) char static_region[kStaticRegion];
#if defined(__CHERI_PURE_CAPABILITY__)
static_assert(kHaveMmap, "HAVE_MMAP=0: the capability to static data is not exempt from revocation");
#endif

bool map_fresh(void* at, size_t bytes) {
  const SavedErrno saved;
  return mmap(at, bytes, kReadWrite | PROT_MAX(kReadWrite), MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0) !=
         MAP_FAILED;
}

bool put_guard(void* at, size_t bytes) {
  const SavedErrno saved;
  return mmap(at, bytes, PROT_NONE | PROT_MAX(kReadWrite), MAP_GUARD | MAP_FIXED, -1, 0) != MAP_FAILED;
}

}  // namespace

AddressClaim FreebsdMemory::claim(size_t bytes) {
  page_size_ = os::page_size();
  if constexpr (!kHaveMmap) {
    authority_ = static_region;
    return {address_of(static_region), kStaticRegion};
  }
  const SavedErrno saved;
  for (; bytes >= (size_t{64} << 20); bytes /= 2) {
    void* const got = mmap(nullptr, bytes, PROT_NONE | PROT_MAX(kReadWrite), MAP_GUARD, -1, 0);
    if (got == MAP_FAILED) continue;
    authority_ = got;
    return {address_of(got), bytes};
  }
  return {};
}

CommitResult FreebsdMemory::commit(Address address, size_t bytes) {
  if constexpr (!kHaveMmap) {
    const Address region = address_of(static_region);
    return address + bytes <= region + kStaticRegion ? CommitResult::done : CommitResult::no_memory;
  }
  return map_fresh(pointer(address), bytes) ? CommitResult::done : CommitResult::no_memory;
}

bool FreebsdMemory::uncommit(Address address, size_t bytes) {
  if constexpr (!kHaveMmap) return false;
  return put_guard(pointer(address), bytes);
}

// No advice of madvise(2) promises zeroes (MADV_FREE may leave the contents): fresh memory takes their place.
bool FreebsdMemory::discard(Address address, size_t bytes) {
  if constexpr (!kHaveMmap) return false;
  return map_fresh(pointer(address), bytes);
}

bool FreebsdMemory::trap(Address address, size_t bytes) {
  if constexpr (!kHaveMmap) return false;
  return put_guard(pointer(address), bytes);
}

bool FreebsdMemory::untrap(Address address, size_t bytes) {
  return map_fresh(pointer(address), bytes);
}

void FreebsdMemory::zero(Address address, size_t bytes) {
  memset(pointer(address), 0, bytes);
}

bool FreebsdMemory::make_zero(Address address, size_t bytes) {
  return zero_where_dirty(pointer(address), bytes, page_size_);
}

}  // namespace nonreuse
