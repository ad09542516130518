#include "guest/timeline.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace gangway::guest {
namespace {

using nlohmann::ordered_json;

double mebibytes(const ordered_json& object, const char* key) { return object.value(key, 0.0) / (1U << 20); }

// What stands behind a phase's time: nothing, where it would be less than half a mark.
std::string bar(double part, double whole) {
  constexpr double kWidth = 30;
  const double share = whole > 0 ? std::clamp(part / whole, 0.0, 1.0) : 0;
  const auto marks = static_cast<std::size_t>(std::lround(share * kWidth));
  return marks == 0 ? std::string() : "  " + std::string(marks, '#');
}

}  // namespace

std::string describe_progress(const ordered_json& progress) {
  return fmt::format("{}, round {}: {:.1f} MiB sent, {:.1f} MiB to go, {:.0f} MiB/s",
                     progress.value("phase", "migration"), progress.value("round", 0),
                     mebibytes(progress, "memory_bytes_sent") + mebibytes(progress, "device_bytes_sent"),
                     mebibytes(progress, "memory_bytes_dirty"), mebibytes(progress, "bytes_per_second"));
}

std::string describe_timeline(const ordered_json& completed) {
  const double total = completed.value("total_ms", 0.0);
  std::string text = "Timeline\n";
  for (const ordered_json& phase : completed.value("phases", ordered_json::array())) {
    const double took = phase.value("ms", 0.0);
    text += fmt::format("  {:<34}{:>10.2f} ms{}\n", phase.value("name", "?"), took, bar(took, total));
  }
  text += fmt::format("  {:<34}{:>10.2f} ms\n", "total", total);
  text += fmt::format("  {:<34}{:>10.2f} ms\n", "downtime", completed.value("downtime_ms", 0.0));
  text += fmt::format("  {:<34}{:>10.2f} MiB in {} rounds\n", "memory", mebibytes(completed, "memory_bytes"),
                      completed.value("rounds", 0));
  text += fmt::format("  {:<34}{:>10} bytes\n", "devices", completed.value("device_bytes", std::uint64_t{0}));
  return text;
}

ProgressLine::ProgressLine(std::FILE* out) : out_(out), terminal_(::isatty(::fileno(out)) == 1) {}

void ProgressLine::show(const std::string& text) {
  if (text == shown_) return;
  // Blanks over what is left of a longer line before.
  const std::size_t width = std::max(text.size(), shown_.size());
  if (terminal_) {
    fmt::print(out_, "\r{:<{}}", text, width);
  } else {
    fmt::print(out_, "{}\n", text);
  }
  std::fflush(out_);
  shown_ = text;
}

void ProgressLine::show_on_terminal(const std::string& text) {
  if (terminal_) show(text);
}

void ProgressLine::clear() {
  if (terminal_ && !shown_.empty()) fmt::print(out_, "\r{:<{}}\r", "", shown_.size());
  std::fflush(out_);
  shown_.clear();
}

void ProgressLine::end() {
  if (terminal_ && !shown_.empty()) fmt::print(out_, "\n");
  shown_.clear();
}

}  // namespace gangway::guest
