// A CHERI machine in software: tagged memory, threads with register files, the revocation shadow, epochs, and
// a revoker that either stops the world or sweeps behind a load barrier (Cornucopia and Cornucopia Reloaded:
// Wesley Filardo et al., IEEE S&P 2020 and ASPLOS 2024).
//
// The machine's addresses are numbers at which no memory of this process lies: what makes a pointer of one
// without the authority of pointer() stops the test. The bytes are elsewhere; beside them lie a tag for each
// 16 bytes and the test's own note of which allocation a stored capability came from. Any other store clears
// the tag. The program's loads and stores go through load() and store(), which check authority as the machine
// does. The same object is the heap's memory platform, with the heap's own authority over all of the claim.
//
// Writes to the shadow pass a store buffer: the kernel sees them in order, but when somebody else runs in
// between, only those before the last fence or system call for certain.
//
// Deterministic and single-threaded: what runs beside what is decided by the listener, which is told of every
// point at which another thread or the kernel might run.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "base/bits.hpp"
#include "base/capability_pointers.hpp"
#include "base/pointers.hpp"
#include "capability.hpp"
#include "platform/concept.hpp"
#include "recycled_memory.hpp"
#include "revoke/cheri_kernel.hpp"

namespace nonreuse::sim {

struct MachineConfig {
  Format format = kCc128;
  bool load_barrier = true;          // else the world stops for the sweep
  bool take_tags = true;             // else revocation takes the permissions and leaves the tag
  size_t claim = size_t{256} << 20;  // of which little becomes real
  unsigned threads = 3;
  RevocationEpoch first_epoch = 0;
};

// What a test may break, in the machine below the heap, to see that it is noticed.
struct MachinePlants {
  bool exempt_payloads = false;  // payloads keep the exemption from revocation
  bool loose_bounds = false;     // payloads are bounded to whole granules
  bool nothing_zeroed = false;
  bool copy_past_barrier = false;  // the kernel never traps a load
  bool registers_missed = false;   // the kernel does not look at registers
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual void point(const char* where) = 0;  // something else may run now
  virtual void revoked(const Capability& capability) = 0;
  // The backend holds that no capability to [begin, end) is left; released() follows.
  virtual void cleared(Address begin, Address end) = 0;
  virtual void released() = 0;
};

class Machine;

// The operations that the library's pointer model asks for.
class Ops {
 public:
  using Value = Capability;
  explicit Ops(Machine* machine) : machine_(machine) {}
  bool tagged(const Value& c) const { return c.tag; }
  bool sealed(const Value& c) const { return c.sealed(); }
  uint64_t address(const Value& c) const { return c.address; }
  uint64_t base(const Value& c) const { return c.bounds.base; }
  uint64_t length(const Value& c) const { return static_cast<uint64_t>(c.bounds.length()); }
  uint64_t permissions(const Value& c) const { return c.permissions; }
  Value with_address(const Value& c, uint64_t to) const;
  Value with_bounds(const Value& c, uint64_t length) const;
  Value for_program(const Value& c) const;
  uint64_t representable_length(uint64_t n) const;
  uint64_t representable_mask(uint64_t n) const;
  uint64_t load(const Value& c, uint64_t bytes) const;
  void store(const Value& c, uint64_t number, uint64_t bytes) const;
  void copy(const Value& to, const Value& from, uint64_t bytes) const;

 private:
  Machine* machine_;
};
static_assert(CapabilityOps<Ops>);

class Machine {
 public:
  using Pointers = CapabilityPointers<Ops>;
  static constexpr size_t kPage = 4096;
  static constexpr size_t kGlobals = 4 * kPage;               // static data of the program, below the claim
  static constexpr Address kFirstAddress = Address{1} << 52;  // the system maps nothing so high
  static constexpr unsigned kRegisters = 8;
  using Registers = std::array<Capability, kRegisters>;

