// Deletes an over-aligned object twice.
#include <new>

#include "abuse.h"

int main() {
  void* p = ::operator new (64, std::align_val_t{128});
  announce(p, p, chunk_size(p));
  ::operator delete (p, std::align_val_t{128});
  ::operator delete (hide(p), std::align_val_t{128});
  return kSurvived;
}
