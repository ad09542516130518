// gangway trace: what is in a recording, and how two differ.
#include <cmath>
#include <map>
#include <memory>

#include <fmt/format.h>

#include <gangway/contract.h>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "base/log.h"
#include "cli/command.h"
#include "record/act_diff.h"
#include "record/act_filter.h"
#include "record/act_reader.h"
#include "record/fields.h"

namespace gangway::cli {
namespace {

using nlohmann::ordered_json;
using record::Act;
using record::Field;

struct FilterArguments {
  std::string by;
  std::vector<std::string> names;
  std::vector<std::uint32_t> connections;
  std::string state;
  double since = 0;
  double until = -1;
};

struct ShowArguments {
  std::string file;
  FilterArguments filter;
  bool json = false;
  bool summary = false;
};

struct DiffArguments {
  std::string left;
  std::string right;
  FilterArguments filter;
  bool json = false;
};

record::Time from_seconds(double seconds) {
  return std::chrono::duration_cast<record::Time>(std::chrono::duration<double>(seconds));
}

Result<record::ActFilter> filter_of(const FilterArguments& arguments) {
  record::ActFilter filter;
  if (arguments.by == "client") filter.by = record::ActFilter::By::Client;
  if (arguments.by == "device") filter.by = record::ActFilter::By::Device;
  for (const std::string& name : arguments.names) {
    if (std::ranges::find(record::names(), name) == record::names().end()) {
      return fail(EINVAL, fmt::format("--act {}: no such act; they are {}", name, fmt::join(record::names(), ", ")));
    }
    filter.names.insert(name);
  }
  filter.connections.insert(arguments.connections.begin(), arguments.connections.end());
  if (!arguments.state.empty()) {
    const auto state = contract::state_from_name(arguments.state);
    if (!state) return fail(EINVAL, fmt::format("--state {}: no state of the contract", arguments.state));
    filter.state = static_cast<std::uint32_t>(*state);
  }
  filter.since = from_seconds(arguments.since);
  if (arguments.until >= 0) filter.until = from_seconds(arguments.until);
  return filter;
}

// A recording is a stranger's: what is in it moves no cursor and sets no title.
std::string printable(std::string_view text) {
  std::string all;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      all += fmt::format("\\x{:02x}", byte);
    } else {
      all += c;
    }
  }
  return all;
}

// --- show ---

double milliseconds(record::Time time) { return std::chrono::duration<double, std::milli>(time).count(); }

std::string line(const Act& act) {
  std::string all = fmt::format("{:>12.3f} {:>9.3f} {:>3} {} {}", milliseconds(act.time), milliseconds(act.took),
                                act.connection, act.by_device ? '<' : '>', name(act.doing));
  for (const Field& field : fields(act)) all += fmt::format(" {}={}", field.name, printable(text(field)));
  return all;
}

ordered_json value_of(const Field& field) {
  return std::visit([](const auto& value) { return ordered_json(value); }, field.value);
}

ordered_json object(const Act& act) {
  ordered_json all{{"time_ns", act.time.count()},
                   {"took_ns", act.took.count()},
                   {"connection", act.connection},
                   {"by", act.by_device ? "device" : "client"},
                   {"act", name(act.doing)}};
  if (!act.also.empty()) all["also"] = act.also;
  if (act.thread != 0) all["thread"] = act.thread;
  ordered_json details = ordered_json::object();
  for (const Field& field : fields(act)) details[std::string(field.name)] = value_of(field);
  all["fields"] = std::move(details);
  return all;
}

std::string dumped(const ordered_json& json) { return json_text(json); }

ordered_json object(const record::Meta& meta) {
  return {{"subject", meta.subject == record::Subject::Kernel ? "kernel" : "vfio-user"},
          {"program", meta.program},
          {"began", meta.began},
          {"target", meta.target},
          {"machine", meta.machine},
          {"command", meta.command},
          {"payload", meta.payload}};
}

