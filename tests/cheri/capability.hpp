// A software capability: tag, address, bounds, permissions, seal; and its 128 bits in memory.
//
// Every operation is monotonic, as on the machine: what would give more authority than its operand has clears
// the tag instead. `ghost` is the test's own knowledge, seen by nothing under test: which allocation the
// capability came from, 0 for none.
#pragma once

#include "compressed.hpp"

namespace nonreuse::sim {

enum Permission : uint32_t {
  kLoad = 1,
  kStore = 2,
  kLoadCapability = 4,
  kStoreCapability = 8,
  kExecute = 16,
  kSystem = 32,
  kVmem = 64,  // CHERI_PERM_SW_VMEM: exempt from revocation
};
inline constexpr uint32_t kEveryPermission = 127;
inline constexpr uint32_t kDataAndCapabilities = kLoad | kStore | kLoadCapability | kStoreCapability;

struct Capability {
  bool tag = false;
  uint64_t address = 0;
  Bounds bounds;
  uint32_t permissions = 0;
  uint32_t seal = 0;  // object type; 0: not sealed
  uint32_t ghost = 0;

  bool sealed() const { return seal != 0; }
  bool usable() const { return tag && !sealed() && permissions != 0; }
  bool covers(uint64_t at, uint64_t bytes) const {
    return at >= bounds.base && Wide{at} + bytes <= bounds.top;
  }

  static Capability root(const Format& format, uint64_t base, uint64_t bytes) {
    Capability c{true, base, {}, kEveryPermission, 0, 0};
    c.bounds = format.decode(format.encode(base, Wide{base} + bytes), base);
    return c;
  }

  // Bounds of `length` bytes from the address, rounded outwards to what the format can say.
  Capability with_bounds(const Format& format, uint64_t length) const {
    Capability c = *this;
    c.bounds = format.decode(format.encode(address, Wide{address} + length), address);
    if (!tag || sealed() || !covers(address, length) || c.bounds.base < bounds.base ||
        c.bounds.top > bounds.top) {
      c.tag = false;
    }
    return c;
  }
  // Loses its tag where the bounds could no longer be told from the address.
  Capability with_address(const Format& format, uint64_t to) const {
    Capability c = *this;
    c.address = to;
    if (sealed()) c.tag = false;
    const Format::Encoded encoded = format.encode(bounds.base, bounds.top);
    if (!(format.decode(encoded, to) == bounds)) {
      c.tag = false;
      c.bounds = format.decode(encoded, to);
    }
    return c;
  }
  Capability with_permissions(uint32_t mask) const {
    Capability c = *this;
    c.permissions &= mask;
    if (sealed()) c.tag = false;
    return c;
  }
  Capability with_seal(uint32_t type) const {
    Capability c = *this;
    if (sealed() || type == 0 || type >= 1u << 15) c.tag = false;
    c.seal = type;
    return c;
  }
  Capability untagged() const {
    Capability c = *this;
    c.tag = false;
    return c;
  }

  // The upper half of the 128 bits; the lower is the address. The order of the fields is this model's own.
  uint64_t metadata(const Format& format) const {
    const Format::Encoded e = format.encode(bounds.base, bounds.top);
    return uint64_t{e.base} | uint64_t{e.top} << 16 | uint64_t{e.internal} << 30 |
           uint64_t{permissions & 127} << 32 | uint64_t{seal & 0x7fff} << 40;
  }
  static Capability from_bits(const Format& format, uint64_t address, uint64_t metadata, bool tag) {
    const Format::Encoded e{static_cast<uint32_t>(metadata & 0xffff),
                            static_cast<uint32_t>(metadata >> 16 & 0x3fff), (metadata >> 30 & 1) != 0};
    return {tag,
            address,
            format.decode(e, address),
            static_cast<uint32_t>(metadata >> 32 & 127),
            static_cast<uint32_t>(metadata >> 40 & 0x7fff),
            0};
  }
};

}  // namespace nonreuse::sim
