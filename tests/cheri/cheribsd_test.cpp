// The CheriBSD files compiled against stub headers: syntax, types, and which documented call is made with
// what. No CHERI compiler and no CheriBSD took part.
#include <gtest/gtest.h>

#include <vector>

#include "base/bits.hpp"
#include "revoke/cheri.hpp"

namespace {
struct Plain {
  static uint64_t address(void* v) { return reinterpret_cast<uint64_t>(v); }
};
size_t permissions_mask;
}  // namespace

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

}  // namespace

extern "C" {
int cheri_revoke(int f, cheri_revoke_epoch_t, cheri_revoke_syscall_info*) {
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
  ASSERT_EQ(sb, shadow.data());
  auto* words = reinterpret_cast<uint64_t*>(sbase);
  nonreuse::bits::set(words, begin / 16, (end - begin) / 16);
}
void caprev_shadow_nomap_clear_raw(uint64_t sbase, uint64_t* sb, uint64_t begin, uint64_t end) {
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

TEST_F(CheriBsd, PayloadsLoseTheExemption) {
  int x = 0;
  CheriOps().for_program(&x);
  EXPECT_EQ(permissions_mask & CHERI_PERM_SW_VMEM, 0u);
  EXPECT_NE(permissions_mask & 4, 0u);
}

}  // namespace
}  // namespace nonreuse
