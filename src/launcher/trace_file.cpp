#include "launcher/trace_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <set>

#include "launcher/program.hpp"
#include "launcher/trace_reader.hpp"
#include "launcher/write_all.hpp"

namespace nonreuse::launcher {
namespace {

constexpr uint8_t kZstdMagic[] = {0x28, 0xb5, 0x2f, 0xfd};
constexpr int kLevel = 3;

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  bool ok() const { return number_ >= 0; }

 private:
  int number_;
};

bool is_packed(std::span<const uint8_t> bytes) {
  return bytes.size() >= sizeof kZstdMagic && memcmp(bytes.data(), kZstdMagic, sizeof kZstdMagic) == 0;
}

// Streams `bytes` through zstd to the descriptor.
bool compress_to(int descriptor, std::span<const uint8_t> bytes) {
  const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  if (context == nullptr) return false;
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::vector<uint8_t> out(ZSTD_CStreamOutSize());
  ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
  for (size_t left = 1; left != 0;) {
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    left = ZSTD_compressStream2(context.get(), &output, &input, ZSTD_e_end);
    if (ZSTD_isError(left) || !write_all(descriptor, {reinterpret_cast<const char*>(out.data()), output.pos}))
      return false;
  }
  return true;
}

}  // namespace

TraceContent::TraceContent(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!file.ok() || fstat(file.number(), &status) != 0) {
    throw Failure(kUsageStatus, fmt::format("trace {}: {}", path, strerror(errno)));
  }
  if (!S_ISREG(status.st_mode))
    throw Failure(kUsageStatus, fmt::format("trace {}: it is no regular file", path));
  mapped_size_ = static_cast<size_t>(status.st_size);
  if (mapped_size_ == 0) return;
  mapped_ = mmap(nullptr, mapped_size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (mapped_ == MAP_FAILED) {
    mapped_ = nullptr;
    throw Failure(kUsageStatus, fmt::format("trace {}: {}", path, strerror(errno)));
  }
  bytes_ = {static_cast<const uint8_t*>(mapped_), mapped_size_};
  if (is_packed(bytes_)) unpack(bytes_);
}

TraceContent::~TraceContent() {
  if (mapped_ != nullptr) munmap(mapped_, mapped_size_);
}

void TraceContent::unpack(std::span<const uint8_t> packed) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  std::vector<uint8_t> out(ZSTD_DStreamOutSize());
  ZSTD_inBuffer input{packed.data(), packed.size(), 0};
  size_t hint = 1;
  while (hint != 0) {
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    hint = ZSTD_decompressStream(context.get(), &output, &input);
    if (ZSTD_isError(hint)) {
      problem_ = fmt::format("it is damaged before byte {}: {}", input.pos, ZSTD_getErrorName(hint));
      break;
    }
    unpacked_.insert(unpacked_.end(), out.begin(), out.begin() + static_cast<ptrdiff_t>(output.pos));
    if (hint != 0 && input.pos == input.size && output.pos < output.size) {
      problem_ = fmt::format("it is cut off at byte {}", input.pos);
      break;
    }
  }
  bytes_ = unpacked_;
}

void remove_old_trace(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) return;  // what is wrong is said by who opens it
  if (!S_ISREG(status.st_mode))
    throw Failure(kUsageStatus, fmt::format("trace {}: it is no regular file", path));
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  uint64_t magic = 0;
  const ssize_t got = file.ok() ? read(file.number(), &magic, sizeof magic) : 0;
  const bool ours = got == 0 || (got == sizeof magic && magic == trace::kFileMagic) ||
                    (got >= 4 && memcmp(&magic, kZstdMagic, sizeof kZstdMagic) == 0);
  if (!ours) throw Failure(kUsageStatus, fmt::format("trace {}: a file of another kind is there", path));
  if (unlink(path.c_str()) != 0)
    throw Failure(kUsageStatus, fmt::format("trace {}: {}", path, strerror(errno)));
}

std::string pack_trace(const std::string& path) {
  std::string temporary = path + ".XXXXXX";
  const TraceContent content(path);
  if (is_packed({content.bytes().data(), std::min<size_t>(content.bytes().size(), 4)})) return "";
  {
    const TraceReader reader(content.bytes());
    if (reader.processes().empty()) return "nothing was recorded";
    for (const TracedProcess& process : reader.processes()) {
      if (kill(static_cast<pid_t>(process.process), 0) == 0 || errno == EPERM) {
        return fmt::format("process {} still writes to it", process.process);
      }
    }
  }
  const Descriptor packed(mkostemp(temporary.data(), O_CLOEXEC));
  if (!packed.ok()) return strerror(errno);
  struct stat status;
  const bool good = compress_to(packed.number(), content.bytes()) && stat(path.c_str(), &status) == 0 &&
                    fchmod(packed.number(), status.st_mode & 07777) == 0 &&
                    rename(temporary.c_str(), path.c_str()) == 0;
  if (good) return "";
  std::string reason = strerror(errno);
  unlink(temporary.c_str());
  return reason;
}

}  // namespace nonreuse::launcher
