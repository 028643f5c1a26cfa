#include "front/misuse.hpp"

#include "base/report.hpp"
#include "platform/os.hpp"

namespace nonreuse::misuse {

namespace {
constinit History history = nullptr;
}

void tell_history(History which) {
  history = which;
}

void say(const char* text) {
  Line line;
  line.text("nonreuse: ").text(text).text("\n");
  os::write_error(line.c_str(), line.size());
}

void stop(const char* call, Address address, Found found, Address chunk, size_t bytes) {
  Line line;
  line.text(found == Found::freed_start ? "nonreuse: double free: " : "nonreuse: invalid free: ");
  line.text(call).text("(").hex(address).text("): ");
  switch (found) {
    case Found::freed_start:
      line.text("chunk ").hex(chunk).text(" of ").number(bytes).text(" bytes is freed already");
      break;
    case Found::live_inside:
    case Found::freed_inside:
      line.text("points ").number(address - chunk).text(" bytes into the ");
      line.text(found == Found::live_inside ? "live" : "freed").text(" chunk ").hex(chunk);
      line.text(" of ").number(bytes).text(" bytes");
      break;
    case Found::unaligned:
      line.text("is not aligned to 16 bytes");
      break;
    case Found::foreign:
      line.text("is not an address of this heap");
      break;
    case Found::unallocated:
      line.text("is heap memory that is not allocated");
      break;
  }
  line.text("\n");
  os::write_error(line.c_str(), line.size());
  if (history != nullptr) history(address, found, chunk, bytes);
  os::die();
}

}  // namespace nonreuse::misuse
