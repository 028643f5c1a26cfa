// The registers of a stopped thread as ptrace(2) gives them in one block (NT_PRSTATUS): names in the block's
// order, and which of them mean something to an observer. user_regs_struct, user_pt_regs of <sys/user.h>,
// <asm/ptrace.h>.
#pragma once

#include <array>
#include <cstddef>

namespace nonreuse {

struct RegisterLayout {
  size_t stack_pointer, program_counter;
  size_t thread_pointer;         // or kElsewhere: NT_ARM_TLS
  unsigned dwarf_stack_pointer;  // the stack pointer's number in call frame information
  int vector_note;               // the note that holds vector registers
  long table_offset;             // from the thread pointer to the word that points to the table of TLS blocks
};
inline constexpr size_t kElsewhere = ~size_t{0};

#if defined(__x86_64__)
inline constexpr std::array kRegisterNames = {"r15",     "r14",      "r13", "r12", "rbp",    "rbx", "r11",
                                              "r10",     "r9",       "r8",  "rax", "rcx",    "rdx", "rsi",
                                              "rdi",     "orig_rax", "rip", "cs",  "eflags", "rsp", "ss",
                                              "fs_base", "gs_base",  "ds",  "es",  "fs",     "gs"};
inline constexpr RegisterLayout kRegisterLayout = {19, 16, 21, 7, 0x202 /* NT_X86_XSTATE */, 8};
#elif defined(__aarch64__)
inline constexpr std::array kRegisterNames = {"x0",  "x1",  "x2",  "x3",  "x4",  "x5",  "x6",    "x7",  "x8",
                                              "x9",  "x10", "x11", "x12", "x13", "x14", "x15",   "x16", "x17",
                                              "x18", "x19", "x20", "x21", "x22", "x23", "x24",   "x25", "x26",
                                              "x27", "x28", "x29", "x30", "sp",  "pc",  "pstate"};
inline constexpr RegisterLayout kRegisterLayout = {31, 32, kElsewhere, 31, 2 /* NT_PRFPREG */, 0};
#else
inline constexpr std::array kRegisterNames = {
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0",  "a1",  "a2", "a3", "a4", "a5",
    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6"};
inline constexpr RegisterLayout kRegisterLayout = {2, 0, 4, 2, 2 /* NT_PRFPREG */, -8};
#endif

}  // namespace nonreuse
