#include "profile/compare.h"

#include <algorithm>
#include <vector>

#include <fmt/core.h>

namespace gangway::profile {
namespace {

void add_lines(std::vector<std::string>& lines, const std::vector<Step>& steps) {
  for (const Step& step : steps) {
    lines.push_back(step.text());
    add_lines(lines, step.body);
    if (!step.otherwise.empty()) {
      lines.emplace_back("else");
      add_lines(lines, step.otherwise);
    }
    const bool block =
        step.kind == Step::Kind::If || step.kind == Step::Kind::Repeat || step.kind == Step::Kind::Thread;
    if (block) lines.emplace_back("end");
  }
}

std::vector<std::string> lines_of(const Phase& phase) {
  std::vector<std::string> lines{fmt::format("on {}{}", to_text(phase.side), phase.together ? " together" : "")};
  add_lines(lines, phase.steps);
  return lines;
}

std::string line_at(const std::vector<std::string>& lines, std::size_t at) {
  return at < lines.size() ? fmt::format("'{}'", lines[at]) : "nothing more";
}

}  // namespace

std::optional<std::string> difference(const Profile& a, const Profile& b, const std::string& left,
                                      const std::string& right) {
  if (a.interface != b.interface) {
    return fmt::format("interface {} of {}, {} of {}", interface_name(a.interface), left, interface_name(b.interface),
                       right);
  }
  for (std::size_t i = 0; i < std::min(a.phases.size(), b.phases.size()); ++i) {
    const std::vector<std::string> mine = lines_of(a.phases[i]);
    const std::vector<std::string> others = lines_of(b.phases[i]);
    const auto [at, other] = std::ranges::mismatch(mine, others);
    if (at == mine.end() && other == others.end()) continue;
    const auto place = static_cast<std::size_t>(at - mine.begin());
    return fmt::format("act {}: {} in {} of {}, {} in {} of {}", place, line_at(mine, place), a.phases[i].name, left,
                       line_at(others, place), b.phases[i].name, right);
  }
  if (a.phases.size() == b.phases.size()) return std::nullopt;
  return fmt::format("{} phases of {}, {} of {}", a.phases.size(), left, b.phases.size(), right);
}

}  // namespace gangway::profile
