#include "launcher/report_html.hpp"

#include "launcher/dangling_report.hpp"

namespace nonreuse::launcher {
namespace {

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else if (c == '&')
      safe += "&amp;";
    else
      safe += c;
  }
  return safe;
}

}  // namespace

std::string report_html(const nlohmann::json& report) {
  std::vector<nlohmann::json> reports;
  if (report.is_array())
    reports.assign(report.begin(), report.end());
  else
    reports.push_back(report);
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Dangling pointers</title>\n"
         "<style>body{margin:2em;font-family:sans-serif}pre{line-height:1.4}</style></head>\n"
         "<body><h1>Dangling pointers</h1>\n<pre>" +
         escaped(reports_text(reports)) + "</pre></body></html>\n";
}

}  // namespace nonreuse::launcher
