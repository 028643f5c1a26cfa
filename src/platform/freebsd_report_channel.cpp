// report_channel.hpp on FreeBSD: nobody looks at processes there. Not compiled into anything elsewhere.
#include "platform/report_channel.hpp"

#if defined(__FreeBSD__)

namespace nonreuse::os {

Range own_code() {
  return {};
}
bool find_code(const uint64_t*, size_t, CodePlace*) {
  return false;
}
bool ask_reporter(const char*, const void*, size_t, uint64_t) {
  return false;
}

}  // namespace nonreuse::os

#endif
