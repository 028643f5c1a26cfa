// libstdc++'s, less what only its own threads and waiting need, for which there are no stubs.
#pragma once
#include_next <bits/c++config.h>
#undef _GLIBCXX_HAVE_LINUX_FUTEX
#undef _GLIBCXX_HAS_GTHREADS
