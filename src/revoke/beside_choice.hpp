// Whether a sweep reads memory beside the program's threads, by what earlier sweeps cost.
//
// The option `pause` is a target. To meet it where one stop would be longer, pages are armed, read, faulted
// in when they are written, partly read again, and disarmed: more CPU time than reading them once in the
// stop. How much more is up to the machine: less than twice as much where processors translate the addresses
// of guests, five times and more under a hypervisor that keeps page tables of its own. There a target that
// one stop misses by little would be paid for many times over. So where reading beside the threads is more
// than twice as dear, a stop may last as many times the target as the cube of half that ratio says, within a
// bound; with the option cpu=100 never.
// What is not tried is not measured. The ratio fades while stops are taken instead, and the nearer it was to
// what decides, the sooner reading beside is tried again. What a stop would take is told by the reader as
// well: its time outside the system, where arming is.
// Thread-safety: the sweep lock; note_reader() in the reader while it runs.
#pragma once

#include "base/options.hpp"
#include "base/types.hpp"

namespace nonreuse {

class BesideChoice {
 public:
  // CPU time to read so much in one stop, in nanoseconds.
  uint64_t whole_ns(uint64_t bytes) const { return (bytes >> 10) * ns_per_mib_ >> 10; }
  // The other way round.
  uint64_t bytes_read_in(uint64_t nanoseconds) const { return (nanoseconds << 20) / (ns_per_mib_ + 1); }

  // One stop has read so much, in so much CPU time (which other programs do not stretch).
  void note_whole(uint64_t bytes, uint64_t took_ns) {
    if (bytes < kTelling) return;  // small sweeps cost much that has nothing to do with size
    ns_per_mib_ = (took_ns << 20) / bytes;
  }
  // The reader has, in so much time outside the system, which may be counted in ticks: no single one tells.
  void note_reader(uint64_t bytes, uint64_t user_ns) {
    if (bytes >= kTellingBeside) ns_per_mib_ = (7 * ns_per_mib_ + (user_ns << 20) / bytes) / 8;
  }
  // A sweep that read beside the threads covered so much, in so much CPU time, with its faults and its stop.
  void note_beside(uint64_t bytes, uint64_t took_ns) {
    const uint64_t whole = whole_ns(bytes) + 1;
    uint64_t percent = took_ns / whole >= kDearest / 100 ? kDearest : took_ns * 100 / whole;
    if (percent < 100) percent = 100;
    dearness_ = (dearness_ + percent) / 2;  // no single sweep says it all
  }

  // What the first write to an armed page costs, and arming and disarming one (WriteTracker). Until a sweep
  // has told more, all pages are taken to be armed and one in sixteen to be written meanwhile: a guess.
  void note_tracking(uint64_t fault_ns, uint64_t arming_ns, uint64_t page_bytes) {
    if (told_) return;
    told_ = true;
    const uint64_t pages = (uint64_t{1} << 20) / page_bytes;
    const uint64_t extra_ns = pages * arming_ns + pages * fault_ns / 16;
    const uint64_t percent = 100 + extra_ns * 100 / (ns_per_mib_ + 1);
    dearness_ = percent < kDearest ? percent : kDearest;
  }

  // Asked once a sweep, and again when it is to read beside the threads, which will read about so much.
  bool worth(const Options& options, uint64_t bytes) {
    if (options.pause == 0 || options.unaligned) return false;
    const uint64_t whole = whole_ns(bytes), target = options.pause * 1000;
    if (whole <= target) return false;
    if (options.cpu == 100 || whole > target * tolerance() / 100) return true;
    dearness_ -= (dearness_ - 100 + kFading - 1) / kFading;
    return false;
  }

  // So many percent of the target a stop may last.
  uint64_t tolerance() const {
    const uint64_t percent = dearness_ * dearness_ / 400 * dearness_ / 200;
    return percent < 100 ? 100 : percent < kMostTolerated ? percent : kMostTolerated;
  }

 private:
  static constexpr uint64_t kTelling = uint64_t{4} << 20;         // bytes
  static constexpr uint64_t kTellingBeside = uint64_t{16} << 20;  // bytes
  static constexpr uint64_t kDearest = 3200;                      // percent
  static constexpr uint64_t kMostTolerated = 3200;                // percent
  static constexpr uint64_t kFading = 256;                        // sweeps

  uint64_t ns_per_mib_ = 125'000;
  uint64_t dearness_ = 100;  // percent of the CPU time of one stop
  bool told_ = false;
};

}  // namespace nonreuse
