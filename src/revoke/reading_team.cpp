#include "revoke/reading_team.hpp"

#include "platform/os.hpp"

namespace nonreuse {
namespace {

constexpr unsigned kSpins = 4000;              // a helper that finds nothing, before it sleeps
constexpr uint64_t kLastLook = 20'000'000;     // nanoseconds that a helper may take to end
constexpr uint64_t kMoment = 50'000;           // nanoseconds
constexpr uint64_t kArrival = 5'000'000;       // nanoseconds
constexpr uint64_t kNap = 50'000'000;          // nanoseconds of a helper's sleep
constexpr uint64_t kStuck = 1'000'000'000;     // nanoseconds for a piece
constexpr size_t kWorthGiving = 64 * 1024;     // bytes
constexpr size_t kPiece = size_t{1} << 20;     // bytes of memory to read
constexpr size_t kQueried = size_t{64} << 20;  // bytes of memory to ask about

size_t piece_of(const ReadingTask& task) {
  return task.kind == ReadingTask::Kind::written ? kQueried : kPiece;
}

}  // namespace

void ReadingTeam::start(size_t helpers, const int (&keep)[2]) {
  given_ = taken_ = done_ = asleep_ = arrived_ = 0;
  root_bytes_ = heap_bytes_ = cpu_ns_ = 0;
  over_ = false;
  size_ = own_pieces_ = own_taken_ = 0;
  failed_ = true;  // until finish() has seen all done
  begin_ns_ = 0;
  while (size_ < helpers && size_ < kMost) {
    places_[size_] = {this, &helpers_[size_]};
    const auto job = [](void* place) {
      const auto& [team, process] = *static_cast<Place*>(place);
      team->work(*process);
    };
    if (!helpers_[size_].start(job, &places_[size_], keep)) break;
    ++size_;
  }
}

void ReadingTeam::await() {
  const uint64_t until = os::now_ns() + kArrival;
  for (uint64_t now = 0; (now = os::now_ns()) < until;) {
    const uint32_t arrived = arrived_.load(std::memory_order_acquire);
    if (arrived >= size_) return;
    os::futex_wait(&arrived_, arrived, until - now);
  }
}

// Pieces begin where the larger one is divided by their size, so that none shares a page with another.
void ReadingTeam::give(const ReadingTask& task, MemoryScanner& leader) {
  if (size_ == 0 || task.range.size() < kWorthGiving) return leader.run(task);
  if (begin_ns_ == 0) begin_ns_ = os::now_ns();  // what comes before the first piece is no stop
  const size_t piece = piece_of(task);
  for (uintptr_t at = task.range.begin; at < task.range.end;) {
    const uintptr_t next = align_down(at, piece) + piece;
    const ReadingTask part{task.kind, task.access, {at, next < task.range.end ? next : task.range.end}};
    at = part.range.end;
    const uint32_t given = given_.load(std::memory_order_relaxed);
    if (given - taken_.load(std::memory_order_acquire) >= kRing) {
      ++own_pieces_;
      leader.run(part);
      continue;
    }
    ring_[given % kRing] = part;
    given_.store(given + 1, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst) != 0) ring(1);
  }
}

// A slot is overwritten only after its piece was taken; who copies it too late fails to take it.
bool ReadingTeam::take(ReadingTask& task) {
  uint32_t taken = taken_.load(std::memory_order_acquire);
  while (taken != given_.load(std::memory_order_acquire)) {
    task = ring_[taken % kRing];
    if (taken_.compare_exchange_weak(taken, taken + 1, std::memory_order_acq_rel)) return true;
  }
  return false;
}

void ReadingTeam::ring(int how_many) {
  bell_.fetch_add(1, std::memory_order_seq_cst);
  os::futex_wake(&bell_, how_many);
}

bool ReadingTeam::all_alive() const {
  for (size_t i = 0; i < size_; ++i) {
    if (!helpers_[i].running()) return false;
  }
  return true;
}

