// The heap's locks. Which one is compiled in is decided by the settings USE_LOCKS, USE_SPIN_LOCKS and
// USE_RECURSIVE_LOCKS. No lock is ever taken in a signal handler, and none is held while another thread of
// this process is asked to do something.
#pragma once

#include <atomic>

#include "base/settings.hpp"
#include "platform/os.hpp"

namespace nonreuse {

// For programs with one thread: takes nothing.
class NoLock {
 public:
  void lock() {}
  bool try_lock() { return true; }
  void unlock() {}
  void reset() {}
};

// Spins with a pause, then yields: for short sections where a system call costs more than the wait.
class SpinLock {
 public:
  void lock() {
    for (unsigned spins = 0; !try_lock(); ++spins) {
      if (spins < 64)
        os::cpu_pause();
      else
        os::yield();
    }
  }
  bool try_lock() {
    return word_.load(std::memory_order_relaxed) == 0 && word_.exchange(1, std::memory_order_acquire) == 0;
  }
  void unlock() { word_.store(0, std::memory_order_release); }
  void reset() { word_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<uint32_t> word_{0};
};

// Sleeps in the kernel when contended. States: 0 free, 1 taken, 2 taken and somebody may sleep
// (Drepper, "Futexes Are Tricky", mutex 2).
class FutexLock {
 public:
  void lock() {
    if (try_lock()) return;
    // Looks before it takes, so that the holder keeps the line. Sections last microseconds (a refill), as
    // does falling asleep and being woken up.
    for (unsigned spins = 0; spins < kSpins; ++spins) {
      os::cpu_pause();
      if (word_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
    }
    while (word_.exchange(2, std::memory_order_acquire) != 0) os::futex_wait(&word_, 2);
  }
  bool try_lock() {
    uint32_t seen = 0;
    return word_.compare_exchange_strong(seen, 1, std::memory_order_acquire);
  }
  void unlock() {
    if (word_.exchange(0, std::memory_order_release) == 2) os::futex_wake(&word_, 1);
  }
  void reset() { word_.store(0, std::memory_order_relaxed); }

 private:
  static constexpr unsigned kSpins = 600;  // about 10 to 30 us
  std::atomic<uint32_t> word_{0};
};

// A lock that its holder may take again.
template <class Inner>
class RecursiveLock {
 public:
  void lock() {
    const Address self = os::thread_identity();
    if (owner_.load(std::memory_order_relaxed) != self) {
      inner_.lock();
      owner_.store(self, std::memory_order_relaxed);
    }
    ++depth_;
  }
  bool try_lock() {
    const Address self = os::thread_identity();
    if (owner_.load(std::memory_order_relaxed) != self) {
      if (!inner_.try_lock()) return false;
      owner_.store(self, std::memory_order_relaxed);
    }
    ++depth_;
    return true;
  }
  void unlock() {
    if (--depth_ != 0) return;
    owner_.store(0, std::memory_order_relaxed);
    inner_.unlock();
  }
  void reset() {
    inner_.reset();
    owner_.store(0, std::memory_order_relaxed);
    depth_ = 0;
  }

 private:
  Inner inner_;
  std::atomic<Address> owner_{0};
  uint32_t depth_ = 0;
};

namespace detail {
template <bool kSpin>
struct PickBase {
  using type = FutexLock;
};
template <>
struct PickBase<true> {
  using type = SpinLock;
};
template <bool kRecursive, class Base>
struct PickRecursive {
  using type = Base;
};
template <class Base>
struct PickRecursive<true, Base> {
  using type = RecursiveLock<Base>;
};
template <bool kLocks>
struct PickLock {
  using type = typename PickRecursive<kRecursiveLocks, typename PickBase<kSpinLocks>::type>::type;
};
template <>
struct PickLock<false> {
  using type = NoLock;
};
}  // namespace detail

using Lock = detail::PickLock<kUseLocks>::type;

class LockGuard {
 public:
  explicit LockGuard(Lock& lock) : lock_(lock) { lock_.lock(); }
  ~LockGuard() { lock_.unlock(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  Lock& lock_;
};

}  // namespace nonreuse