  explicit Machine(const MachineConfig& config)
      : config_(config),
        threads_(config.threads),
        epoch_(config.first_epoch),
        bytes_(kGlobals + config.claim),
        memory_(memory_for(bytes_)) {
    claim_ = kFirstAddress + kAlign;
    base_ = claim_ - kGlobals;
    const uintptr_t begin_of_claim = align_up(reinterpret_cast<uintptr_t>(memory_.data()) + kGlobals, kAlign);
    to_host_ = begin_of_claim - claim_;
    uintptr_t at = begin_of_claim + config.claim;
    const auto table = [&](size_t size) {
      const uintptr_t begin = at;
      at += align_up(size, 64);
      return begin;
    };
    ghosts_ = reinterpret_cast<uint32_t*>(table(bytes_ / 4));
    tags_ = reinterpret_cast<uint64_t*>(table(bytes_ / 128));
    shadow_ = reinterpret_cast<uint64_t*>(table(bytes_ / 128));
    seen_shadow_ = reinterpret_cast<uint64_t*>(table(bytes_ / 128));
    pages_ = reinterpret_cast<Page*>(table(bytes_ / kPage * sizeof(Page)));
    for (size_t i = 0; i < kGlobals / kPage; ++i) pages_[i].committed = true;
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  MachinePlants plants;
  Listener* listener = nullptr;
  std::vector<RevocationEpoch*> published;  // where the kernel writes the epoch, too
  // The shadow as its writer sees it: the bit of `base()` is the lowest of the first word.
  const uint64_t* shadow() const { return shadow_; }
  Address base() const { return base_; }
  const MachineConfig& config() const { return config_; }
  const Format& format() const { return config_.format; }
  Registers& registers(unsigned thread) { return threads_[thread]; }
  unsigned threads() const { return static_cast<unsigned>(threads_.size()); }

  // ---- authority ------------------------------------------------------------------------------------
  Capability authority() const { return Capability::root(config_.format, claim_, config_.claim); }
  Capability globals() const {
    return Capability::root(config_.format, base_, kGlobals).with_permissions(kDataAndCapabilities);
  }
  Ops capability_ops() { return Ops(this); }
  Address claim_base() const { return claim_; }

  // ---- instructions. False: the machine traps, and nothing happens ------------------------------------
  bool load(const Capability& authority, Capability& out) {
    if (!allowed(authority, kGranule, kLoad) || authority.address % kGranule != 0) return false;
    barrier(authority.address);
    out = read(granule(authority.address));
    if ((authority.permissions & kLoadCapability) == 0) out.tag = false;
    return true;
  }
  bool store(const Capability& authority, const Capability& value) {
    const uint32_t needed = value.tag ? kStore | kStoreCapability : kStore;
    if (!allowed(authority, kGranule, needed) || authority.address % kGranule != 0) return false;
    write(granule(authority.address), value);
    return true;
  }
  // Up to 8 bytes that are no capability.
  bool store_data(const Capability& authority, uint64_t value, size_t bytes) {
    if (!allowed(authority, bytes, kStore)) return false;
    put(authority.address, value, bytes);
    return true;
  }
  bool load_data(const Capability& authority, uint64_t& value, size_t bytes) {
    if (!allowed(authority, bytes, kLoad)) return false;
    value = get(authority.address, bytes);
    return true;
  }

  // ---- what the test looks at, without side effects ---------------------------------------------------
  unsigned char* host(Address address) const { return reinterpret_cast<unsigned char*>(address + to_host_); }
  bool tag_at(uint64_t address) const { return tagged(granule(address)); }
  // Calls f(capability) for all that a program could come to hold: registers, and memory as a load would give
  // it.
  template <class F>
  void for_each_reachable(F&& f) {
    for (const Registers& registers : threads_) {
      for (const Capability& c : registers) {
        if (c.usable()) f(c);
      }
    }
    for (size_t word = 0; word * 64 < high_; ++word) {
      for (uint64_t left = tags_[word]; left != 0; left &= left - 1) {
        const size_t at = word * 64 + static_cast<unsigned>(std::countr_zero(left));
        const Page& page = pages_[at * kGranule / kPage];
        const Capability c = read(at);
        if (!c.tag || c.permissions == 0 || !page.committed || page.trapped) continue;
        if (stale(page) && revocable(c)) continue;  // a load would not give it any more
        f(c);
      }
    }
  }

  // ---- the kernel's side of revocation --------------------------------------------------------------
  RevocationEpoch epoch() const { return epoch_; }
  bool open() const { return (epoch_ & 1) != 0; }
  // Stops the world for a moment: registers are looked at, and every page's loads will trap.
  void begin_revocation() {
    count_epoch();
    ++generation_;
    sweep_at_ = 0;
    sweep_end_ = pages_in_use();
    if (!plants.registers_missed) {
      for (Registers& registers : threads_) {
        for (Capability& c : registers) revoke_if_due(c);
      }
    }
    if (config_.load_barrier) return;
    for (size_t i = 0; i < pages_in_use(); ++i) sweep_page(i);
  }
  // One page of an open revocation, or its end. Up and down in turn, so that no page is always the first.
  void advance_revocation() {
    while (sweep_at_ < sweep_end_) {
      const size_t page = (generation_ & 1) != 0 ? sweep_at_ : sweep_end_ - 1 - sweep_at_;
      ++sweep_at_;
      if (stale(pages_[page]) && any_tag(page)) return sweep_page(page);
      pages_[page].generation = generation_;
    }
    count_epoch();
  }
  // The user's writes to the shadow.
  void set_shadow(Address begin, Address end, bool painted) {
    mark(shadow_, begin, end, painted);
    buffer_.push_back({begin, end, painted});
  }
  uint64_t shadow_word(Address address) const { return shadow_[granule(address) / 64]; }
  bool shadow_bit(uint64_t address) const { return test(shadow_, granule(address)); }
  bool buffered() const { return !buffer_.empty(); }
  void drain_one() {
    mark(seen_shadow_, buffer_.front().begin, buffer_.front().end, buffer_.front().painted);
    buffer_.pop_front();
  }
  void drain() {
    while (buffered()) drain_one();
  }
  bool shadow_clear() const {
    for (size_t word = 0; word < bytes_ / 1024; ++word) {
      if (shadow_[word] != 0) return false;
    }
    return true;
  }

  // ---- MemoryPlatform -------------------------------------------------------------------------------
  size_t page_size() const { return kPage; }
  AddressClaim claim(size_t) { return {claim_, config_.claim}; }
  void* pointer(Address address) {
    if (address - claim_ >= config_.claim) stop("the heap points outside of its claim");
    return host(address);
  }
  CommitResult commit(Address address, size_t bytes) {
    if (address + bytes > commit_limit_) return CommitResult::no_memory;
    for_pages(address, bytes, [](Page& page) { page.committed = true; });
    return CommitResult::done;
  }
  bool uncommit(Address address, size_t bytes) {
    drop(address, bytes);
    for_pages(address, bytes, [](Page& page) { page.committed = page.trapped = false; });
    return true;
  }
  bool discard(Address address, size_t bytes) {
    drop(address, bytes);
    return true;
  }
  bool trap(Address address, size_t bytes) {
    drop(address, bytes);
    for_pages(address, bytes, [](Page& page) { page.trapped = true; });
    return true;
  }
  bool untrap(Address address, size_t bytes) {
    for_pages(address, bytes, [](Page& page) { page.trapped = false; });
    return true;
  }
  void populate(Address, size_t) {}
  size_t movable(Address, size_t) { return 0; }
  MoveResult move(Address, Address, size_t) { return MoveResult::refused; }
  void zero(Address address, size_t bytes) {
    if (plants.nothing_zeroed) return;
    memset(host(address), 0, bytes);
    clear_tags(address, bytes);
  }
  void zero_short(Address address, size_t bytes) { zero(address, bytes); }
  bool make_zero(Address address, size_t bytes) {
    if (plants.nothing_zeroed) return false;
    bool dirty = false;
    for (Address at = address; at < address + bytes; at += 8) dirty |= get_word(at) != 0;
    for (Address at = address; at < address + bytes; at += kGranule) dirty |= tagged(granule(at));
    if (dirty) zero(address, bytes);
    return dirty;
  }
  [[noreturn]] void stop(const char* why) const {
    fprintf(stderr, "machine: %s\n", why);
    abort();
  }
  void limit_commits(size_t heap_bytes) { commit_limit_ = claim_ + heap_bytes; }

 private:
  friend class Ops;
  struct Page {
    bool committed, trapped;
    uint32_t generation;
  };
  struct Write {
    Address begin, end;
    bool painted;
  };

  size_t granule(uint64_t address) const { return (address - base_) / kGranule; }
  static bool test(const uint64_t* words, size_t bit) { return (words[bit / 64] >> (bit % 64) & 1) != 0; }
  static void assign(uint64_t* words, size_t bit, bool on) {
    const uint64_t mask = uint64_t{1} << (bit % 64);
    words[bit / 64] = on ? words[bit / 64] | mask : words[bit / 64] & ~mask;
  }
  void mark(uint64_t* words, Address begin, Address end, bool on) {
    if (begin >= end) return;
    if (on)
      bits::set(words, granule(begin), granule(end) - granule(begin));
    else
      bits::clear(words, granule(begin), granule(end) - granule(begin));
  }
  bool tagged(size_t g) const { return test(tags_, g); }
  void clear_tags(uint64_t address, uint64_t bytes) {
    if (bytes != 0) mark(tags_, align_down(address, kGranule), align_up(address + bytes, kGranule), false);
  }
  uint64_t get_word(uint64_t address) const {
    uint64_t value;
    memcpy(&value, host(address), 8);
    return value;
  }
  uint64_t get(uint64_t address, size_t bytes) const {
    uint64_t value = 0;
    memcpy(&value, host(address), bytes);
    return value;
  }
  void put(uint64_t address, uint64_t value, size_t bytes) {
    memcpy(host(address), &value, bytes);
    clear_tags(address, bytes);
  }
  Capability read(size_t g) const {
    const uint64_t address = base_ + g * kGranule;
    Capability c = Capability::from_bits(config_.format, get_word(address), get_word(address + 8), tagged(g));
    c.ghost = ghosts_[g];
    return c;
  }
  void write(size_t g, const Capability& c) {
    const uint64_t words[2] = {c.address, c.metadata(config_.format)};
    memcpy(host(base_ + g * kGranule), words, sizeof words);
    assign(tags_, g, c.tag);
    if (c.tag && g >= high_) high_ = g + 1;
    ghosts_[g] = c.ghost;
  }

  bool allowed(const Capability& authority, size_t bytes, uint32_t permissions) const {
    if (!authority.usable() || (authority.permissions & permissions) != permissions) return false;
    if (!authority.covers(authority.address, bytes)) return false;
    const Page& page = pages_[(authority.address - base_) / kPage];
    return page.committed && !page.trapped;
  }

  bool revocable(const Capability& c) const {
    return c.tag && (c.permissions & kVmem) == 0 && c.permissions != 0 &&
           test(seen_shadow_, granule(c.bounds.base));
  }
  bool revoke_if_due(Capability& c) {
    if (!revocable(c)) return false;
    if (listener != nullptr) listener->revoked(c);
    if (config_.take_tags)
      c.tag = false;
    else
      c.permissions = 0;
    return true;
  }
  bool stale(const Page& page) const { return open() && page.generation != generation_; }
  void count_epoch() {
    epoch_ = (epoch_ + 1) & ((RevocationEpoch{1} << kEpochBits) - 1);
    for (RevocationEpoch* copy : published) *copy = epoch_;
  }
  size_t pages_in_use() const { return (high_ * kGranule + kPage - 1) / kPage; }
  bool any_tag(size_t page) const {
    for (size_t word = page * 4; word < page * 4 + 4; ++word) {
      if (tags_[word] != 0) return true;
    }
    return false;
  }
  void sweep_page(size_t page) {
    pages_[page].generation = generation_;
    for (size_t word = page * 4; word < page * 4 + 4; ++word) {
      for (uint64_t left = tags_[word]; left != 0; left &= left - 1) {
        const size_t g = word * 64 + static_cast<unsigned>(std::countr_zero(left));
        Capability c = read(g);
        if (revoke_if_due(c)) write(g, c);
      }
    }
  }
  // What a load of a capability meets: its page is swept first, if it was not yet.
  void barrier(uint64_t address) {
    const size_t page = (address - base_) / kPage;
    if (stale(pages_[page]) && !plants.copy_past_barrier) sweep_page(page);
  }

  template <class F>
  void for_pages(Address address, size_t bytes, F&& f) {
    for (size_t i = 0; i < bytes / kPage; ++i) f(pages_[(address - base_) / kPage + i]);
  }
  void drop(Address address, size_t bytes) {
    madvise(host(address), bytes, MADV_DONTNEED);
    clear_tags(address, bytes);
  }

  static constexpr size_t kAlign = size_t{1} << 20;
  // Data, tags, ghosts and both views of the shadow in one, of which only what is used becomes real.
  static constexpr size_t memory_for(size_t bytes) {
    return align_up(align_up(bytes, kAlign) + kAlign + bytes / 4 + 4 * align_up(bytes / 128, 64), kPage);
  }

  MachineConfig config_;
  std::vector<Registers> threads_;
  RevocationEpoch epoch_;
  uintptr_t to_host_ = 0;
  Address base_ = 0, claim_ = 0, commit_limit_ = ~Address{0};
  size_t bytes_;
  RecycledMemory memory_;
  uint32_t* ghosts_ = nullptr;
  uint64_t* tags_ = nullptr;
  uint64_t* shadow_ = nullptr;       // as its writer sees it
  uint64_t* seen_shadow_ = nullptr;  // as the kernel sees it
  std::deque<Write> buffer_;
  Page* pages_ = nullptr;
  uint32_t generation_ = 0;
  size_t sweep_at_ = 0, sweep_end_ = 0;
  size_t high_ = 0;  // no granule from here on ever had a tag
};
static_assert(MemoryPlatform<Machine>);

inline Capability Ops::with_address(const Value& c, uint64_t to) const {
  return c.with_address(machine_->format(), to);
}
inline Capability Ops::with_bounds(const Value& c, uint64_t length) const {
  if (machine_->plants.loose_bounds) length = align_up(length, kGranule);
  return c.with_bounds(machine_->format(), length);
}
inline Capability Ops::for_program(const Value& c) const {
  return c.with_permissions(kDataAndCapabilities | (machine_->plants.exempt_payloads ? kVmem : 0u));
}
inline uint64_t Ops::representable_length(uint64_t n) const {
  return static_cast<uint64_t>(machine_->format().representable_length(n));
}
inline uint64_t Ops::representable_mask(uint64_t n) const {
  return machine_->format().alignment_mask(n);
}
inline uint64_t Ops::load(const Value& c, uint64_t bytes) const {
  uint64_t value = 0;
  if (!machine_->load_data(c, value, bytes)) machine_->stop("a load of the heap's own trapped");
  return value;
}
inline void Ops::store(const Value& c, uint64_t number, uint64_t bytes) const {
  if (!machine_->store_data(c, number, bytes)) machine_->stop("a store of the heap's own trapped");
}
// Granule by granule, with the load barrier; another thread may run between two.
inline void Ops::copy(const Value& to, const Value& from, uint64_t bytes) const {
  for (uint64_t done = 0; done < bytes; done += kGranule) {
    if (bytes - done >= kGranule) {
      Capability c;
      if (!machine_->load(with_address(from, from.address + done), c) ||
          !machine_->store(with_address(to, to.address + done), c)) {
        machine_->stop("a copy of the heap's own trapped");
      }
    } else {
      for (uint64_t i = done; i < bytes; ++i) {
        store(with_address(to, to.address + i), load(with_address(from, from.address + i), 1), 1);
      }
    }
  }
}

}  // namespace nonreuse::sim
