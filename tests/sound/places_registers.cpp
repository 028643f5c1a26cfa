// Places in the registers of a thread that runs, sleeps in the kernel, or was interrupted by a signal, and
// below its stack pointer. Each is one piece of assembly that reveals the secrets in the registers
// themselves, says so, waits until it is told to go, and zeroes them.
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>

#include "sound/hold.hpp"

namespace hold {
namespace {

#if defined(__x86_64__)

// What the assembly is given, at fixed offsets.
struct Block {
  std::atomic<uint32_t> leave{0};  // 0
  std::atomic<uint32_t> held{0};   // 4
  std::atomic<uint32_t> wiped{0};  // 8
  uint32_t unused = 0;
  uintptr_t secrets[64] = {};  // 16
  pthread_t thread{};
  void (*body)(Block*) = nullptr;
};

// Busy loop in assembly: says that it holds, then spins.
#define HOLD_SPIN "movl $1, 4(%%rdi)\n 1: pause\n cmpl $0, 0(%%rdi)\n je 1b\n"

void hold_general(Block* block) {
  asm volatile(
      "mov 16(%%rdi), %%rbx\n mov 24(%%rdi), %%r12\n mov 32(%%rdi), %%r13\n mov 40(%%rdi), %%r14\n"
      "mov 48(%%rdi), %%r15\n mov 56(%%rdi), %%rax\n mov 64(%%rdi), %%rcx\n mov 72(%%rdi), %%rdx\n"
      "mov 80(%%rdi), %%rsi\n mov 88(%%rdi), %%r8\n mov 96(%%rdi), %%r9\n mov 104(%%rdi), %%r10\n"
      "mov 112(%%rdi), %%r11\n"
      "not %%rbx\n not %%r12\n not %%r13\n not %%r14\n not %%r15\n not %%rax\n not %%rcx\n not %%rdx\n"
      "not %%rsi\n not %%r8\n not %%r9\n not %%r10\n not %%r11\n" HOLD_SPIN
      "xor %%ebx, %%ebx\n xor %%r12d, %%r12d\n xor %%r13d, %%r13d\n xor %%r14d, %%r14d\n"
      "xor %%r15d, %%r15d\n xor %%eax, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%esi, %%esi\n"
      "xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n xor %%r10d, %%r10d\n xor %%r11d, %%r11d\n"
      :
      : "D"(block)
      : "rbx", "r12", "r13", "r14", "r15", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc",
        "memory");
}

// Asleep in futex(2): only what the kernel keeps for the thread. A signal may wake it: it goes back to sleep.
void hold_asleep(Block* block) {
  asm volatile(
      "mov 16(%%rdi), %%rbx\n mov 24(%%rdi), %%r12\n mov 32(%%rdi), %%r13\n mov 40(%%rdi), %%r14\n"
      "mov 48(%%rdi), %%r15\n mov 56(%%rdi), %%r8\n mov 64(%%rdi), %%r9\n"
      "not %%rbx\n not %%r12\n not %%r13\n not %%r14\n not %%r15\n not %%r8\n not %%r9\n"
      "movl $1, 4(%%rdi)\n"
      "1: mov %[futex], %%eax\n xor %%esi, %%esi\n xor %%edx, %%edx\n xor %%r10d, %%r10d\n syscall\n"
      "cmpl $0, 0(%%rdi)\n je 1b\n"
      "xor %%ebx, %%ebx\n xor %%r12d, %%r12d\n xor %%r13d, %%r13d\n xor %%r14d, %%r14d\n"
      "xor %%r15d, %%r15d\n xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n"
      :
      : "D"(block), [futex] "i"(SYS_futex)
      : "rbx", "r12", "r13", "r14", "r15", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc",
        "memory");
}

void hold_sse(Block* block) {
  asm volatile(
      "movdqu 16(%%rdi), %%xmm0\n movdqu 32(%%rdi), %%xmm1\n movdqu 48(%%rdi), %%xmm2\n"
      "movdqu 64(%%rdi), %%xmm3\n movdqu 80(%%rdi), %%xmm4\n movdqu 96(%%rdi), %%xmm5\n"
      "movdqu 112(%%rdi), %%xmm6\n movdqu 128(%%rdi), %%xmm7\n movdqu 144(%%rdi), %%xmm8\n"
      "movdqu 160(%%rdi), %%xmm9\n movdqu 176(%%rdi), %%xmm10\n movdqu 192(%%rdi), %%xmm11\n"
      "movdqu 208(%%rdi), %%xmm12\n movdqu 224(%%rdi), %%xmm13\n movdqu 240(%%rdi), %%xmm14\n"
      "pcmpeqd %%xmm15, %%xmm15\n"
      "pxor %%xmm15, %%xmm0\n pxor %%xmm15, %%xmm1\n pxor %%xmm15, %%xmm2\n pxor %%xmm15, %%xmm3\n"
      "pxor %%xmm15, %%xmm4\n pxor %%xmm15, %%xmm5\n pxor %%xmm15, %%xmm6\n pxor %%xmm15, %%xmm7\n"
      "pxor %%xmm15, %%xmm8\n pxor %%xmm15, %%xmm9\n pxor %%xmm15, %%xmm10\n pxor %%xmm15, %%xmm11\n"
      "pxor %%xmm15, %%xmm12\n pxor %%xmm15, %%xmm13\n pxor %%xmm15, %%xmm14\n" HOLD_SPIN
      "pxor %%xmm0, %%xmm0\n pxor %%xmm1, %%xmm1\n pxor %%xmm2, %%xmm2\n pxor %%xmm3, %%xmm3\n"
      "pxor %%xmm4, %%xmm4\n pxor %%xmm5, %%xmm5\n pxor %%xmm6, %%xmm6\n pxor %%xmm7, %%xmm7\n"
      "pxor %%xmm8, %%xmm8\n pxor %%xmm9, %%xmm9\n pxor %%xmm10, %%xmm10\n pxor %%xmm11, %%xmm11\n"
      "pxor %%xmm12, %%xmm12\n pxor %%xmm13, %%xmm13\n pxor %%xmm14, %%xmm14\n"
      :
      : "D"(block)
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}

__attribute__((target("avx2"))) void hold_avx(Block* block) {
  asm volatile(
      "vpcmpeqd %%ymm15, %%ymm15, %%ymm15\n"
      "vpxor 16(%%rdi), %%ymm15, %%ymm0\n vpxor 48(%%rdi), %%ymm15, %%ymm1\n"
      "vpxor 80(%%rdi), %%ymm15, %%ymm2\n vpxor 112(%%rdi), %%ymm15, %%ymm3\n"
      "vpxor 144(%%rdi), %%ymm15, %%ymm4\n vpxor 176(%%rdi), %%ymm15, %%ymm5\n"
      "vpxor 208(%%rdi), %%ymm15, %%ymm6\n vpxor 240(%%rdi), %%ymm15, %%ymm7\n"
      "vpxor 272(%%rdi), %%ymm15, %%ymm8\n vpxor 304(%%rdi), %%ymm15, %%ymm9\n"
      "vpxor 336(%%rdi), %%ymm15, %%ymm10\n vpxor 368(%%rdi), %%ymm15, %%ymm11\n"
      "vpxor 400(%%rdi), %%ymm15, %%ymm12\n vpxor 432(%%rdi), %%ymm15, %%ymm13\n"
      "vpxor 464(%%rdi), %%ymm15, %%ymm14\n" HOLD_SPIN "vzeroall\n"
      :
      : "D"(block)
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}

void hold_mmx(Block* block) {
  asm volatile(
      "pcmpeqd %%mm7, %%mm7\n"
      "movq 16(%%rdi), %%mm0\n movq 24(%%rdi), %%mm1\n movq 32(%%rdi), %%mm2\n movq 40(%%rdi), %%mm3\n"
      "movq 48(%%rdi), %%mm4\n movq 56(%%rdi), %%mm5\n movq 64(%%rdi), %%mm6\n"
      "pxor %%mm7, %%mm0\n pxor %%mm7, %%mm1\n pxor %%mm7, %%mm2\n pxor %%mm7, %%mm3\n"
      "pxor %%mm7, %%mm4\n pxor %%mm7, %%mm5\n pxor %%mm7, %%mm6\n" HOLD_SPIN
      "pxor %%mm0, %%mm0\n pxor %%mm1, %%mm1\n pxor %%mm2, %%mm2\n pxor %%mm3, %%mm3\n"
      "pxor %%mm4, %%mm4\n pxor %%mm5, %%mm5\n pxor %%mm6, %%mm6\n emms\n"
      :
      : "D"(block)
      : "mm0", "mm1", "mm2", "mm3", "mm4", "mm5", "mm6", "mm7", "cc", "memory");
}

// A leaf function may keep words in the 128 bytes below the stack pointer (System V ABI for x86-64, 3.2.2).
void hold_in_red_zone(Block* block) {
  asm volatile(
      "lea -1024(%%rsp), %%rsp\n"
      "xor %%ecx, %%ecx\n"
      "1: mov 16(%%rdi,%%rcx,8), %%rax\n not %%rax\n mov %%rax, -128(%%rsp,%%rcx,8)\n"
      "inc %%ecx\n cmp $16, %%ecx\n jne 1b\n xor %%eax, %%eax\n"
      "movl $1, 4(%%rdi)\n 2: pause\n cmpl $0, 0(%%rdi)\n je 2b\n"
      "xor %%ecx, %%ecx\n"
      "3: movq $0, -128(%%rsp,%%rcx,8)\n inc %%ecx\n cmp $16, %%ecx\n jne 3b\n"
      "lea 1024(%%rsp), %%rsp\n"
      :
      : "D"(block)
      : "rax", "rcx", "cc", "memory");
}

// ---- the threads that hold

constexpr size_t kThreads = 2;
Block blocks[kThreads];

void* run(void* argument) {
  Block* block = static_cast<Block*>(argument);
  block->body(block);
  scrub();
  block->wiped = 1;
  for (;;) pause();
}

template <void (*body)(Block*), size_t words>
void plant(const Secret* secrets, size_t count) {
  for (size_t t = 0; t < kThreads; ++t) {
    Block& block = blocks[t];
    for (size_t i = 0; i < words; ++i) {
      block.secrets[i] = t * words + i < count ? secrets[t * words + i].complement : ~uintptr_t{0};
    }
    block.body = body;
    if (pthread_create(&block.thread, nullptr, run, &block) != 0) give_up("no thread");
    while (block.held == 0) sched_yield();
  }
}

void clear() {
  for (Block& block : blocks) {
    block.leave = 1;
    syscall(SYS_futex, &block.leave, 1 /* FUTEX_WAKE */, 1, nullptr, nullptr, 0);
    while (block.wiped == 0) sched_yield();
  }
}

// ---- interrupted: the registers are in the signal frame alone, while the handler sleeps

std::atomic<uint32_t> in_handler{0};
std::atomic<uint32_t> handlers_leave{0};

void handler(int) {
  in_handler.fetch_add(1);
  while (handlers_leave == 0) {
    syscall(SYS_futex, &handlers_leave, 0 /* FUTEX_WAIT */, 0, nullptr, nullptr, 0);
  }
}

void plant_interrupted(const Secret* secrets, size_t count) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigaction(SIGUSR2, &action, nullptr);
  plant<hold_general, 13>(secrets, count);
  for (Block& block : blocks) pthread_kill(block.thread, SIGUSR2);
  while (in_handler != kThreads) sched_yield();
}

void clear_interrupted() {
  for (Block& block : blocks) block.leave = 1;
  handlers_leave = 1;
  syscall(SYS_futex, &handlers_leave, 1 /* FUTEX_WAKE */, kThreads, nullptr, nullptr, 0);
  clear();
}

const char* avx_missing() {
  return __builtin_cpu_supports("avx2") ? nullptr : "this processor has no AVX2";
}

constexpr Place kPlaces[] = {
    {"registers", kThreads * 13, kMost, plant<hold_general, 13>, clear},
    {"registers_asleep", kThreads * 7, kMost, plant<hold_asleep, 7>, clear},
    {"registers_interrupted", kThreads * 13, kMost, plant_interrupted, clear_interrupted},
    {"registers_sse", kThreads * 30, kMost, plant<hold_sse, 30>, clear},
    {"registers_avx", kThreads * 60, kMost, plant<hold_avx, 60>, clear, nullptr, avx_missing},
    {"registers_mmx", kThreads * 7, kMost, plant<hold_mmx, 7>, clear},
    {"red_zone", kThreads * 16, kMost, plant<hold_in_red_zone, 16>, clear},
};

#else

const char* missing() {
  return "written for x86-64 only";
}
void plant(const Secret*, size_t) {}
void clear() {}
constexpr Place kPlaces[] = {
    {"registers", 1, kMost, plant, clear, nullptr, missing},
    {"registers_asleep", 1, kMost, plant, clear, nullptr, missing},
    {"registers_interrupted", 1, kMost, plant, clear, nullptr, missing},
    {"registers_sse", 1, kMost, plant, clear, nullptr, missing},
    {"registers_avx", 1, kMost, plant, clear, nullptr, missing},
    {"registers_mmx", 1, kMost, plant, clear, nullptr, missing},
    {"red_zone", 1, kMost, plant, clear, nullptr, missing},
};

#endif

}  // namespace

PlaceTable register_places() {
  return {kPlaces, std::size(kPlaces)};
}

}  // namespace hold
