#include "conformance/waivers.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>

#include <fmt/core.h>

namespace gangway::conformance {
namespace {

bool is_date(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-dd";
  return std::ranges::equal(text, kShape,
                            [](char c, char shape) { return shape == 'd' ? c >= '0' && c <= '9' : c == shape; });
}

std::string today() {
  const std::chrono::year_month_day day{std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now())};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(day.year()), static_cast<unsigned>(day.month()),
                     static_cast<unsigned>(day.day()));
}

// A '#' within a word, as in a link, begins none.
std::string without_comment(const std::string& line) {
  for (std::size_t at = line.find('#'); at != std::string::npos; at = line.find('#', at + 1)) {
    if (at == 0 || line[at - 1] == ' ' || line[at - 1] == '\t') return line.substr(0, at);
  }
  return line;
}

}  // namespace

bool matches_glob(std::string_view glob, std::string_view text) {
  std::size_t g = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // the last '*', which takes more text when what follows does not fit
  std::size_t taken = 0;
  while (t < text.size()) {
    if (g < glob.size() && (glob[g] == '?' || glob[g] == text[t]) && glob[g] != '*') {
      ++g;
      ++t;
    } else if (g < glob.size() && glob[g] == '*') {
      star = g++;
      taken = t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  return glob.find_first_not_of('*', g) == std::string_view::npos;
}

Result<Waivers> Waivers::parse(std::string_view text, std::string_view today) {
  Waivers waivers;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(without_comment(line));
    Waiver waiver{.line = line};
    std::string expiry;
    std::string link;
    if (!(words >> waiver.device)) continue;
    words >> waiver.clause >> expiry >> link;
    std::getline(words >> std::ws, waiver.reason);
    if (waiver.reason.empty() || (expiry != "never" && !is_date(expiry))) {
      return fail(EINVAL, fmt::format("waivers, line {}: '{}': say DEVICE CLAUSE YYYY-MM-DD|never LINK|- REASON",
                                      number, line));
    }
    waiver.expired = expiry != "never" && expiry < today;
    waiver.reason += fmt::format(" (until {}{})", expiry, link == "-" ? "" : ", " + link);
    waivers.waivers_.push_back(std::move(waiver));
  }
  return waivers;
}

Result<Waivers> Waivers::load(const std::string& file) {
  std::ifstream in(file);
  if (!in) return fail_errno(fmt::format("open {}", file));
  std::ostringstream text;
  text << in.rdbuf();
  return parse(text.str(), today());
}

const std::string* Waivers::find(std::string_view device, std::string_view clause) {
  const auto fits = [&](const Waiver& waiver) {
    return !waiver.expired && matches_glob(waiver.device, device) && matches_glob(waiver.clause, clause);
  };
  const auto found = std::ranges::find_if(waivers_, fits);
  if (found == waivers_.end()) return nullptr;
  found->used = true;
  return &found->reason;
}

std::vector<std::string> Waivers::unused() const {
  std::vector<std::string> unused;
  for (const Waiver& waiver : waivers_) {
    if (waiver.used) continue;
    unused.push_back(waiver.expired ? waiver.line + " (it has expired)" : waiver.line);
  }
  return unused;
}

}  // namespace gangway::conformance
