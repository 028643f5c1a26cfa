// report_channel.hpp on Linux.
#include "platform/report_channel.hpp"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <poll.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "platform/linux_maps.hpp"
#include "platform/linux_syscall.hpp"
#include "platform/os.hpp"

// Set by the linker.
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start[];
extern "C" __attribute__((visibility("hidden"))) const char etext[];

namespace nonreuse::os {

Range own_code() {
  const Range code{address_of(__ehdr_start), address_of(etext)};
  // Linked into the program itself: the library's frames cannot be told from the program's.
  if (code.contains(getauxval(AT_PHDR))) return {};
  return code;
}

bool find_code(const uint64_t* addresses, size_t count, CodePlace* out) {
  char buffer[4096];
  MapsReader reader(buffer, sizeof buffer);
  for (size_t i = 0; i < count; ++i) out[i] = {};
  if (!reader.open("/proc/self/maps")) return false;
  Mapping mapping;
  char name[sizeof out->module] = "";
  uint64_t begin = 0;  // of the mappings of the same file that lie together
  while (reader.next(mapping)) {
    const size_t size = mapping.name_size < sizeof name - 1 ? mapping.name_size : sizeof name - 1;
    if (strlen(name) != size || memcmp(name, mapping.name, size) != 0) {
      memcpy(name, mapping.name, size);
      name[size] = '\0';
      begin = mapping.range.begin;
    }
    for (size_t i = 0; i < count; ++i) {
      if (!mapping.range.contains(addresses[i])) continue;
      memcpy(out[i].module, name, sizeof name);
      out[i].offset = addresses[i] - begin;
    }
  }
  reader.close();
  return true;
}

namespace {

class Descriptor {
 public:
  explicit Descriptor(long number) : number_(number) {}
  ~Descriptor() {
    if (!sys::failed(number_)) sys::call(SYS_close, number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  bool valid() const { return !sys::failed(number_); }
  operator long() const { return number_; }

 private:
  long number_;
};

bool send_all(long socket, const char* at, size_t size) {
  while (size > 0) {
    const long sent = sys::call(SYS_sendto, socket, at, size, MSG_NOSIGNAL, nullptr, 0);
    if (sent == -EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

// Until the other side closes. False: nothing came.
bool copy_answer(long socket, uint64_t until) {
  bool answered = false;
  for (;;) {
    const uint64_t now = now_ns();
    if (now >= until) return answered;
    pollfd wait{static_cast<int>(socket), POLLIN, 0};
    const timespec left{static_cast<time_t>((until - now) / 1'000'000'000),
                        static_cast<long>((until - now) % 1'000'000'000)};
    const long ready = sys::call(SYS_ppoll, &wait, 1, &left, nullptr, 0);
    if (ready == -EINTR) continue;
    if (sys::failed(ready) || ready == 0) return answered;
    char text[1024];
    const long got = sys::call(SYS_read, socket, text, sizeof text);
    if (got == -EINTR || got == -EAGAIN) continue;
    if (got <= 0) return answered;
    answered = true;
    write_error(text, static_cast<size_t>(got));
  }
}

}  // namespace

bool ask_reporter(const char* path, const void* message, size_t size, uint64_t at_most_ns) {
  const uint64_t until = now_ns() + at_most_ns;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = strlen(path);
  if (length == 0 || length >= sizeof address.sun_path) return false;
  memcpy(address.sun_path, path, length);
  const Descriptor socket(sys::call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return false;
  long done;
  do {
    done = sys::call(SYS_connect, static_cast<long>(socket), &address, sizeof address);
  } while (done == -EINTR);
  if (sys::failed(done)) return false;
  // Yama lets a process be looked at by whom it names.
  ucred peer{};
  socklen_t peer_size = sizeof peer;
  if (!sys::failed(
          sys::call(SYS_getsockopt, static_cast<long>(socket), SOL_SOCKET, SO_PEERCRED, &peer, &peer_size)))
    sys::call(SYS_prctl, PR_SET_PTRACER, peer.pid, 0, 0, 0);
  return send_all(socket, static_cast<const char*>(message), size) && copy_answer(socket, until);
}

}  // namespace nonreuse::os
