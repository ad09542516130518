#include "conformance/journal.h"

#include <fmt/core.h>

#include "conformance/act.h"

namespace gangway::conformance {
namespace {

// A test that acts for ever longer is cut at its middle: how it began and how it ended tell what happened.
constexpr std::size_t kMostLines = 400;

}  // namespace

void Journal::act(std::string_view line) {
  const std::scoped_lock lock(mutex_);
  if (lines_.size() >= kMostLines) {
    lines_.erase(lines_.begin() + kMostLines / 2);
    ++dropped_;
  }
  lines_.push_back({std::string(line), {}});
}

void Journal::outcome(std::string_view text) {
  const std::scoped_lock lock(mutex_);
  if (!lines_.empty()) lines_.back().outcome = text;
}

void Journal::clear() {
  const std::scoped_lock lock(mutex_);
  lines_.clear();
  dropped_ = 0;
}

std::string Journal::text() const {
  const std::scoped_lock lock(mutex_);
  std::string text;
  for (std::size_t i = 0; i < lines_.size(); ++i) {
    if (dropped_ != 0 && i == kMostLines / 2) text += fmt::format("# {} acts left out\n", dropped_);
    const Line& line = lines_[i];
    // What is no act of the language happened all the same, and whoever repeats the rest should know.
    const std::string shown = parse_act(line.act) ? line.act : "# " + line.act;
    text += line.outcome.empty() ? shown : fmt::format("{:<24}  # {}", shown, line.outcome);
    text += '\n';
  }
  return text;
}

}  // namespace gangway::conformance
