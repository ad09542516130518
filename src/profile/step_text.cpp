#include "profile/step_text.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/core.h>

namespace gangway::profile {
namespace {

using conformance::Act;

struct OwnWord {
  OwnAct::Kind kind;
  std::string_view text;
  std::string_view clause;  // that it is judged by
  enum class Takes : std::uint8_t { Nothing, Bits, Access } takes = Takes::Nothing;
};
constexpr std::array<OwnWord, 11> kOwnWords{{
    {OwnAct::Kind::CommandKeep, "command keep", "STP-CONFIG"},
    {OwnAct::Kind::CommandClear, "command clear", "STP-CONFIG"},
    {OwnAct::Kind::CommandEnable, "command enable", "STP-CONFIG"},
    {OwnAct::Kind::CommandRestore, "command restore", "STP-CONFIG"},
    {OwnAct::Kind::CommandCheck, "command check", "STP-CONFIG"},
    {OwnAct::Kind::InterruptsArm, "interrupts arm", "STP-CONFIG"},
    {OwnAct::Kind::LogStartAll, "log start all", "LOG-START"},
    {OwnAct::Kind::Bits, "bits", "V1-STATES", OwnWord::Takes::Bits},
    {OwnAct::Kind::Pending, "pending", "V1-SAVE"},
    {OwnAct::Kind::Chunk, "chunk by", "V1-SAVE", OwnWord::Takes::Access},
    {OwnAct::Kind::Load, "load by", "V1-LOAD", OwnWord::Takes::Access},
}};

const OwnWord& word_of(OwnAct::Kind kind) { return *std::ranges::find(kOwnWords, kind, &OwnWord::kind); }

struct Ability {
  Condition::What what;
  std::string_view text;
};
constexpr std::array<Ability, 3> kAbilities{
    {{Condition::What::P2p, "P2P"}, {Condition::What::PreCopy, "PRE_COPY"}, {Condition::What::Logging, "LOGGING"}}};

// Those that a userspace may be answered with; enough to name what a profile expects.
constexpr std::array kErrors{EPERM,  ENOENT, EIO,    ENXIO,  EACCES, EFAULT,     EBUSY,     ENODEV,   EINVAL,
                             ENOTTY, ENOSPC, ERANGE, ENOMSG, ENOSYS, EOPNOTSUPP, EOVERFLOW, ECANCELED};

std::unexpected<Error> wrong(std::string message) { return fail(EINVAL, std::move(message)); }

// Takes a word and the blank behind it off the text.
std::string_view take_word(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(std::min(word.size() + 1, text.size()));
  return word;
}

std::optional<std::uint64_t> number_of(std::string_view word, int base = 10) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

Result<Step> parse_own(const OwnWord& word, std::string_view rest) {
  Step step{.kind = Step::Kind::Own, .own = {.kind = word.kind}};
  if (word.takes == OwnWord::Takes::Nothing) {
    if (!rest.empty()) return wrong(fmt::format("'{}' takes nothing behind it, not '{}'", word.text, rest));
    return step;
  }
  if (word.takes == OwnWord::Takes::Bits) {
    const auto bits = rest.size() == 3 ? number_of(rest, 2) : std::nullopt;
    if (!bits) return wrong(fmt::format("'bits {}': three bits are needed, such as 011", rest));
    step.own.number = *bits;
    return step;
  }
  const auto size = number_of(rest);
  if (!size || *size == 0 || *size > kLargestAccess) {
    return wrong(fmt::format("'{} {}': bytes of an access, 1 to {}", word.text, rest, kLargestAccess));
  }
  step.own.number = *size;
  return step;
}

Result<Step> parse_expect(std::string_view rest) {
  Step step{.kind = Step::Kind::Expect};
  const std::string_view name = take_word(rest);
  if (name != "success") {
    const auto* const code =
        std::ranges::find_if(kErrors, [name](int each) { return ::strerrorname_np(each) == name; });
    if (code == kErrors.end()) return wrong(fmt::format("'expect {}': success, or an error such as EINVAL", name));
    step.code = *code;
  }
  if (take_word(rest) != "by") return wrong("an expectation names its clause: expect EINVAL by WIR-FRAME");
  const contract::Clause* const clause = contract::find_clause(rest);
  if (clause == nullptr) return wrong(fmt::format("'{}' is no clause of the contract", rest));
  step.clause = clause->id;
  return step;
}

Result<Step> parse_if(std::string_view rest) {
  Step step{.kind = Step::Kind::If};
  if (rest.starts_with("not ")) {
    step.condition.negated = true;
    rest.remove_prefix(4);
  }
  const auto* const ability = std::ranges::find(kAbilities, rest, &Ability::text);
  if (ability == kAbilities.end()) return wrong(fmt::format("'if {}': P2P, PRE_COPY or LOGGING, or 'not' one", rest));
  step.condition.what = ability->what;
  return step;
}

Result<Step> parse_repeat(std::string_view rest) {
  Step step{.kind = Step::Kind::Repeat};
  if (rest == "until end") return step;
  const auto rounds = number_of(rest);
  if (!rounds || *rounds == 0 || *rounds > kMostRounds) {
    return wrong(fmt::format("'repeat {}': 'until end', or 1 to {} times", rest, kMostRounds));
  }
  step.rounds = *rounds;
  return step;
}

// "set STATE else STATE", "set STATE else reset"
Result<Step> parse_set(std::string_view line) {
  constexpr std::string_view kElse = " else ";
  Step step;
  const std::size_t at = line.find(kElse);
  if (at != std::string_view::npos) {
    const std::string_view name = line.substr(at + kElse.size());
    step.recovery.emplace();
    if (name != "reset") {
      step.recovery->state = contract::state_from_name(name);
      if (!step.recovery->state) return wrong(fmt::format("'else {}': a state, or reset", name));
    }
    line = line.substr(0, at);
  }
  Result<Act> act = conformance::parse_act(line);
  if (!act) return std::unexpected(act.error());
  step.act = *std::move(act);
  return step;
}

bool moves_data(const Act& act) {
  return act.kind == Act::Kind::Read || act.kind == Act::Kind::ReadAll || act.kind == Act::Kind::Write ||
         act.kind == Act::Kind::WriteAll;
}

}  // namespace

Result<Step> parse_step(std::string_view line) {
  for (const OwnWord& word : kOwnWords) {
    if (line == word.text) return parse_own(word, {});
    if (line.starts_with(word.text) && line.substr(word.text.size()).starts_with(' ')) {
      return parse_own(word, line.substr(word.text.size() + 1));
    }
  }
  std::string_view rest = line;
  const std::string_view word = take_word(rest);
  if (word == "set") return parse_set(line);
  if (word == "expect") return parse_expect(rest);
  if (word == "if") return parse_if(rest);
  if (word == "repeat") return parse_repeat(rest);
  if (line == "thread") return Step{.kind = Step::Kind::Thread};
  Step step;
  Result<Act> act = conformance::parse_act(line);
  if (!act) return std::unexpected(act.error());
  if (act->kind == Act::Kind::Open || act->kind == Act::Kind::Keep) {
    return wrong(fmt::format("'{}': a profile has none; each phase begins with a device just opened", line));
  }
  if (moves_data(*act) && act->number > kLargestAccess) {
    return wrong(fmt::format("'{}': at most {} bytes at once", line, kLargestAccess));
  }
  step.act = *std::move(act);
  return step;
}

std::string to_text(const Condition& condition) {
  const std::string_view name = std::ranges::find(kAbilities, condition.what, &Ability::what)->text;
  return fmt::format("{}{}", condition.negated ? "not " : "", name);
}

std::string_view OwnAct::clause() const { return word_of(kind).clause; }

std::string Step::text() const {
  switch (kind) {
    case Kind::Act:
      if (!recovery) return conformance::to_text(act);
      return fmt::format("{} else {}", conformance::to_text(act),
                         recovery->state ? contract::name(*recovery->state) : "reset");
    case Kind::Own: {
      const OwnWord& word = word_of(own.kind);
      if (word.takes == OwnWord::Takes::Nothing) return std::string(word.text);
      return word.takes == OwnWord::Takes::Bits ? fmt::format("{} {:03b}", word.text, own.number)
                                                : fmt::format("{} {}", word.text, own.number);
    }
    case Kind::Expect:
      return fmt::format("expect {} by {}", code == 0 ? "success" : ::strerrorname_np(code), clause);
    case Kind::If:
      return "if " + to_text(condition);
    case Kind::Repeat:
      return rounds == 0 ? "repeat until end" : fmt::format("repeat {}", rounds);
    case Kind::Thread:
      return "thread";
  }
  return {};
}

}  // namespace gangway::profile
