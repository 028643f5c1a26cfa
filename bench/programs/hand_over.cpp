// Producers allocate, consumers free (the kind of xmalloc-test): every block is freed by another thread than
// the one that allocated it. Blocks travel in batches through a bounded queue.
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "common.hpp"

namespace {

constexpr size_t kBatch = 256;
struct Batch {
  void* block[kBatch];
  uint16_t size[kBatch];
};

class Queue {
 public:
  void put(Batch* batch) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return batches_.size() < 64; });
    batches_.push_back(batch);
    filled_.notify_one();
  }
  Batch* take() {
    std::unique_lock lock(mutex_);
    filled_.wait(lock, [this] { return !batches_.empty(); });
    Batch* batch = batches_.front();
    batches_.pop_front();
    room_.notify_one();
    return batch;
  }

 private:
  std::mutex mutex_;
  std::condition_variable room_, filled_;
  std::deque<Batch*> batches_;
};

}  // namespace

int main(int argc, char** argv) {
  const auto pairs = static_cast<size_t>(bench::argument(argc, argv, 1, 1));
  const long batches = bench::argument(argc, argv, 2, 50000);
  Queue queue;
  std::vector<uint64_t> sums(pairs);
  std::vector<std::thread> running;
  for (size_t i = 0; i < pairs; ++i) {
    running.emplace_back([&queue, i, batches] {
      bench::Random random(i + 1);
      for (long n = 0; n < batches; ++n) {
        auto* batch = new Batch;
        for (size_t k = 0; k < kBatch; ++k) {
          batch->size[k] = static_cast<uint16_t>(8 + random.below(k % 8 == 0 ? 400 : 90));
          batch->block[k] = bench::marked(batch->size[k], random.next());
        }
        queue.put(batch);
      }
      queue.put(nullptr);
    });
    running.emplace_back([&queue, &sums, i] {
      while (Batch* batch = queue.take()) {
        for (size_t k = 0; k < kBatch; ++k) {
          sums[i] += bench::check(batch->block[k], batch->size[k]);  // any order: blocks go to any consumer
          std::free(batch->block[k]);
        }
        delete batch;
      }
    });
  }
  for (auto& thread : running) thread.join();
  uint64_t sum = 0;
  for (uint64_t part : sums) sum += part;
  bench::print_checksum("hand_over", sum);
}
