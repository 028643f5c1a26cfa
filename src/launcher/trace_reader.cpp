#include "launcher/trace_reader.hpp"

#include <algorithm>
#include <cstring>
#include <map>

namespace nonreuse::launcher {

using trace::BlockHeader;
using trace::FileHeader;

namespace {

template <class T>
T read_as(std::span<const uint8_t> file, size_t at) {
  T value;
  memcpy(&value, file.data() + at, sizeof value);
  return value;
}

std::string text_of(const char (&command)[16]) {
  std::string text(command, strnlen(command, sizeof command));
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

}  // namespace

TraceReader::TraceReader(std::span<const uint8_t> file, const std::string& cut) : file_(file) {
  if (read_header()) sort_blocks(find_blocks());
  if (problem_.empty()) problem_ = cut;
  rewind();
}

void TraceReader::fail(size_t offset, const char* what) {
  if (problem_.empty()) problem_ = std::string(what) + " at byte " + std::to_string(offset);
}

bool TraceReader::read_header() {
  if (file_.size() < sizeof(uint64_t) || read_as<uint64_t>(file_, 0) != trace::kFileMagic) {
    problem_ = file_.empty() ? "it is empty" : "it is not a trace of this library";
    return false;
  }
  if (file_.size() < trace::kFileHeaderBytes) {
    problem_ = "it is cut off in its header";
    return false;
  }
  const auto header = read_as<FileHeader>(file_, 0);
  if (header.version < trace::kOldestVersion || header.version > trace::kVersion ||
      header.header_bytes != trace::kFileHeaderBytes) {
    problem_ = "it is a trace of another version";
    return false;
  }
  dropped_ = header.dropped;
  next_window_ = header.next;
  return true;
}

auto TraceReader::find_blocks() -> std::vector<Found> {
  std::vector<Found> found;
  size_t window_end = 0;
  for (size_t at = trace::kFileHeaderBytes; at + sizeof(uint32_t) <= file_.size();) {
    if (read_as<uint32_t>(file_, at) == 0) {  // the rest of a window, or one that nothing was written to
      at = window_end > at ? window_end : at + trace::kWindowUnit;
      continue;
    }
    size_t next = 0;
    if (!take_block(at, found, next, window_end)) return found;
    at = next;
  }
  // Where a window could not be had, calls were dropped, and the file may be shorter than what was handed
  // out.
  if (dropped_ == 0 && file_.size() < next_window_) fail(file_.size(), "it is cut off");
  return found;
}

// The block at `at`. False: nothing behind it can be trusted; problem_ says why.
bool TraceReader::take_block(size_t at, std::vector<Found>& found, size_t& next, size_t& window_end) {
  if (at + sizeof(BlockHeader) > file_.size()) return fail(file_.size(), "it is cut off"), false;
  const auto header = read_as<BlockHeader>(file_, at);
  if (header.magic != trace::kBlockMagic || header.header_check != trace::header_check(header)) {
    return fail(at, "it is damaged"), false;
  }
  const size_t payload = at + sizeof(BlockHeader);
  if (header.window_end < payload || header.length > header.window_end - payload) {
    return fail(at, "it is damaged"), false;
  }
  window_end = header.window_end;
  const bool closed = header.length != 0;
  const size_t wanted_end = closed ? payload + header.length : header.window_end;
  const size_t end = std::min<size_t>(wanted_end, file_.size());
  const bool whole = end == wanted_end;
  Found block{header, {payload, end, header.begin_ns, header.index, closed}};
  if (closed && whole) {
    if (trace::checksum(file_.data() + payload, header.length) != header.check) {
      return fail(at, "it is damaged in the block"), false;
    }
  } else {
    trace::Decoder decoder(file_.data() + payload, file_.data() + end, header.begin_ns);
    trace::Record record;
    auto result = trace::Decoder::Result::record;
    while (result == trace::Decoder::Result::record) result = decoder.next(record);
    block.piece.end = static_cast<size_t>(decoder.at() - file_.data());
    if (result == trace::Decoder::Result::damaged)
      fail(block.piece.end, whole ? "it is damaged" : "it is cut off");
  }
  if (!whole) fail(file_.size(), "it is cut off");
  record_bytes_ += block.piece.end - block.piece.begin;
  found.push_back(block);
  next = closed ? align_up(payload + header.length, trace::kBlockAlign) : window_end;
  return problem_.empty();
}

size_t TraceReader::process_of(const BlockHeader& header) {
  for (size_t i = processes_.size(); i-- > 0;) {
    if (processes_[i].instance == header.instance) return i;
  }
  processes_.push_back({header.instance, header.parent, header.process, header.forked_ns, header.begin_ns,
                        header.wall_ns, text_of(header.command)});
  return processes_.size() - 1;
}

// Blocks lie in the file in the order in which windows were taken, also by threads that went on in the
// windows of others: each thread's are put in order of time.
void TraceReader::sort_blocks(std::vector<Found> found) {
  std::stable_sort(found.begin(), found.end(),
                   [](const Found& a, const Found& b) { return a.header.begin_ns < b.header.begin_ns; });
  std::map<std::pair<uint64_t, uint32_t>, size_t> latest;  // instance and thread
  for (const Found& block : found) {
    const size_t process = process_of(block.header);
    const auto key = std::make_pair(block.header.instance, block.header.thread);
    auto place = latest.find(key);
    if (place == latest.end() || block.header.index == 0) {  // the kernel uses the numbers of threads again
      threads_.push_back({process, block.header.thread, {}});
      place = latest.insert_or_assign(key, threads_.size() - 1).first;
    }
    std::vector<TracedThread::Piece>& pieces = threads_[place->second].pieces;
    if (!pieces.empty() && block.header.index != pieces.back().index + 1) {
      fail(block.piece.begin, "a block is missing before the one");
    }
    pieces.push_back(block.piece);
    processes_[process].command = text_of(block.header.command);
  }
}

void TraceReader::rewind() {
  streams_.assign(threads_.size(), {});
  heads_ = {};
  for (size_t i = 0; i < threads_.size(); ++i) {
    Stream& stream = streams_[i];
    stream.thread = i;
    const TracedThread::Piece& first = threads_[i].pieces.front();
    stream.decoder = trace::Decoder(file_.data() + first.begin, file_.data() + first.end, first.begin_ns);
    if (advance(stream)) heads_.push({stream.record.time, processes_.size() + i});
  }
  for (size_t i = 0; i < processes_.size(); ++i) {
    const TracedProcess& process = processes_[i];
    const uint64_t born = process.parent != 0 ? process.forked_ns : process.begin_ns;
    heads_.push({std::min(born, process.begin_ns), i});
  }
}

bool TraceReader::advance(Stream& stream) {
  const std::vector<TracedThread::Piece>& pieces = threads_[stream.thread].pieces;
  for (;;) {
    if (stream.decoder.next(stream.record) == trace::Decoder::Result::record) return true;
    if (++stream.piece >= pieces.size()) return false;
    const TracedThread::Piece& piece = pieces[stream.piece];
    stream.decoder = trace::Decoder(file_.data() + piece.begin, file_.data() + piece.end, piece.begin_ns);
  }
}

bool TraceReader::next(TraceEvent& event) {
  if (heads_.empty()) return false;
  const Head head = heads_.top();
  heads_.pop();
  if (head.source < processes_.size()) {
    event = {true, head.source, 0, {}};
    event.record.time = head.time;
    return true;
  }
  Stream& stream = streams_[head.source - processes_.size()];
  event = {false, threads_[stream.thread].process, stream.thread, stream.record};
  if (advance(stream)) heads_.push({stream.record.time, head.source});
  return true;
}

}  // namespace nonreuse::launcher
