/* As revoke.h beside this file. */
#pragma once
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
void caprev_shadow_nomap_set_raw(uint64_t sbase, uint64_t* shadow, uint64_t begin, uint64_t end);
void caprev_shadow_nomap_clear_raw(uint64_t sbase, uint64_t* shadow, uint64_t begin, uint64_t end);
#ifdef __cplusplus
}
#endif
