// Deletes an object twice, the second time by the sized form.
#include <new>

#include "abuse.h"

int main() {
  void* p = ::operator new(24);
  announce(p, p, 32);
  ::operator delete(p);
  ::operator delete (hide(p), std::size_t{24});
  return kSurvived;
}
