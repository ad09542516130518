#include "conformance/act.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <sstream>

#include <fmt/core.h>

#include "base/bytes.h"

namespace gangway::conformance {
namespace {

using Kind = Act::Kind;

struct Word {
  Kind kind;
  std::string_view text;
};
// The longest of those that begin alike comes first.
constexpr std::array<Word, 21> kWords{{{Kind::Open, "open"},
                                       {Kind::CloseData, "close data"},
                                       {Kind::Close, "close"},
                                       {Kind::Reset, "reset"},
                                       {Kind::Set, "set"},
                                       {Kind::Get, "get"},
                                       {Kind::Size, "size"},
                                       {Kind::Info, "info"},
                                       {Kind::ReadAll, "read all"},
                                       {Kind::Read, "read"},
                                       {Kind::Keep, "keep"},
                                       {Kind::Stream, "stream"},
                                       {Kind::WriteAll, "write all"},
                                       {Kind::Write, "write"},
                                       {Kind::LogStart, "log start"},
                                       {Kind::LogStop, "log stop"},
                                       {Kind::LogReport, "log report"},
                                       {Kind::Config, "config"},
                                       {Kind::Interrupts, "interrupts"},
                                       {Kind::RegionRead, "region read"},
                                       {Kind::RegionWrite, "region write"}}};

// What the acts of the DMA log are about: it need not be mapped.
constexpr IovaRange kLogged{{0x10'0000}, 0x10'0000};
constexpr std::uint64_t kLogPage = 4096;

std::unexpected<Error> not_understood(std::string_view line) {
  return fail(EINVAL, fmt::format("'{}' is no act", line));
}

std::vector<std::string> split(std::string_view text) {
  std::istringstream words{std::string(text)};
  std::vector<std::string> all;
  for (std::string word; words >> word;) all.push_back(word);
  return all;
}

std::optional<std::uint64_t> number_of(std::string_view word) {
  const int base = word.starts_with("0x") ? 16 : 10;
  if (base == 16) word.remove_prefix(2);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> state_number(std::string_view word) {
  if (const auto state = contract::state_from_name(word)) return static_cast<std::uint64_t>(*state);
  return number_of(word);
}

// What a long write is of; its bytes do not matter.
constexpr std::byte kFill{0x5a};
constexpr std::uint64_t kLongestFill = 64U << 10;
constexpr std::size_t kLongestSpelled = 64;  // bytes of a write that are told one by one

bool is_fill(const Bytes& bytes) {
  return bytes.size() > kLongestSpelled && std::ranges::all_of(bytes, [](std::byte byte) { return byte == kFill; });
}

// "region read R OFFSET SIZE", "region write R OFFSET BYTE...", "region write R OFFSET fill SIZE"
bool parse_region(Act& act, const std::vector<std::string>& words) {
  if (words.size() < 3) return false;
  const auto region = number_of(words[0]);
  const auto offset = number_of(words[1]);
  if (!region || !offset) return false;
  act.region = static_cast<std::uint32_t>(*region);
  act.number = *offset;
  if (act.kind == Kind::RegionRead) {
    const auto size = number_of(words[2]);
    if (!size || *size > 4096 || words.size() != 3) return false;
    act.bytes.resize(*size);
    return true;
  }
  if (words[2] == "fill") {
    const auto size = words.size() == 4 ? number_of(words[3]) : std::nullopt;
    if (!size || *size <= kLongestSpelled || *size > kLongestFill) return false;
    act.bytes.assign(*size, kFill);
    return true;
  }
  for (std::size_t i = 2; i < words.size(); ++i) {
    const auto byte = number_of("0x" + words[i]);
    if (!byte || *byte > 255) return false;
    act.bytes.push_back(static_cast<std::byte>(*byte));
  }
  return true;
}

bool parse_arguments(Act& act, std::string_view rest) {
  std::vector<std::string> words = split(rest);
  const auto take_number = [&act, &words](auto parse) {
    const auto number = words.size() == 1 ? parse(words[0]) : std::nullopt;
    if (number) act.number = *number;
    return number.has_value();
  };
  switch (act.kind) {
    case Kind::Set:
      return take_number(state_number);
    case Kind::Read:
    case Kind::Write:
      return take_number(number_of);
    case Kind::ReadAll:
    case Kind::WriteAll:
      if (words.empty()) return true;
      if (words[0] != "by") return false;
      words.erase(words.begin());
      return take_number(number_of) && act.number != 0;
    case Kind::Stream: {
      const auto variant = parse_variant(rest);
      if (variant) act.variant = *variant;
      return variant.has_value();
    }
    case Kind::RegionRead:
    case Kind::RegionWrite:
      return parse_region(act, words);
    default:
      return words.empty();
  }
}

// Gives the first interrupt somewhere to go and takes it back.
Result<void> set_interrupts(DeviceHandle& device) {
  for (const IrqType type : {IrqType::Msix, IrqType::Msi, IrqType::Intx}) {
    const Result<IrqInfo> info = device.irq(to_number(type));
    if (!info || info->count == 0) continue;
    IrqSet on{.type = type, .action = IrqAction::Trigger, .data = IrqSet::Data::Eventfd, .start = 0, .count = 1};
    on.eventfds.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (Result<void> set = device.set_irqs(std::move(on)); !set) return set;
    return device.set_irqs({.type = type, .action = IrqAction::Trigger, .data = IrqSet::Data::None});
  }
  return {};
}

Outcome outcome_of(const Result<void>& done) {
  Outcome outcome;
  if (!done) outcome.error = done.error();
  return outcome;
}

template <class T>
Outcome outcome_of(const Result<T>& done) {
  return outcome_of(done ? Result<void>{} : Result<void>(std::unexpected(done.error())));
}

Outcome outcome_of(const Result<StreamRead>& read) {
  Outcome outcome;
  if (!read) {
    outcome.error = read.error();
  } else {
    outcome.size = read->size;
    outcome.end = read->end;
  }
  return outcome;
}

Outcome read_identity(Subject& subject) {
  std::array<std::byte, 4> bytes{};
  Outcome outcome = outcome_of(subject.read_region(to_number(RegionIndex::Config), 0, bytes));
  outcome.identity = load_at<std::uint32_t>(bytes).value_or(0);
  return outcome;
}

Outcome report_log(Subject& subject) {
  return outcome_of(subject.perform("log report", [](DeviceHandle& device) {
    std::vector<std::uint64_t> bitmap(kLogged.size / kLogPage / 64);
    return device.dma_logging_report(kLogged, kLogPage, bitmap);
  }));
}

Outcome start_log(Subject& subject) {
  return outcome_of(subject.perform("log start", [](DeviceHandle& device) -> Result<void> {
    const Result<std::uint64_t> page = device.dma_logging_start(std::span(&kLogged, 1), kLogPage);
    if (!page) return std::unexpected(page.error());
    return {};
  }));
}

// The whole by default, so that an act means the same for a stream of any size.
std::size_t third(const Subject& subject) { return std::max<std::size_t>(subject.good().size() / 3, 1); }

Outcome carry_out(Subject& subject, const Act& act) {
  const auto piece = static_cast<std::size_t>(act.number == 0 ? Subject::kPiece : act.number);
  switch (act.kind) {
    case Kind::Open:
      return outcome_of(subject.open());
    case Kind::Close:
      subject.close();
      return {};
    case Kind::Reset:
      return outcome_of(subject.reset());
    case Kind::Set:
      return outcome_of(subject.set_number(static_cast<std::uint32_t>(act.number)));
    case Kind::Get:
      return {};  // it is asked anyway
    case Kind::Size:
      return outcome_of(subject.data_size());
    case Kind::Info:
      return outcome_of(subject.precopy_info());
    case Kind::Read:
      return outcome_of(subject.read(act.number == 0 ? third(subject) : act.number));
    case Kind::ReadAll:
      return outcome_of(subject.read_all(piece));
    case Kind::Keep:
      subject.keep();
      return {.error = {}, .size = subject.good().size()};
    case Kind::Stream:
      subject.choose(act.variant);
      return {};
    case Kind::Write:
      return outcome_of(subject.write(act.number == 0 ? third(subject) : act.number));
    case Kind::WriteAll:
      return outcome_of(subject.write_all(piece));
    case Kind::CloseData:
      return outcome_of(subject.close_data());
    case Kind::LogStart:
      return start_log(subject);
    case Kind::LogStop:
      return outcome_of(subject.perform("log stop", [](DeviceHandle& device) { return device.dma_logging_stop(); }));
    case Kind::LogReport:
      return report_log(subject);
    case Kind::Config:
      return read_identity(subject);
    case Kind::Interrupts:
      return outcome_of(subject.perform("interrupts", set_interrupts));
    case Kind::RegionRead: {
      Bytes room(act.bytes.size());
      return outcome_of(subject.read_region(act.region, act.number, room));
    }
    case Kind::RegionWrite:
      return outcome_of(subject.write_region(act.region, act.number, act.bytes));
  }
  return {};
}

}  // namespace

std::string to_text(const Act& act) {
  std::string text(std::ranges::find(kWords, act.kind, &Word::kind)->text);
  switch (act.kind) {
    case Kind::Set: {
      const bool named = act.number < kDeviceStates;
      return text + " " +
             (named ? std::string(contract::name(static_cast<DeviceState>(act.number))) : std::to_string(act.number));
    }
    case Kind::Read:
    case Kind::Write:
      return fmt::format("{} {}", text, act.number);
    case Kind::ReadAll:
    case Kind::WriteAll:
      return act.number == 0 ? text : fmt::format("{} by {}", text, act.number);
    case Kind::Stream:
      return text + " " + to_text(act.variant);
    case Kind::RegionRead:
      return fmt::format("{} {} {:#x} {}", text, act.region, act.number, act.bytes.size());
    case Kind::RegionWrite:
      text += fmt::format(" {} {:#x}", act.region, act.number);
      if (is_fill(act.bytes)) return text + fmt::format(" fill {}", act.bytes.size());
      for (const std::byte byte : act.bytes) text += fmt::format(" {:02x}", std::to_integer<unsigned>(byte));
      return text;
    default:
      return text;
  }
}

Result<Act> parse_act(std::string_view line) {
  for (const Word& word : kWords) {
    if (!line.starts_with(word.text)) continue;
    const std::string_view rest = line.substr(word.text.size());
    if (!rest.empty() && rest.front() != ' ') continue;
    Act act{.kind = word.kind};
    if (parse_arguments(act, rest)) return act;
  }
  return not_understood(line);
}

Result<std::vector<Act>> parse_script(std::string_view text) {
  std::vector<Act> acts;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::vector<std::string> words = split(std::string_view(line).substr(0, line.find('#')));
    if (words.empty()) continue;
    std::string clean;
    for (const std::string& word : words) clean += (clean.empty() ? "" : " ") + word;
    Result<Act> act = parse_act(clean);
    if (!act) return fail_within(fmt::format("line {}", number), act.error());
    acts.push_back(*std::move(act));
  }
  return acts;
}

std::string to_text(const std::vector<Act>& acts) {
  std::string text;
  for (const Act& act : acts) text += to_text(act) + '\n';
  return text;
}

Outcome act_on(Subject& subject, const Act& act) {
  Outcome outcome = carry_out(subject, act);
  outcome.lost = subject.lost();
  return outcome;
}

Outcome perform(Subject& subject, const Act& act) {
  Outcome outcome = act_on(subject, act);
  if (act.kind != Kind::Close && !subject.lost()) {
    if (const Result<DeviceState> state = subject.peek()) outcome.state = *state;
  }
  outcome.lost = subject.lost();
  return outcome;
}

}  // namespace gangway::conformance
