// Deletes an array twice.
#include <new>

#include "abuse.h"

int main() {
  char* p = new char[100];
  announce(p, p, 112);
  delete[] p;
  delete[] static_cast<char*>(hide(p));
  return kSurvived;
}
