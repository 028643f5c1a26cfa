// Finding protected processes and reading their statistics from outside: nobody is stopped or signalled, and
// nothing needs to be prepared in them. What may read a process' memory may do this (process_vm_readv(2)):
// for an ordinary user his own processes, unless they are not dumpable or the kernel limits ptrace (Yama).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/stats_page.hpp"

namespace nonreuse::launcher {

enum class Sight : uint8_t {
  protected_here,  // the page was read
  not_protected,
  not_permitted,  // its memory may not be read
  hidden,         // the same, but the library is among its files
  gone
};

// Its page, with the process id as it is seen from here.
Sight observe(pid_t process, StatsPage& page);

// CPU time of all its threads so far, in nanoseconds; nothing where the process is gone.
std::optional<uint64_t> cpu_ns_of(pid_t process);

struct Sighted {
  std::vector<StatsPage> pages;  // by process id
  size_t hidden = 0;             // protected processes that may not be read
  size_t not_permitted = 0;      // others of which nothing can be said
};
// Every process of this system that can be seen.
Sighted observe_all();

// Why there is nothing to show: one line without a full stop.
std::string nothing_seen(const Sighted& seen);

// What `nonreuse stats` was told.
struct StatsRequest {
  std::vector<pid_t> processes;
  bool all = false;
  std::string folder;  // instead: the pages that option stats_dir left there
  bool json = false, prometheus = false;
};
// Prints to standard output. The exit status: 1 where a process could not be read, with a line that says why.
int run_stats(const StatsRequest& request);

}  // namespace nonreuse::launcher
