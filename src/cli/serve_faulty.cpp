// gangway serve faulty: a device with a known defect.
#include <chrono>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/serving.h"
#include "devices/faulty/defect.h"
#include "faulty_wire/faulty_wire.h"

namespace gangway::cli {
namespace {

struct FaultyArguments {
  ServeArguments serve;
  std::string defect;
  bool list = false;
  bool json = false;
};

constexpr std::string_view kNone = "none";

void print_json() {
  auto all = nlohmann::ordered_json::array();
  for (const faulty::Defect& defect : faulty::defects()) {
    auto flags = nlohmann::ordered_json::array();
    for (const MigrationFlags set : kAllMigrationFlags) {
      if (defect.shown_with(set)) flags.push_back(set.bits());
    }
    auto interfaces = nlohmann::ordered_json::array();
    for (const Revision revision : kAllRevisions) {
      if (defect.through.has(revision)) interfaces.push_back(contract::name(revision));
    }
    all.push_back({{"name", defect.name},
                   {"clause", defect.clauses},
                   {"text", defect.text},
                   {"seen", defect.seen},
                   {"flags", flags},
                   {"interfaces", interfaces}});
  }
  fmt::print("{}\n", json_text(all, 2));
}

void print_list() {
  for (const faulty::Defect& defect : faulty::defects()) {
    fmt::print("{:<36} {:<18} {}\n", defect.name, defect.clause(), defect.text);
  }
}

auto by_faulty_wire(faulty::WireFault fault) {
  return [fault](const std::string& socket, Endpoint& endpoint, const ServerOptions& options) -> Result<Stop> {
    auto wire = faulty::FaultyWire::serve(socket, endpoint, fault, options);
    if (!wire) return std::unexpected(wire.error());
    return [wire = std::shared_ptr<faulty::FaultyWire>(*std::move(wire))]() mutable { wire.reset(); };
  };
}

Result<std::vector<NamedEndpoint>> make_faulty(const FaultyArguments& arguments) {
  if (arguments.defect.empty())
    return fail(EINVAL, "--defect is missing: a name of `gangway serve faulty --list`, or none");
  const faulty::Defect* defect = faulty::find_defect(arguments.defect);
  if (defect == nullptr && arguments.defect != kNone) {
    return fail(EINVAL,
                fmt::format("--defect {}: no such defect; `gangway serve faulty --list` has them", arguments.defect));
  }
  if (arguments.serve.sockets.size() != 1) {
    return fail(EINVAL, fmt::format("{} --socket: a faulty device has one", arguments.serve.sockets.size()));
  }
  auto options = endpoint_options(arguments.serve);
  if (!options) return std::unexpected(options.error());
  const bool chosen = arguments.serve.no_migration || !arguments.serve.interfaces.empty();
  if (defect != nullptr && !chosen) options->revisions = defect->through;
  auto endpoint = faulty::FaultyEndpoint::create(defect, *options);
  if (!endpoint) return std::unexpected(endpoint.error());
  faulty::FaultyEndpoint& made = **endpoint;
  std::vector<NamedEndpoint> endpoints;
  endpoints.push_back({.name = fmt::format("faulty {}", arguments.defect),
                       .endpoint = std::move(*endpoint),
                       .let_go = [&made] { made.release(); },
                       .serve = {}});
  const faulty::WireFault wire = defect != nullptr ? defect->parts.wire : faulty::WireFault::None;
  if (wire != faulty::WireFault::None) endpoints.back().serve = by_faulty_wire(wire);
  return endpoints;
}

}  // namespace

void add_serve_faulty(CLI::App& serve_command, int& status) {
  CLI::App* command = serve_command.add_subcommand("faulty", "A small card with one known defect, or with none");
  auto arguments = std::make_shared<FaultyArguments>();
  add_common(*command, arguments->serve, NeedsSocket::No);
  command->add_option("--defect", arguments->defect, "What is wrong with it; none: the good card")->type_name("NAME");
  auto* list = command->add_flag("--list", arguments->list, "List the defects and end");
  command->add_flag("--json", arguments->json, "The list as JSON")->needs(list);
  command->footer(
      "The defects are what `gangway` tests its own conformance tests with: each breaks the clauses that the list "
      "names\n"
      "and repeats a kind of mistake that real drivers had. Some need certain --flags to show; the JSON says which. "
      "Those of\n"
      "a migration region expose the --interface that they need unless another is chosen.\n"
      "Where a defect hangs, its connection hangs; SIGTERM ends the process.\n\n"
      "Examples:\n"
      "  gangway serve faulty --list\n"
      "  gangway serve faulty --defect resuming_needs_reset --socket /run/faulty.sock\n"
      "  gangway serve faulty --defect none --socket /run/good.sock --flags 3\n\n"
      "Runs until SIGINT or SIGTERM. Exit status: 0 stopped, 2 could not serve.");
  command->callback([arguments, &status] {
    if (arguments->list) {
      arguments->json ? print_json() : print_list();
      return;
    }
    const sigset_t signals = block_signals();
    status = serve(arguments->serve, make_faulty(*arguments), signals);
  });
}

}  // namespace gangway::cli
