#include "launcher/report_html.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "launcher/assets.hpp"
#include "launcher/program.hpp"

namespace nonreuse::launcher {
namespace {

std::string replaced(std::string_view text, std::string_view what, std::string_view by) {
  std::string result;
  for (size_t at = 0;;) {
    const size_t found = text.find(what, at);
    result += text.substr(at, found - at);
    if (found == std::string_view::npos) return result;
    result += by;
    at = found + what.size();
  }
}

// In HTML's text: nothing of it is markup.
std::string escaped(const std::string& text) {
  return replaced(replaced(text, "&", "&amp;"), "<", "&lt;");
}

// A script's end tag ends it wherever it stands; in JavaScript's strings this is the same text.
std::string inline_script(std::string_view text) {
  return "<script>\n" + replaced(text, "</script", "<\\/script") + "\n</script>\n";
}

}  // namespace

std::string html_page(const std::string& title, std::string_view script, const std::string& data) {
  if (assets::chart_library().empty()) {
    throw Failure(
        kCannotRunStatus,
        "pages need Chart.js, which was missing when this launcher was built (Debian: libjs-chart.js; "
        "scripts/setup installs it); install it and build again");
  }
  // No "<" in the data: neither an end tag nor a comment can begin there. JSON reads it as the same text.
  return "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         // Nothing is fetched from anywhere.
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src "
         "'unsafe-inline'; "
         "style-src 'unsafe-inline'\">\n<title>" +
         escaped(title) + "</title>\n<style>\n" + std::string(assets::style()) +
         "</style>\n</head>\n<body>\n<main id=\"page\"><noscript>This page needs JavaScript; it fetches "
         "nothing.</noscript></main>\n<script type=\"application/json\" id=\"data\">" +
         replaced(data, "<", "\\u003c") + "</script>\n" + inline_script(assets::chart_library()) +
         inline_script(assets::common_script()) + inline_script(script) + "</body>\n</html>\n";
}

std::string report_html(const nlohmann::json& dangling) {
  const nlohmann::json& first = dangling.is_array() && !dangling.empty() ? dangling.front() : dangling;
  const std::string program = first.is_object() ? first.value("program", "") : "";
  return html_page("Dangling pointers in " + program, assets::dangling_script(),
                   dangling.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace nonreuse::launcher
