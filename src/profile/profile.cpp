#include "profile/profile.h"

#include <algorithm>

#include <fmt/core.h>

#include "profile/step_text.h"

namespace gangway::profile {
namespace {

constexpr std::size_t kLongestName = 64;

bool is_name(std::string_view text) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  };
  return !text.empty() && text.size() <= kLongestName && text.front() != '-' && text.front() != '.' &&
         std::ranges::all_of(text, fits);
}

// Words separated by single blanks; what follows a '#' at the beginning of a word is a comment.
std::string tidy(std::string_view line) {
  std::string clean;
  while (!line.empty()) {
    const std::size_t start = line.find_first_not_of(" \t\r");
    if (start == std::string_view::npos || line[start] == '#') break;
    line.remove_prefix(start);
    const std::size_t size = std::min(line.find_first_of(" \t\r"), line.size());
    clean += (clean.empty() ? "" : " ") + std::string(line.substr(0, size));
    line.remove_prefix(size);
  }
  return clean;
}

std::optional<std::string_view> behind(std::string_view line, std::string_view key) {
  if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ' ') return std::nullopt;
  return line.substr(key.size() + 1);
}

std::unexpected<Error> wrong(std::string message) { return fail(EINVAL, std::move(message)); }

// The interfaces that have the act; empty: it is no act of migration.
std::vector<Revision> interfaces_of(const Step& step) {
  using Kind = conformance::Act::Kind;
  if (step.kind == Step::Kind::Own) {
    if (step.own.kind == OwnAct::Kind::Bits) return {Revision::V1};
    return step.own.kind > OwnAct::Kind::Bits ? std::vector{Revision::V1, Revision::RegionV2} : std::vector<Revision>{};
  }
  if (step.kind != Step::Kind::Act) return {};
  switch (step.act.kind) {
    case Kind::Set:
    case Kind::Get:
      return {Revision::V2, Revision::RegionV2};
    case Kind::Size:
    case Kind::Info:
    case Kind::Read:
    case Kind::ReadAll:
    case Kind::Stream:
    case Kind::Write:
    case Kind::WriteAll:
    case Kind::CloseData:
      return {Revision::V2};
    default:
      return {};
  }
}

// Reads a file line by line. What is open is a chain of blocks, the innermost last.
class Parser {
 public:
  Result<Profile> parse(std::string_view text) {
    if (text.size() > kLargestFile) {
      return wrong(fmt::format("{} bytes are no profile; it has at most {}", text.size(), kLargestFile));
    }
    while (!text.empty()) {
      ++line_;
      const std::size_t end = std::min(text.find('\n'), text.size());
      const std::string line = tidy(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line.empty()) continue;
      if (Result<void> taken = take(line); !taken) return fail_within(fmt::format("line {}", line_), taken.error());
    }
    if (Result<void> whole = check_whole(); !whole) return std::unexpected(whole.error());
    return std::move(profile_);
  }

 private:
  // Of the innermost open block. Pointers stay good: a list grows only while nothing in it is open.
  struct Block {
    Step* step;
    std::vector<Step>* into;
  };

  Result<void> take(std::string_view line) {
    if (const auto phase = behind(line, "phase")) return begin_phase(*phase);
    return profile_.phases.empty() ? take_header(line) : take_in_phase(line);
  }

  Result<void> take_header(std::string_view line) {
    if (const auto name = behind(line, "profile")) {
      if (!profile_.name.empty()) return wrong("a file has one profile");
      if (!is_name(*name)) return wrong(fmt::format("'{}' is no name: small letters, digits, '-', '.' and '_'", *name));
      profile_.name = *name;
      return {};
    }
    if (const auto who = behind(line, "userspace")) {
      profile_.userspace = *who;
      return {};
    }
    if (const auto revision = behind(line, "interface")) {
      profile_.interface = contract::revision_from_name(*revision);
      if (profile_.interface || *revision == interface_name({})) return {};
      return wrong(fmt::format("'interface {}': v2, v1, region-v2 or none", *revision));
    }
    if (const auto source = behind(line, "known from")) {
      profile_.known_from.emplace_back(*source);
      return {};
    }
    if (const auto note = behind(line, "note")) {
      profile_.notes.emplace_back(*note);
      return {};
    }
    return wrong(
        fmt::format("'{}': before the first phase stand profile, userspace, interface, known from, note", line));
  }

  // "source", "cancel on source", "source on source together"
  Result<void> begin_phase(std::string_view text) {
    if (!blocks_.empty()) return wrong(fmt::format("the '{}' before it has no end", blocks_.back().step->text()));
    Phase phase{.name = std::string(text.substr(0, text.find(' '))), .line = line_};
    const std::string_view rest = text.substr(std::min(phase.name.size() + 1, text.size()));
    if (!is_name(phase.name)) return wrong(fmt::format("'{}' is no name of a phase", phase.name));
    phase.together = rest.ends_with(" together");
    const std::string_view side = rest.substr(0, rest.size() - (phase.together ? 9 : 0));
    if (side != "on source" && side != "on destination") {
      return wrong(fmt::format("phase {}: 'on source' or 'on destination'", phase.name));
    }
    phase.side = side == "on source" ? Side::Source : Side::Destination;
    if (std::ranges::find(profile_.phases, phase.name, &Phase::name) != profile_.phases.end()) {
      return wrong(fmt::format("a second phase {}", phase.name));
    }
    if (profile_.phases.size() >= 64) return wrong("more than 64 phases");
    profile_.phases.push_back(std::move(phase));
    from_.clear();
    return {};
  }

