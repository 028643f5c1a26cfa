// The pointer model of capability machines.
//
// A payload's bounds are exactly the request, rounded up only where the format of the machine cannot say it,
// and it lacks the permission that exempts from revocation. What a program hands in must be the capability
// that it was given, whole: less than that (narrowed, fewer permissions) is refused as well as more, so that
// nobody who was lent a part can free, resize or learn about the rest. Its authority is then forgotten; the
// heap goes on with its own.
//
// The length that was handed out is kept in the chunk's last byte (of chunks above kOneByteChunk granules:
// the last eight), as the number of bytes behind it. No capability that was ever handed out covers these
// bytes: they are the heap's alone, and they also keep the base of an empty capability at the end of a
// payload inside the chunk, where painting the chunk finds it. Thread-safety: as the chunk's.
#pragma once

#include <concepts>

#include "base/pointers.hpp"
#include "base/types.hpp"

namespace nonreuse {

// The operations on capabilities of one machine: the compiler's on CHERI, a model's in tests.
template <class O>
concept CapabilityOps = requires(const O& ops, const typename O::Value& value, uint64_t n) {
  // A capability, or an address without authority; default: null.
  requires std::default_initializable<typename O::Value>;
  { ops.tagged(value) } -> std::same_as<bool>;
  { ops.sealed(value) } -> std::same_as<bool>;
  { ops.address(value) } -> std::same_as<uint64_t>;
  { ops.base(value) } -> std::same_as<uint64_t>;
  { ops.length(value) } -> std::same_as<uint64_t>;
  { ops.permissions(value) } -> std::same_as<uint64_t>;
  // Never more than `value` grants.
  { ops.with_address(value, n) } -> std::same_as<typename O::Value>;
  { ops.with_bounds(value, n) } -> std::same_as<typename O::Value>;  // [address, address + n)
  // Without what a program is not to have: above all the exemption from revocation.
  { ops.for_program(value) } -> std::same_as<typename O::Value>;
  // Bytes that bounds of a request of n bytes cover, and the mask that aligns their base.
  { ops.representable_length(n) } -> std::same_as<uint64_t>;
  { ops.representable_mask(n) } -> std::same_as<uint64_t>;
  // A number of n bytes (1 or 8, little end first) at the address.
  { ops.load(value, n) } -> std::same_as<uint64_t>;
  { ops.store(value, n, n) } -> std::same_as<void>;  // value, number, bytes
  // Copies n bytes, capabilities as capabilities; both 16-byte aligned.
  { ops.copy(value, value, n) } -> std::same_as<void>;
};

// What is wrong with a capability whose address is the start of a live chunk.
enum class CapabilityFault : uint8_t {
  none,
  untagged,  // revoked, overwritten, or an integer
  revoked,   // as `untagged`, where the kernel takes the permissions instead
  sealed,
  offset,       // the address is not its base
  narrowed,     // covers less than was handed out
  widened,      // covers more
  permissions,  // others than were handed out
};

template <CapabilityOps O>
class CapabilityPointers {
 public:
  using Value = typename O::Value;

  class Wild {
   public:
    Wild(const O& ops, const Value& value) : value_(value), address_(ops.address(value)) {}
    Address address() const { return address_; }
    bool null() const { return address_ == 0; }
    const Value& value() const { return value_; }

   private:
    Value value_;
    Address address_;
  };

  class Payload {
   public:
    constexpr Payload() = default;
    explicit Payload(const Value& value) : value_(value), any_(true) {}
    const Value& get() const { return value_; }
    explicit operator bool() const { return any_; }

   private:
    Value value_{};
    bool any_ = false;
  };

  using Chunk = nonreuse::Chunk;

  static constexpr bool kCapabilities = true;
  // The end of a live chunk must not be reused: the capability that covered it has its base in the chunk's
  // start, which is not painted, and would never be revoked.
  static constexpr bool kMayShrink = false;

