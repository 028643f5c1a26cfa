#include "platform/statistics_place.hpp"

constinit nonreuse::StatsPage nonreuse_own_page = {};

// n_namesz, n_descsz, n_type, name, number. An assembler's expression, since the compiler takes no difference
// of addresses for a constant.
__asm__(
    ".pushsection .note.nonreuse,\"a\",%note\n"
    ".balign 8\n"
    ".long 9\n"
    ".long 8\n"
    ".long 0x4e52\n"
    ".asciz \"nonreuse\"\n"
    ".balign 4\n"
    ".quad nonreuse_own_page - .\n"
    ".balign 4\n"
    ".popsection\n");
