// Tests of what an emulator does not have (docs/machines.md) are skipped there, each with its reason.
#pragma once

#include <gtest/gtest.h>

#include "platform/linux_emulator.hpp"

#define NONREUSE_NOT_EMULATED(why) \
  if (emulator::present()) GTEST_SKIP() << "not under an emulator: " << (why)
