// The terminal of `nonreuse top`, by ncurses(3).
#include <fmt/format.h>
#define NCURSES_NOMACROS 1  // names like clear and move stay functions
#include <locale.h>
#include <ncurses.h>

#include <algorithm>

#include "launcher/program.hpp"
#include "launcher/top.hpp"

namespace nonreuse::launcher {
namespace {

// The terminal is given back whatever happens; ncurses itself does so for SIGINT and SIGTERM.
class Screen {
 public:
  Screen() {
    setlocale(LC_CTYPE, "");
    screen_ = newterm(nullptr, stdout, stdin);
    if (screen_ == nullptr)
      throw Failure(kCannotRunStatus, "this terminal is not known (TERM); `nonreuse top --once` needs none");
    cbreak();
    noecho();
    keypad(stdscr, true);
    curs_set(0);
  }
  ~Screen() {
    endwin();
    delscreen(screen_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

 private:
  SCREEN* screen_;
};

struct View {
  TopKey key;
  bool reverse = false;
  size_t first = 0;  // row at the top
};

void put_line(int line, const std::string& text, attr_t attributes = A_NORMAL) {
  if (line >= LINES) return;
  attrset(attributes);
  mvaddnstr(line, 0, text.c_str(), COLS);
  attrset(A_NORMAL);
}

// The heading, with the column that sorts standing out.
void put_heading(int line, TopKey key) {
  put_line(line, top_heading() + std::string(static_cast<size_t>(std::max(COLS, 0)), ' '), A_REVERSE);
  int column = 0;
  for (size_t i = 0; i < static_cast<size_t>(TopKey::count); ++i) {
    const int width = std::abs(kTopColumns[i].width);
    if (i == static_cast<size_t>(key)) mvchgat(line, column, width, A_BOLD | A_UNDERLINE, 0, nullptr);
    column += width + 1;
  }
}

void draw(const TopSampler& sampler, const std::vector<TopRow>& rows, View& view, double delay) {
  erase();
  const size_t room = LINES > 4 ? static_cast<size_t>(LINES - 4) : 1;
  view.first = std::min(view.first, rows.size() > room ? rows.size() - room : 0);
  std::string summary =
      fmt::format("nonreuse top: {} protected {}", rows.size(), rows.size() == 1 ? "process" : "processes");
  if (sampler.seen().hidden != 0) summary += fmt::format(", {} more may not be read", sampler.seen().hidden);
  put_line(0, summary + fmt::format("; every {:g} s", delay), A_BOLD);
  if (rows.empty()) put_line(2, nothing_seen(sampler.seen()));
  if (!rows.empty()) put_heading(2, view.key);
  for (size_t i = 0; i < room && view.first + i < rows.size(); ++i)
    put_line(3 + static_cast<int>(i), top_line(rows[view.first + i]));
  std::string help = "q quit, < > or";
  for (const TopColumn& column : kTopColumns) help += fmt::format(" {}:{}", column.key, column.name);
  put_line(LINES - 1, help + ", R reverse", A_DIM);
  refresh();
}

// False: the user has enough.
bool handle(int key, View& view) {
  constexpr auto kColumns = static_cast<size_t>(TopKey::count);
  const auto step = [&](size_t by) {
    view.key = static_cast<TopKey>((static_cast<size_t>(view.key) + by) % kColumns);
  };
  switch (key) {
    case 'q':
    case 'Q':
    case 27:
      return false;
    case 'L' & 31:  // control-L: somebody else has written to the terminal
      clearok(curscr, true);
      return true;
    case 'R':
      view.reverse = !view.reverse;
      return true;
    case '<':
    case KEY_LEFT:
      step(kColumns - 1);
      return true;
    case '>':
    case KEY_RIGHT:
      step(1);
      return true;
    case KEY_UP:
      if (view.first > 0) --view.first;
      return true;
    case KEY_DOWN:
      ++view.first;
      return true;
    default:
      break;
  }
  for (size_t i = 0; i < kColumns; ++i) {
    if (key == kTopColumns[i].key) view.key = static_cast<TopKey>(i);
  }
  return true;
}

}  // namespace

void show_top(TopKey key, double delay) {
  const Screen screen;
  TopSampler sampler;
  View view{key};
  std::vector<TopRow> rows = sampler.sample();
  const int wait = static_cast<int>(delay * 1000);
  for (;;) {
    sort_rows(rows, view.key, view.reverse);
    draw(sampler, rows, view, delay);
    timeout(wait);
    const int got = getch();  // KEY_RESIZE where the terminal has changed its size
    if (got != ERR) {
      if (!handle(got, view)) return;
      continue;
    }
    rows = sampler.sample();
  }
}

}  // namespace nonreuse::launcher
