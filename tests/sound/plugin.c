/* A library to be loaded at run time: thread-local storage that the loader allocates on first use, and a page
 * of initialised data of its own. */
#include <stdint.h>

enum { kWords = 512 };

static __thread volatile uintptr_t thread_words[kWords];
volatile uintptr_t* hold_plugin_thread_words(void);
volatile uintptr_t* hold_plugin_thread_words(void) {
  return thread_words;
}

/* Initialised, so that it is in .data and its page belongs to the file. */
_Alignas(4096) volatile uintptr_t hold_plugin_page_words[kWords] = {1};