  Result<void> take_in_phase(std::string_view line) {
    if (const auto note = behind(line, "note")) {
      profile_.phases.back().notes.emplace_back(*note);
      return {};
    }
    if (const auto function = behind(line, "from")) {
      from_ = *function;
      return {};
    }
    if (line == "end") return end_block();
    if (line == "else") return begin_otherwise();
    return add_step(line);
  }

  Result<void> add_step(std::string_view line) {
    Result<Step> step = parse_step(line);
    if (!step) return std::unexpected(step.error());
    if (++steps_ > kMostSteps) return wrong(fmt::format("more than {} steps", kMostSteps));
    if (Result<void> fits = check_fits(*step); !fits) return fits;
    step->line = line_;
    step->from = from_;
    std::vector<Step>& list = blocks_.empty() ? profile_.phases.back().steps : *blocks_.back().into;
    list.push_back(*std::move(step));
    Step& added = list.back();
    const bool block =
        added.kind == Step::Kind::If || added.kind == Step::Kind::Repeat || added.kind == Step::Kind::Thread;
    if (!block) return {};
    if (blocks_.size() >= kDeepest) return wrong(fmt::format("more than {} blocks within each other", kDeepest));
    blocks_.push_back({&added, &added.body});
    return {};
  }

  // An act belongs to one interface.
  [[nodiscard]] Result<void> check_fits(const Step& step) const {
    if (step.kind == Step::Kind::Thread &&
        std::ranges::any_of(blocks_, [](const Block& block) { return block.step->kind == Step::Kind::Thread; })) {
      return wrong("a thread within a thread");
    }
    const std::vector<Revision> of = interfaces_of(step);
    if (of.empty() || (profile_.interface && std::ranges::find(of, *profile_.interface) != of.end())) return {};
    std::string names;
    for (const Revision revision : of)
      names += fmt::format("{}{}", names.empty() ? "" : " and ", interface_name(revision));
    return wrong(fmt::format("'{}' is of interface {}", step.text(), names));
  }

  Result<void> end_block() {
    if (blocks_.empty()) return wrong("'end' of nothing");
    blocks_.pop_back();
    return {};
  }

  Result<void> begin_otherwise() {
    if (blocks_.empty() || blocks_.back().step->kind != Step::Kind::If ||
        blocks_.back().into == &blocks_.back().step->otherwise) {
      return wrong("'else' belongs to an 'if'");
    }
    blocks_.back().into = &blocks_.back().step->otherwise;
    return {};
  }

  [[nodiscard]] Result<void> check_whole() const {
    if (!blocks_.empty()) {
      return wrong(fmt::format("line {}: '{}' has no end", blocks_.back().step->line, blocks_.back().step->text()));
    }
    if (profile_.name.empty()) return wrong("no 'profile NAME'");
    if (profile_.phases.empty()) return wrong(fmt::format("profile {} has no phase", profile_.name));
    return {};
  }

  Profile profile_;
  std::vector<Block> blocks_;
  std::string from_;
  std::size_t line_ = 0;
  std::size_t steps_ = 0;
};

class Writer {
 public:
  std::string write(const Profile& profile) {
    line(fmt::format("profile {}", profile.name));
    if (!profile.userspace.empty()) line("userspace " + profile.userspace);
    line(fmt::format("interface {}", interface_name(profile.interface)));
    for (const std::string& source : profile.known_from) line("known from " + source);
    for (const std::string& note : profile.notes) line("note " + note);
    for (const Phase& phase : profile.phases) write(phase);
    return std::move(text_);
  }

 private:
  void write(const Phase& phase) {
    text_ += '\n';
    line(fmt::format("phase {} on {}{}", phase.name, to_text(phase.side), phase.together ? " together" : ""));
    ++depth_;
    for (const std::string& note : phase.notes) line("note " + note);
    from_.clear();
    write(phase.steps);
    --depth_;
  }

  void write(const std::vector<Step>& steps) {
    for (const Step& step : steps) {
      if (step.from != from_ && !step.from.empty()) line("from " + step.from);
      from_ = step.from;
      line(step.text());
      const bool block =
          step.kind == Step::Kind::If || step.kind == Step::Kind::Repeat || step.kind == Step::Kind::Thread;
      if (!block) continue;
      ++depth_;
      write(step.body);
      --depth_;
      if (!step.otherwise.empty()) {
        line("else");
        ++depth_;
        write(step.otherwise);
        --depth_;
      }
      line("end");
    }
  }

  void line(std::string_view text) {
    text_.append(2 * depth_, ' ');
    text_ += text;
    text_ += '\n';
  }

  std::string text_;
  std::string from_;
  std::size_t depth_ = 0;
};

}  // namespace

std::string_view to_text(Side side) { return side == Side::Source ? "source" : "destination"; }

bool Condition::holds(const Features& features) const {
  const bool has = what == What::P2p       ? features.flags.p2p
                   : what == What::PreCopy ? features.flags.pre_copy
                                           : features.logging;
  return has != negated;
}

std::string_view interface_name(std::optional<Revision> interface) {
  return interface ? contract::name(*interface) : "none";
}

Result<Profile> parse_profile(std::string_view text) { return Parser().parse(text); }

std::string to_text(const Profile& profile) { return Writer().write(profile); }

}  // namespace gangway::profile
