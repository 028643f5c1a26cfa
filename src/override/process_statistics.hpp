// This process' statistics: its pages, and what is written of them at exit.
#pragma once

namespace nonreuse {

// Once the options are known, before the process has other threads.
void start_statistics();
void restart_statistics_in_child();  // after fork
// After the program's exit handlers: the last figures, and what the options `stats` asks for.
void finish_statistics();

// Prints the statistics on standard error.
void print_statistics();

}  // namespace nonreuse
