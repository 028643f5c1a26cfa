// What is known of a chunk beyond its tag: where it was allocated and freed. Said when the program misuses
// it, and left where an observer of the process finds it.
#pragma once

#include "override/process_heap.hpp"

namespace nonreuse {

// Fills in nonreuse_heap_descriptor. The heap is ready; once.
void publish_descriptor(const ProcessRevoker& revoker);
// Starts recording where chunks are allocated and freed, if the options say so. True: threads must be without
// a front from now on.
bool start_history();
// Lets the reporter of the option report_socket look at the process, which ends.
void report_at_exit();

}  // namespace nonreuse
