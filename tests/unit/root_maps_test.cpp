// The list of mappings: what its lines mean for a walk, however they are cut by the reading.
#include "platform/linux_maps.hpp"

#include "roots_support.hpp"

namespace nonreuse {
namespace {

struct Line {
  const char* text;
  MappingKind kind;
};

constexpr uint64_t kShm = make_device(0, 1);
constexpr Line kLines[] = {
    {"563139ec3000-563139ec5000 r--p 00000000 fe:00 247134                     /usr/bin/cat",
     MappingKind::private_file},
    {"563139ec5000-563139eca000 r-xp 00002000 fe:00 247134   /usr/bin/with spaces (deleted)",
     MappingKind::private_file},
    {"56315ffe5000-563160006000 rw-p 00000000 00:00 0                          [heap]",
     MappingKind::private_anonymous},
    {"7fe8a3f7c000-7fe8a3f9e000 rw-p 00000000 00:00 0 ", MappingKind::private_anonymous},
    {"7fe8a3f9e000-7fe8a3f9f000 rw-p 00000000 00:00 0 [anon:glibc: malloc]", MappingKind::private_anonymous},
    {"7fe8a4000000-7fe8a4001000 rw-s 00000000 00:01 9 [anon_shmem:pool]", MappingKind::shared_memory},
    {"7fe8a4001000-7fe8a4002000 rw-s 00000000 00:01 9 /dev/zero (deleted)", MappingKind::shared_memory},
    {"7fe8a4002000-7fe8a4003000 rw-p 00000000 00:06 4 /dev/zero", MappingKind::private_anonymous},
    {"7fe8a4003000-7fe8a4004000 rw-s 00000000 00:01 9 /memfd:x (deleted)", MappingKind::shared_memory},
    {"7fe8a4004000-7fe8a4005000 rw-p 00000000 00:01 9 /memfd:x (deleted)", MappingKind::shared_memory},
    {"7fe8a4005000-7fe8a4006000 rw-s 00000000 00:11 9 /memfd:huge (deleted)", MappingKind::shared_huge},
    {"7fe8a4006000-7fe8a4007000 rw-s 00000000 00:01 9 /SYSV00000000 (deleted)", MappingKind::shared_memory},
    {"7fe8a4007000-7fe8a4008000 rw-s 00000000 00:11 9 /SYSV00000000 (deleted)", MappingKind::shared_huge},
    {"7fe8a4008000-7fe8a4009000 rw-s 00000000 00:1a 9 /dev/shm/pool", MappingKind::shared_memory},
    {"7fe8a4009000-7fe8a400a000 rw-s 00000000 00:11 9 /anon_hugepage (deleted)", MappingKind::shared_huge},
    {"7fe8a400a000-7fe8a400b000 rw-p 00000000 00:11 9 /anon_hugepage (deleted)",
     MappingKind::private_anonymous},
    {"7fe8a400b000-7fe8a400c000 rw-s 00000000 00:0e 9 /secretmem (deleted)", MappingKind::secret_memory},
    {"7fe8a400c000-7fe8a400d000 rw-s 00000000 00:0e 9 /dev/dri/card0", MappingKind::ignored},
    {"7fe8a400d000-7fe8a400e000 rw-p 00000000 00:0e 9 /dev/mem", MappingKind::ignored},
    {"7fe8a400e000-7fe8a400f000 rw-p 00000000 00:0e 9 /dev/zeroed", MappingKind::ignored},
    {"7fe8a400f000-7fe8a4010000 rw-s 00000000 00:01 9 /i915 (deleted)", MappingKind::ignored},
    {"7fe8a4010000-7fe8a4011000 rw-s 00000000 00:01 9 /drm mm object (deleted)", MappingKind::ignored},
    {"7fe8a4011000-7fe8a4012000 rw-s 00000000 00:0f 9 anon_inode:[io_uring]", MappingKind::ignored},
    {"7fe8a4012000-7fe8a4013000 rw-p 00000000 00:0f 9 anon_inode:[perf_event]", MappingKind::ignored},
    {"7fe8a4013000-7fe8a4014000 rw-p 00000000 00:08 9 socket:[4711]", MappingKind::ignored},
    {"7fe8a4014000-7fe8a4015000 rw-p 00000000 00:08 9 /sys/devices/pci0000:00/resource0",
     MappingKind::ignored},
    {"7fe8a4015000-7fe8a4016000 r--p 00000000 00:08 9 /proc/bus/pci/00/1f.2", MappingKind::ignored},
    {"7fe8a41e4000-7fe8a41eb000 r--s 00000000 fe:00 332280  /usr/lib/gconv/gconv-modules.cache",
     MappingKind::ignored},
    {"7fe8a41ee000-7fe8a41f2000 r--p 00000000 00:00 0                          [vvar]", MappingKind::ignored},
    {"7fe8a41f2000-7fe8a41f4000 r--p 00000000 00:00 0                   [vvar_vclock]", MappingKind::ignored},
    {"7fe8a41f4000-7fe8a41f6000 r-xp 00000000 00:00 0                          [vdso]", MappingKind::ignored},
    {"7ffee49aa000-7ffee49cb000 rw-p 00000000 00:00 0                         [stack]",
     MappingKind::private_anonymous},
    {"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0              [vsyscall]", MappingKind::ignored},
};

std::string write_list(TemporaryFile& file, const std::string& text) {
  EXPECT_EQ(pwrite(file.fd(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(ftruncate(file.fd(), static_cast<off_t>(text.size())), 0);
  return file.path();
}

TEST(RootMaps, Kinds) {
  std::string text;
  for (const Line& line : kLines) text += std::string(line.text) + "\n";
  TemporaryFile file(1);
  const std::string path = write_list(file, text);
  for (size_t capacity : {size_t{160}, size_t{257}, size_t{65536}}) {  // lines split over reads, or not
    std::vector<char> buffer(capacity);
    MapsReader reader(buffer.data(), buffer.size());
    ASSERT_TRUE(reader.open(path.c_str()));
    Mapping mapping;
    for (const Line& line : kLines) {
      ASSERT_TRUE(reader.next(mapping)) << line.text;
      EXPECT_EQ(mapping.range.begin, strtoull(line.text, nullptr, 16));
      EXPECT_EQ(mapping.range.end, strtoull(strchr(line.text, '-') + 1, nullptr, 16));
      EXPECT_EQ(mapping.offset, strtoull(strchr(strchr(line.text, ' ') + 1, ' '), nullptr, 16));
      EXPECT_EQ(classify(mapping, kShm), line.kind) << line.text;
      EXPECT_EQ(is_main_stack(mapping), strstr(line.text, "[stack]") != nullptr);
      EXPECT_EQ(mapping.shared, strstr(line.text, "-s ") != nullptr || strstr(line.text, "ws ") != nullptr ||
                                    strstr(line.text, "--s") != nullptr);
    }
    EXPECT_FALSE(reader.next(mapping));
    EXPECT_FALSE(reader.failed());
    reader.close();
  }
}

TEST(RootMaps, UnknownTmpfsMakesSharedMemoryUnfiltered) {
  TemporaryFile file(1);
  const std::string path = write_list(file, "1000-2000 rw-s 00000000 00:01 9 /memfd:x (deleted)\n");
  char buffer[512];
  MapsReader reader(buffer, sizeof buffer);
  Mapping mapping;
  ASSERT_TRUE(reader.open(path.c_str()) && reader.next(mapping));
  EXPECT_EQ(classify(mapping, 0), MappingKind::shared_huge);
  reader.close();
}

TEST(RootMaps, NamesLongerThanTheBuffer) {
  TemporaryFile file(1);
  const std::string longest = "1000-2000 rw-p 00000000 08:01 5    /" + std::string(5000, 'x') + "\n";
  const std::string path = write_list(file, longest + "3000-4000 rw-p 00000000 00:00 0 \n" + longest);
  char buffer[300];
  MapsReader reader(buffer, sizeof buffer);
  Mapping mapping;
  ASSERT_TRUE(reader.open(path.c_str()));
  ASSERT_TRUE(reader.next(mapping));
  EXPECT_EQ(mapping.range.begin, 0x1000u);
  EXPECT_EQ(classify(mapping, kShm), MappingKind::private_file);
  ASSERT_TRUE(reader.next(mapping));
  EXPECT_EQ(mapping.range.begin, 0x3000u);
  EXPECT_EQ(mapping.name_size, 0u);
  ASSERT_TRUE(reader.next(mapping));
  EXPECT_EQ(mapping.range.end, 0x2000u);
  EXPECT_FALSE(reader.next(mapping));
  EXPECT_FALSE(reader.failed());
  reader.close();
}

TEST(RootMaps, WhatIsNotUnderstoodIsAFailure) {
  for (const char* text :
       {"1000-2000 rw-p 00000000 08:01", "1000-2000 rw-p 00000000 08:01 5 /cut off", "hello\n",
        "2000-1000 rw-p 00000000 00:00 0 \n", "1000 2000 rw-p 00000000 00:00 0 \n",
        "11111111111111111-2000 rw-p 00000000 00:00 0 \n", "\n"}) {
    TemporaryFile file(1);
    const std::string path = write_list(file, text);
    char buffer[512];
    MapsReader reader(buffer, sizeof buffer);
    Mapping mapping;
    ASSERT_TRUE(reader.open(path.c_str()));
    EXPECT_FALSE(reader.next(mapping)) << text;
    EXPECT_TRUE(reader.failed()) << text;
    EXPECT_FALSE(reader.next(mapping));
    reader.close();
  }
}

}  // namespace
}  // namespace nonreuse
