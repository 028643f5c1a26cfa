#pragma once
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
void* memchr(const void* in, int byte, size_t size);
int memcmp(const void* a, const void* b, size_t size);
void* memcpy(void* to, const void* from, size_t size);
void* memmove(void* to, const void* from, size_t size);
void* memset(void* at, int byte, size_t size);
char* strcat(char* to, const char* from);
char* strchr(const char* in, int c);
int strcmp(const char* a, const char* b);
int strcoll(const char* a, const char* b);
char* strcpy(char* to, const char* from);
size_t strcspn(const char* in, const char* set);
char* strerror(int number);
size_t strlen(const char* text);
char* strncat(char* to, const char* from, size_t size);
int strncmp(const char* a, const char* b, size_t size);
char* strncpy(char* to, const char* from, size_t size);
size_t strnlen(const char* text, size_t most);
char* strpbrk(const char* in, const char* set);
char* strrchr(const char* in, int c);
size_t strspn(const char* in, const char* set);
char* strstr(const char* in, const char* what);
char* strtok(char* text, const char* set);
size_t strxfrm(char* to, const char* from, size_t size);
#ifdef __cplusplus
}
#endif
