// The CheriBSD files compiled against stub headers: syntax, types, and which documented call is made with
// what; and the heap on the software machine with CheriBSD's calls in between. No CHERI compiler and no
// CheriBSD took part.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/bits.hpp"
#include "program.hpp"
#include "revoke/cheri.hpp"

namespace {
struct Plain {
  static uint64_t address(void* v) { return reinterpret_cast<uint64_t>(v); }
};
size_t permissions_mask;
}  // namespace

extern "C" int elf_aux_info(int which, void* to, int size);

#define __builtin_cheri_tag_get(v) ((v) != nullptr)
#define __builtin_cheri_sealed_get(v) ((v) == nullptr)
#define __builtin_cheri_address_get(v) Plain::address(v)
#define __builtin_cheri_base_get(v) Plain::address(v)
#define __builtin_cheri_length_get(v) (Plain::address(v) & 0)
#define __builtin_cheri_perms_get(v) (Plain::address(v) & 0)
#define __builtin_cheri_address_set(v, to) ((void)(v), reinterpret_cast<void*>(to))
#define __builtin_cheri_bounds_set(v, n) ((void)(n), (v))
#define __builtin_cheri_perms_and(v, mask) (permissions_mask = (mask), (v))
#define __builtin_cheri_round_representable_length(n) (n)
#define __builtin_cheri_representable_alignment_mask(n) (~((n)&0))
#define __CHERI_PURE_CAPABILITY__ 1
#ifndef __FreeBSD__
#define __FreeBSD__ 15
#endif
#include "revoke/cheribsd_kernel.hpp"

namespace {

std::vector<uint64_t> shadow(64);
cheri_revoke_info info{};
std::vector<int> flags;
int refuse_shadow = -1, result = 0;
nonreuse::sim::Machine* machine = nullptr;  // whose kernel is called, if any

void point(const char* where) {
  if (machine->listener != nullptr) machine->listener->point(where);
}
uint32_t kernel_flags = 0;
bool old_kernel = false;

}  // namespace

extern "C" {
int elf_aux_info(int which, void* to, int size) {
  if (old_kernel || which != AT_BSDFLAGS || size != sizeof kernel_flags) return ENOENT;
  memcpy(to, &kernel_flags, sizeof kernel_flags);
  return 0;
}
// As cheri_revoke(2): nothing where the epoch is cleared; the whole of a revocation with LAST_PASS, else its
// beginning.
int cheri_revoke(int f, cheri_revoke_epoch_t epoch, cheri_revoke_syscall_info*) {
  if (machine != nullptr) {
    if (nonreuse::epoch_clears(machine->epoch(), epoch)) return 0;
    if (!machine->open()) machine->begin_revocation();
    const cheri_revoke_epoch_t opened = machine->epoch();
    while ((f & CHERI_REVOKE_LAST_PASS) != 0 && machine->epoch() == opened) {
      point("sweep");
      if (machine->epoch() == opened) machine->advance_revocation();
    }
    return 0;
  }
  flags.push_back(f);
  if (result == 0) info.epochs.enqueue = info.epochs.dequeue += 2;
  return result;
}
int cheri_revoke_get_shadow(int f, void*, void** out) {
  *out = f == CHERI_REVOKE_SHADOW_INFO_STRUCT ? static_cast<void*>(&info) : shadow.data();
  return f == refuse_shadow ? -1 : 0;
}
int cheri_revoke_epoch_clears(cheri_revoke_epoch_t now, cheri_revoke_epoch_t then) {
  return nonreuse::epoch_clears(now, then);
}
void caprev_shadow_nomap_set_raw(uint64_t sbase, uint64_t* sb, uint64_t begin, uint64_t end) {
  if (machine != nullptr) {
    point("paint");
    machine->set_shadow(begin, end, true);
    return machine->drain();
  }
  ASSERT_EQ(sb, shadow.data());
  auto* words = reinterpret_cast<uint64_t*>(sbase);
  nonreuse::bits::set(words, begin / 16, (end - begin) / 16);
}
void caprev_shadow_nomap_clear_raw(uint64_t sbase, uint64_t* sb, uint64_t begin, uint64_t end) {
  if (machine != nullptr) {
    machine->listener->cleared(begin, end);
    point("unpaint");
    machine->set_shadow(begin, end, false);
    return machine->drain();
  }
  ASSERT_EQ(sb, shadow.data());
  auto* words = reinterpret_cast<uint64_t*>(sbase);
  nonreuse::bits::clear(words, begin / 16, (end - begin) / 16);
}
}

