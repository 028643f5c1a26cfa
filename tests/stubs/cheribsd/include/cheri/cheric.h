/* As revoke.h beside this file: the compiler's operations are macros of the test. */
#pragma once
