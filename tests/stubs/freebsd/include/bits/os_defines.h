/* In place of the part of libstdc++ that knows a C library: nothing is known. */
#pragma once
