// Writes the page of a report on dangling pointers: report_page REPORT.json PAGE.html
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/program.hpp"
#include "launcher/report_html.hpp"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    std::ifstream report(argv[1]);
    std::ofstream page(argv[2], std::ios::binary);
    page << nonreuse::launcher::report_html(nlohmann::json::parse(report)) << std::flush;
    return page ? 0 : 1;
  } catch (const nonreuse::launcher::Failure& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return failure.status();
  }
}
