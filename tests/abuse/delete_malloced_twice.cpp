// Deletes a chunk of malloc twice.
#include <new>

#include "abuse.h"

int main() {
  void* p = malloc(24);
  announce(p, p, 32);
  ::operator delete(p);
  ::operator delete(hide(p));
  return kSurvived;
}
