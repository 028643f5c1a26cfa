// Runs a fuzz target without libFuzzer, so that every compiler and every test run covers it: first the files
// of its corpus, then random inputs made from a fixed seed for a given number of seconds.
//   TARGET SECONDS [CORPUS-FOLDER]
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

std::vector<Bytes> read_corpus(const char* folder) {
  std::vector<Bytes> corpus;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(folder, missing)) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

// A fresh random input, or one of the corpus with a few bytes changed.
Bytes next_input(std::mt19937_64& random, const std::vector<Bytes>& corpus) {
  Bytes input;
  if (!corpus.empty() && random() % 2 == 0) {
    input = corpus[random() % corpus.size()];
    for (size_t changes = random() % 8; changes > 0 && !input.empty(); --changes) {
      input[random() % input.size()] = static_cast<uint8_t>(random());
    }
    return input;
  }
  input.resize(random() % 4096);
  for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s SECONDS [CORPUS-FOLDER]\n", argv[0]);
    return 2;
  }
  const std::vector<Bytes> corpus = argc > 2 ? read_corpus(argv[2]) : std::vector<Bytes>{};
  for (const Bytes& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
  std::mt19937_64 random(20240229);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(argv[1]));
  uint64_t runs = 0;
  do {
    const Bytes input = next_input(random, corpus);
    LLVMFuzzerTestOneInput(input.data(), input.size());
    ++runs;
  } while (std::chrono::steady_clock::now() < end);
  std::printf("%zu inputs of the corpus, %llu random ones\n", corpus.size(),
              static_cast<unsigned long long>(runs));
}