// How often each act was, how many failed, and how long they took.
class Summary {
 public:
  void take(const Act& act) {
    Line& line = lines_[std::string(name(act.doing))];
    ++line.count;
    line.failed += act.error != 0 ? 1 : 0;
    line.took += act.took;
  }
  [[nodiscard]] ordered_json json() const {
    ordered_json all = ordered_json::object();
    for (const auto& [name, line] : lines_) {
      all[name] = {{"count", line.count}, {"failed", line.failed}, {"took_ns", line.took.count()}};
    }
    return all;
  }
  void print() const {
    fmt::print("{:<22}{:>10}{:>10}{:>14}\n", "act", "count", "failed", "ms in all");
    for (const auto& [name, line] : lines_) {
      fmt::print("{:<22}{:>10}{:>10}{:>14.3f}\n", name, line.count, line.failed, milliseconds(line.took));
    }
  }

 private:
  struct Line {
    std::uint64_t count = 0;
    std::uint64_t failed = 0;
    record::Time took{};
  };
  std::map<std::string, Line> lines_;
};

void print_head(const record::Meta& meta) {
  fmt::print("# {} by {}, {}, of {}\n", meta.subject == record::Subject::Kernel ? "kernel" : "vfio-user",
             printable(meta.program), printable(meta.began), printable(meta.target));
  if (!meta.command.empty()) fmt::print("# command: {}\n", printable(fmt::format("{}", fmt::join(meta.command, " "))));
  fmt::print("#   at ms   took ms  connection, > client < device, act\n");
}

int show(const ShowArguments& arguments) {
  const auto filter = filter_of(arguments.filter);
  auto reader = filter ? record::ActReader::open(arguments.file) : std::unexpected(filter.error());
  if (!reader) {
    log::error("{}", reader.error().message);
    return kCannotRun;
  }
  record::ActSelection selection(*filter);
  Summary summary;
  if (arguments.json && !arguments.summary) fmt::print("{}\n", dumped({{"recording", object(reader->meta())}}));
  if (!arguments.json && !arguments.summary) print_head(reader->meta());
  for (;;) {
    const auto act = reader->next();
    if (!act) {
      log::error("{}: {}", arguments.file, printable(act.error().message));
      return kFailure;
    }
    if (!*act) break;
    if (!selection.wants(**act)) continue;
    if (arguments.summary) {
      summary.take(**act);
    } else {
      fmt::print("{}\n", arguments.json ? dumped(object(**act)) : line(**act));
    }
  }
  if (arguments.summary && arguments.json) {
    fmt::print("{}\n", dumped({{"recording", object(reader->meta())}, {"acts", summary.json()}}));
  } else if (arguments.summary) {
    summary.print();
  }
  for (const std::string& note : reader->notes()) log::warn("{}: {}", arguments.file, printable(note));
  if (reader->strays() != 0) log::warn("{}: {} replies answer nothing", arguments.file, reader->strays());
  if (reader->cut()) log::warn("{}: {}", arguments.file, printable(*reader->cut()));
  return kSuccess;
}

// --- diff ---

Result<std::vector<Act>> selected(const std::string& file, const record::ActFilter& filter) {
  auto reader = record::ActReader::open(file);
  if (!reader) return std::unexpected(reader.error());
  auto acts = reader->rest();
  if (!acts) return fail_within(file, acts.error());
  if (reader->cut()) log::warn("{}: {}", file, printable(*reader->cut()));
  record::ActSelection selection(filter);
  std::erase_if(*acts, [&](const Act& act) { return !selection.wants(act); });
  return acts;
}

void print(const record::Difference& one) {
  const auto number = [](const std::optional<std::size_t>& at) { return at ? std::to_string(*at) : std::string("-"); };
  fmt::print("@ connection {}, {}, act {} / {}\n", one.connection, one.by_device ? "device" : "client",
             number(one.left), number(one.right));
  if (one.left) fmt::print("- {}\n", printable(one.left_text));
  if (one.right) fmt::print("+ {}\n", printable(one.right_text));
}