  template <class Platform>
  explicit constexpr CapabilityPointers(Platform& platform) : ops_(platform.capability_ops()) {}
  // The heap's own capability: all addresses it may ever have, exempt from revocation.
  template <class Platform>
  void attach(Platform& platform) {
    authority_ = platform.authority();
  }

  Granules granules_for(size_t size) const {
    if (size > PTRDIFF_MAX) return kTooMany;
    const uint64_t length = ops_.representable_length(size);
    const Granules granules = (length >> kGranuleShift) + 1;
    return granules <= kOneByteChunk ? granules : ((length + 7) >> kGranuleShift) + 1;
  }
  Granules alignment_for(size_t size, Granules wanted) const {
    const Granules needed = (~ops_.representable_mask(size) + kGranule) >> kGranuleShift;
    return needed > wanted ? needed : wanted;
  }

  // Whether the bounds of a payload of `size` bytes can begin where the chunk does.
  bool fits(const Chunk& chunk, size_t size) const {
    return (chunk.address() & ~ops_.representable_mask(size)) == 0;
  }

  // Notes the length and gives the program its capability.
  Payload payload(const Chunk& chunk, size_t size) const {
    const uint64_t length = ops_.representable_length(size);
    const uint64_t bytes = note_bytes(chunk);
    ops_.store(at(chunk.address() + chunk.bytes() - bytes), chunk.bytes() - length, bytes);
    return Payload(ops_.for_program(ops_.with_bounds(at(chunk.address()), size)));
  }

  // Bytes handed out.
  size_t usable(const Chunk& chunk) const {
    const uint64_t bytes = note_bytes(chunk);
    const uint64_t behind = ops_.load(at(chunk.address() + chunk.bytes() - bytes), bytes);
    return behind <= chunk.bytes() ? chunk.bytes() - behind : 0;
  }
  // Before the chunk grows: the note would lie in the middle of it.
  void forget_length(const Chunk& chunk) const {
    const uint64_t bytes = note_bytes(chunk);
    ops_.store(at(chunk.address() + chunk.bytes() - bytes), 0, bytes);
  }

  // What is wrong with what a program handed in as `chunk`, a live chunk that starts at its address.
  CapabilityFault judge(const Wild& pointer, const Chunk& chunk) const {
    const Value& value = pointer.value();
    if (!ops_.tagged(value)) return CapabilityFault::untagged;
    if (ops_.permissions(value) == 0) return CapabilityFault::revoked;
    if (ops_.sealed(value)) return CapabilityFault::sealed;
    if (ops_.base(value) != ops_.address(value)) return CapabilityFault::offset;
    const size_t length = usable(chunk);
    if (ops_.length(value) != length) {
      return ops_.length(value) < length ? CapabilityFault::narrowed : CapabilityFault::widened;
    }
    if (ops_.permissions(value) != ops_.permissions(ops_.for_program(authority_))) {
      return CapabilityFault::permissions;
    }
    return CapabilityFault::none;
  }
  uint64_t length(const Wild& pointer) const { return ops_.length(pointer.value()); }

  Wild wild(const Value& value) const { return Wild(ops_, value); }
  // The heap's own pointer to where `pointer` points. `base` is the heap's.
  static Address own(const Wild& pointer, Address base) {
    return base + static_cast<size_t>(pointer.address() - base);
  }
  void copy(const Payload& to, const Chunk& from, size_t bytes) const {
    ops_.copy(to.get(), at(from.address()), bytes);
  }

 private:
  static constexpr Granules kOneByteChunk = 62;  // what is behind the payload there is less than 256 bytes
  static constexpr Granules kTooMany = ~Granules{0} >> (kGranuleShift + 1);

  static uint64_t note_bytes(const Chunk& chunk) { return chunk.run().length <= kOneByteChunk ? 1 : 8; }
  Value at(Address address) const { return ops_.with_address(authority_, address); }

  O ops_;
  Value authority_{};
};

}  // namespace nonreuse
