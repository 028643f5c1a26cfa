// `nonreuse replay`: the recorded calls once more, on this heap under other settings or on another malloc.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

namespace nonreuse::launcher {

class ReplayCommand {
 public:
  explicit ReplayCommand(CLI::App& app);
  ~ReplayCommand();
  ReplayCommand(const ReplayCommand&) = delete;
  ReplayCommand& operator=(const ReplayCommand&) = delete;

  bool given() const;
  // The exit status: 1 where the replay did not end with the live blocks of the trace, or the trace is
  // damaged.
  int run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nonreuse::launcher