ordered_json object(const record::Difference& one) {
  ordered_json all{{"connection", one.connection}, {"by", one.by_device ? "device" : "client"}};
  if (one.left) all["left"] = {{"number", *one.left}, {"act", one.left_text}};
  if (one.right) all["right"] = {{"number", *one.right}, {"act", one.right_text}};
  return all;
}

int diff(const DiffArguments& arguments) {
  const auto filter = filter_of(arguments.filter);
  const auto left = filter ? selected(arguments.left, *filter) : std::unexpected(filter.error());
  const auto right = left ? selected(arguments.right, *filter) : std::unexpected(left.error());
  if (!right) {
    log::error("{}", right.error().message);
    return kCannotRun;
  }
  const record::Comparison found = record::compare(*left, *right);
  if (arguments.json) {
    ordered_json differences = ordered_json::array();
    for (const record::Difference& one : found.differences) differences.push_back(object(one));
    fmt::print("{}\n",
               dumped({{"same", found.same}, {"differences", std::move(differences)}, {"complete", !found.gave_up}}));
  } else {
    for (const record::Difference& one : found.differences) print(one);
    fmt::print("{} acts are the same, {}{} differ\n", found.same, found.gave_up ? "more than " : "",
               found.differences.size());
  }
  return found.differences.empty() ? kSuccess : kFailure;
}

// --- options ---

void add_filter(CLI::App& command, FilterArguments& filter) {
  command.add_option("--by", filter.by, "Only what the client asked, or only what the device did")
      ->check(CLI::IsMember({"client", "device"}));
  command.add_option("--act", filter.names, "Only such acts, separated by commas: set_state, read_region, ...")
      ->delimiter(',')
      ->type_name("ACT");
  command.add_option("--connection", filter.connections, "Only these connections, separated by commas")->delimiter(',');
  command.add_option("--state", filter.state, "Only what was done while the device was in this state")
      ->type_name("STATE");
  command.add_option("--since", filter.since, "From so many seconds after the beginning")->type_name("S");
  command.add_option("--until", filter.until, "Up to so many")->type_name("S");
}

void add_show(CLI::App& trace, int& status) {
  CLI::App* command = trace.add_subcommand("show", "Print a recording, act by act");
  auto arguments = std::make_shared<ShowArguments>();
  command->add_option("file", arguments->file, "A recording")->required();
  add_filter(*command, arguments->filter);
  command->add_flag("--summary", arguments->summary, "How often each act was, not each one");
  command->add_flag("--json", arguments->json, "One JSON object a line: first the recording, then each act");
  command->footer(
      "A recording whose recorder was killed is printed up to its last whole record, with a warning.\n"
      "Examples: gangway trace show a.trace --act set_state,reset\n"
      "          gangway trace show a.trace --state STOP_COPY --by client --json");
  command->callback([arguments, &status] { status = show(*arguments); });
}

void add_diff(CLI::App& trace, int& status) {
  CLI::App* command = trace.add_subcommand("diff", "Compare two recordings, act by act");
  auto arguments = std::make_shared<DiffArguments>();
  command->add_option("left", arguments->left, "A recording")->required();
  command->add_option("right", arguments->right, "Another")->required();
  add_filter(*command, arguments->filter);
  command->add_flag("--json", arguments->json, "One JSON object");
  command->footer(
      "Times, numbers that name something, and opaque data may differ; docs/trace.md has the rule.\n"
      "Exit status: 0 the same, 1 different, 2 could not compare.");
  command->callback([arguments, &status] { status = diff(*arguments); });
}

}  // namespace

void add_trace(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("trace", "Look into recordings and compare them");
  command->require_subcommand(1);
  add_show(*command, status);
  add_diff(*command, status);
}

}  // namespace gangway::cli
