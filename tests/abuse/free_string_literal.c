/* Frees a string literal in read-only memory. */
#include "abuse.h"

int main(void) {
  const char* text = "a string that was never allocated";
  announce(text, NULL, 0);
  free(hide((void*)(uintptr_t)text));
  return kSurvived;
}