bool ReadingTeam::finish(MemoryScanner& leader) {
  if (size_ == 0) return true;
  for (ReadingTask task; take(task); done_.fetch_add(1, std::memory_order_release)) {
    ++own_pieces_;
    ++own_taken_;
    leader.run(task);
  }
  // The leader's own pieces, those that did not fit, were not counted.
  const uint32_t given = given_.load(std::memory_order_relaxed);
  const uint64_t begin = os::now_ns();
  for (unsigned spins = 0; done_.load(std::memory_order_acquire) != given; ++spins) {
    if (spins < kSpins) {
      os::cpu_pause();
      continue;
    }
    const uint64_t waited = os::now_ns() - begin;
    if (waited > kStuck) {
      for (size_t i = 0; i < size_; ++i) helpers_[i].kill();
    }
    const bool alive = all_alive() && waited < 2 * kStuck;
    if (!alive && done_.load(std::memory_order_acquire) != given) return false;
    // A sleep: by sched_yield(2) a thread of real-time priority would not leave the processor.
    os::futex_wait(&bell_, bell_.load(std::memory_order_relaxed), kMoment);
  }
  failed_ = false;
  end_ns_ = os::now_ns();
  waited_ns_ = end_ns_ - begin;
  return true;
}

bool ReadingTeam::paid() const {
  if (begin_ns_ == 0) return !failed_;  // there was nothing to do
  const uint32_t helped = done_.load(std::memory_order_relaxed) - own_taken_;
  return !failed_ && helped >= own_pieces_ / 4 && waited_ns_ * 8 <= end_ns_ - begin_ns_;
}

void ReadingTeam::leave(MemoryScanner::Figures& figures, uint64_t& cpu_ns) {
  if (size_ == 0) return;
  over_.store(true, std::memory_order_seq_cst);
  ring(kMost);
  for (size_t i = 0; i < size_; ++i) {
    helpers_[i].wait(kLastLook);
    if (helpers_[i].running()) helpers_[i].kill();
    helpers_[i].reap();
  }
  size_ = 0;
  figures.root_bytes += root_bytes_;
  figures.heap_bytes += heap_bytes_;
  cpu_ns += cpu_ns_;
}

void ReadingTeam::after_fork_in_child() {
  for (ReaderProcess& helper : helpers_) helper.after_fork_in_child();
  size_ = 0;
}

// ---- in a helper ----------------------------------------------------------------------------------------

bool ReadingTeam::next(ReadingTask& task, const ReaderProcess& process) {
  for (unsigned spins = 0;; ++spins) {
    if (over_.load(std::memory_order_acquire)) return false;
    if (take(task)) return true;
    if (spins < kSpins) {
      os::cpu_pause();
      continue;
    }
    if (process.abandoned()) return false;
    // Who gives looks at `asleep_` after it has given; who sleeps looks for a piece after it has said so.
    asleep_.fetch_add(1, std::memory_order_seq_cst);
    const uint32_t bell = bell_.load(std::memory_order_seq_cst);
    const bool nothing = given_.load(std::memory_order_seq_cst) == taken_.load(std::memory_order_seq_cst) &&
                         !over_.load(std::memory_order_seq_cst);
    if (nothing) os::futex_wait(&bell_, bell, kNap);  // not without bound: the leader may be gone
    asleep_.fetch_sub(1, std::memory_order_relaxed);
  }
}

void ReadingTeam::work(ReaderProcess& process) {
  arrived_.fetch_add(1, std::memory_order_release);
  os::futex_wake(&arrived_, 1);
  MemoryScanner scanner(state_, nullptr);
  for (ReadingTask task; next(task, process); done_.fetch_add(1, std::memory_order_release))
    scanner.run(task);
  root_bytes_ += scanner.figures.root_bytes;
  heap_bytes_ += scanner.figures.heap_bytes;
  cpu_ns_ += os::thread_cpu_ns();
}

}  // namespace nonreuse
