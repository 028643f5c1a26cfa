/* Declarations of the operations that a CHERI compiler has built in, so that another compiler can check how
 * they are called; and the one type that such a compiler changes under everybody's feet: an integer that
 * holds a capability is wider than an address. */
#pragma once
#if defined(__CHERI_PURE_CAPABILITY__)
#undef __UINTPTR_TYPE__
#undef __INTPTR_TYPE__
#define __UINTPTR_TYPE__ unsigned __int128
#define __INTPTR_TYPE__ __int128
#endif
#ifdef __cplusplus
extern "C" {
#endif
bool __builtin_cheri_tag_get(const void* capability);
bool __builtin_cheri_sealed_get(const void* capability);
__SIZE_TYPE__ __builtin_cheri_address_get(const void* capability);
__SIZE_TYPE__ __builtin_cheri_base_get(const void* capability);
__SIZE_TYPE__ __builtin_cheri_length_get(const void* capability);
__SIZE_TYPE__ __builtin_cheri_perms_get(const void* capability);
void* __builtin_cheri_address_set(const void* capability, __SIZE_TYPE__ address);
void* __builtin_cheri_bounds_set(const void* capability, __SIZE_TYPE__ length);
void* __builtin_cheri_perms_and(const void* capability, __SIZE_TYPE__ mask);
__SIZE_TYPE__ __builtin_cheri_round_representable_length(__SIZE_TYPE__ length);
__SIZE_TYPE__ __builtin_cheri_representable_alignment_mask(__SIZE_TYPE__ length);
#ifdef __cplusplus
}
#endif
