#pragma once
#ifdef __cplusplus
extern "C" {
#endif
int elf_aux_info(int which, void* to, int size);
#ifdef __cplusplus
}
#endif
