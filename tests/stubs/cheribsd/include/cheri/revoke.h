/* Declarations enough to compile the CheriBSD files on another machine: names and shapes as CheriBSD
 * documents them, with one level of pointers and no capabilities. Nothing of CheriBSD is proven by this. */
#pragma once
#include <stdint.h>

typedef uint64_t cheri_revoke_epoch_t;
struct cheri_revoke_epochs {
  cheri_revoke_epoch_t enqueue, dequeue;
};
struct cheri_revoke_info {
  uint64_t base_mem_nomap, base_otype;
  struct cheri_revoke_epochs epochs;
};
struct cheri_revoke_syscall_info;
#define CHERI_PERM_SW_VMEM 0x8000
#define CHERI_PERM_EXECUTE 0x0002
#define CHERI_REVOKE_LAST_PASS 0x0001
#define CHERI_REVOKE_ASYNC 0x0010
#define CHERI_REVOKE_SHADOW_INFO_STRUCT 0x03
#define CHERI_REVOKE_SHADOW_NOVMMAP_ENTIRE 0x07
#ifdef __cplusplus
extern "C" {
#endif
int cheri_revoke(int flags, cheri_revoke_epoch_t start_epoch, struct cheri_revoke_syscall_info* info);
int cheri_revoke_get_shadow(int flags, void* arena, void** shadow);
int cheri_revoke_epoch_clears(cheri_revoke_epoch_t now, cheri_revoke_epoch_t then);
#ifdef __cplusplus
}
#endif
