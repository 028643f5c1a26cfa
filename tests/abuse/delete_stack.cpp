// Deletes a variable on the stack.
#include <new>

#include "abuse.h"

int main() {
  alignas(16) char local[64] = {};
  announce(local, local, 0);
  ::operator delete(hide(local));
  return kSurvived;
}