namespace nonreuse {
namespace {

// Addresses from 1 MiB on; the shadow's word for them is the first of the vector.
constexpr uint64_t kBase = 1 << 20;

class CheriBsd : public testing::Test {
 protected:
  void SetUp() override {
    std::fill(shadow.begin(), shadow.end(), 0);
    flags.clear();
    refuse_shadow = -1;
    result = 0;
    info = {reinterpret_cast<uint64_t>(shadow.data()) - kBase / 128, 0, {6, 6}};
  }
  CheriBsdKernel kernel;
};

TEST_F(CheriBsd, PaintsWhereTheKernelLooks) {
  ASSERT_TRUE(kernel.ready());
  kernel.paint(kBase + 16, kBase + 1024 + 32);
  EXPECT_EQ(shadow[0], ~uint64_t{1});
  EXPECT_EQ(shadow[1], 3u);
  EXPECT_EQ(kernel.painted(kBase), ~uint64_t{1});
  EXPECT_EQ(kernel.painted(kBase + 1024), 3u);
  kernel.unpaint(kBase + 16, kBase + 1024 + 32);
  EXPECT_EQ(kernel.painted(kBase) | kernel.painted(kBase + 1024), 0u);
}

TEST_F(CheriBsd, AsksForAWholePassOrForABeginning) {
  ASSERT_TRUE(kernel.ready());
  EXPECT_EQ(kernel.enqueue_epoch(), 6u);
  EXPECT_TRUE(kernel.revoke(RevocationPass::finish, 6));
  EXPECT_TRUE(kernel.clears(kernel.dequeue_epoch(), 6));
  EXPECT_TRUE(kernel.revoke(RevocationPass::begin, 8));
  EXPECT_EQ(flags, (std::vector<int>{CHERI_REVOKE_LAST_PASS, CHERI_REVOKE_ASYNC}));
  result = -1;
  EXPECT_FALSE(kernel.revoke(RevocationPass::finish, 10));
}

TEST_F(CheriBsd, IsNotReadyWithoutShadowOrEpochs) {
  for (const int missing : {CHERI_REVOKE_SHADOW_INFO_STRUCT, CHERI_REVOKE_SHADOW_NOVMMAP_ENTIRE}) {
    CheriBsdKernel fresh;
    refuse_shadow = missing;
    EXPECT_FALSE(fresh.ready());
    EXPECT_FALSE(fresh.ready());
  }
}

// The heap on the software machine through CheriBSD's calls. The fences are the processor's own here, which
// has no other to fence against: what the lack of one does is seen by the machine's own kernel interface
// (Planted.*).
class MachinesKernel : public CheriBsdKernel {
 public:
  explicit MachinesKernel(sim::Machine& m) {
    machine = &m;
    info = {reinterpret_cast<uint64_t>(m.shadow()) - m.base() / 128, 0, {m.epoch(), m.epoch()}};
    m.published = {&info.epochs.enqueue, &info.epochs.dequeue};
  }
  ~MachinesKernel() { machine = nullptr; }
};

class OnTheMachine : public testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(OnTheMachine, NoCapabilityCoversReusedMemory) {
  const auto [load_barrier, asynchronous] = GetParam();
  sim::WorldConfig config;
  config.machine.load_barrier = load_barrier;
  config.machine.first_epoch = (RevocationEpoch{1} << kEpochBits) - 6;
  config.asynchronous = asynchronous;
  config.sweep_at = asynchronous ? 160 << 10 : 320 << 10;
  using World = sim::WorldOf<sim::Machine, MachinesKernel>;
  refuse_shadow = -1;
  World world(config);
  sim::Program<World> program(world, 11, asynchronous ? 20'000 : 400);
  program.run(60'000);
  sim::expect_sound(world);
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_TRUE(world.machine.shadow_clear());
  nonreuse_statistics figures;
  world.heap.statistics(figures);
  EXPECT_GT(figures.sweeps, 20u);
  EXPECT_GT(figures.released_bytes, figures.freed_bytes / 2) << "memory is reused";
  EXPECT_GT(program.beside_steps, 500u);
}

INSTANTIATE_TEST_SUITE_P(CheriBsd, OnTheMachine, testing::Combine(testing::Bool(), testing::Bool()),
                         [](const auto& which) {
                           return std::string(std::get<0>(which.param) ? "barrier" : "stopped") +
                                  (std::get<1>(which.param) ? "_async" : "");
                         });

// What the process' revoker makes of the kernel's word and of the environment.
TEST(CheriBsdRevokerTest, IsSwitchedByKernelAndEnvironment) {
  const auto configured = [](std::vector<const char*> environment, bool privileged = false) {
    CheriBsdRevoker revoker;
    Options options{};
    options.percent = 25;
    environment.push_back(nullptr);
    revoker.configure(environment.data(), privileged, options);
    struct Result {
      bool enabled, every_free;
      uint64_t percent;
      bool operator==(const Result&) const = default;
    };
    return Result{revoker.enabled(), revoker.every_free(), options.percent};
  };
  using Result = decltype(configured({}));
  kernel_flags = 0;
  EXPECT_EQ(configured({}), (Result{false, false, 25}));
  EXPECT_EQ(configured({"A=b", "_RUNTIME_REVOCATION_ENABLE="}), (Result{true, false, 25}));
  EXPECT_EQ(configured({"_RUNTIME_REVOCATION_ENABLED=1", "_RUNTIME_REVOCATION_ENABL=1"}),
            (Result{false, false, 25}));
  kernel_flags = ELF_BSDF_CHERI_REVOKE;
  EXPECT_EQ(configured({}), (Result{true, false, 25}));
  EXPECT_EQ(configured({"_RUNTIME_REVOCATION_DISABLE=1"}), (Result{false, false, 25}));
  EXPECT_EQ(configured({"_RUNTIME_REVOCATION_DISABLE=1"}, true), (Result{true, false, 25}));
  EXPECT_EQ(configured({"_RUNTIME_REVOCATION_EVERY_FREE_ENABLE=1"}), (Result{true, true, 25}));
  EXPECT_EQ(configured({"_RUNTIME_QUARANTINE_DENOMINATOR=2"}), (Result{true, false, 100}));
  EXPECT_EQ(configured({"_RUNTIME_QUARANTINE_DENOMINATOR=2"}, true), (Result{true, false, 25}));
  kernel_flags = ELF_BSDF_CHERI_REVOKE | ELF_BSDF_CHERI_REVOKE_EVERY_FREE;
  EXPECT_EQ(configured({}), (Result{true, true, 25}));
  old_kernel = true;
  EXPECT_EQ(configured({}), (Result{true, false, 25}));
  old_kernel = false;
}

TEST_F(CheriBsd, PayloadsLoseTheExemption) {
  int x = 0;
  CheriOps().for_program(&x);
  EXPECT_EQ(permissions_mask & CHERI_PERM_SW_VMEM, 0u);
  EXPECT_NE(permissions_mask & 4, 0u);
}

}  // namespace
}  // namespace nonreuse
