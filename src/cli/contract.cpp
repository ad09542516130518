#include <fmt/format.h>

#include <gangway/contract.h>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "cli/command.h"

namespace gangway::cli {
namespace {

using nlohmann::ordered_json;

std::vector<DeviceState> states_of(MigrationFlags flags) {
  std::vector<DeviceState> states;
  for (std::uint32_t number = 0; number < kDeviceStates; ++number) {
    const auto state = static_cast<DeviceState>(number);
    if (contract::advertised(state, flags)) states.push_back(state);
  }
  return states;
}

ordered_json path_to_json(const std::optional<contract::Path>& path) {
  if (!path) return "EINVAL";
  ordered_json steps = ordered_json::array();
  for (const DeviceState state : *path) steps.push_back(contract::name(state));
  return steps;
}

ordered_json to_json() {
  ordered_json paths = ordered_json::object();
  for (const MigrationFlags flags : kAllMigrationFlags) {
    ordered_json& of_flags = paths[std::to_string(flags.bits())];
    for (const DeviceState from : states_of(flags)) {
      for (const DeviceState to : states_of(flags)) {
        of_flags[std::string(contract::name(from))][std::string(contract::name(to))] =
            path_to_json(contract::path(from, to, flags));
      }
    }
  }
  ordered_json clauses = ordered_json::array();
  for (const contract::Clause& clause : contract::clauses()) {
    clauses.push_back({{"id", clause.id}, {"text", clause.text}, {"source", clause.source}});
  }
  return {{"paths", std::move(paths)}, {"clauses", std::move(clauses)}};
}

std::string describe(const std::optional<contract::Path>& path) {
  if (!path) return "EINVAL";
  if (path->empty()) return "-";
  std::string text;
  for (const DeviceState state : *path) text += fmt::format("{}{}", text.empty() ? "" : " > ", contract::name(state));
  return text;
}

void print_text() {
  fmt::print("States\n");
  for (std::uint32_t number = 0; number < kDeviceStates; ++number) {
    const auto state = static_cast<DeviceState>(number);
    fmt::print("  {}  {:<13}{}\n", number, contract::name(state),
               contract::in_saving_group(state) ? "saving group" : "");
  }
  for (const MigrationFlags flags : kAllMigrationFlags) {
    fmt::print("\nPaths with flags {} (STOP_COPY{}{})\n", flags.bits(), flags.p2p ? ", P2P" : "",
               flags.pre_copy ? ", PRE_COPY" : "");
    for (const DeviceState from : states_of(flags)) {
      for (const DeviceState to : states_of(flags)) {
        fmt::print("  {:<13}to {:<13}{}\n", contract::name(from), contract::name(to),
                   describe(contract::path(from, to, flags)));
      }
    }
  }
  fmt::print("\nClauses\n");
  for (const contract::Clause& clause : contract::clauses()) {
    fmt::print("  {:<17}{}\n  {:<17}[{}]\n", clause.id, clause.text, "", clause.source);
  }
}

}  // namespace

void add_contract(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("contract", "Print the migration contract: states, paths and clauses");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "One JSON object: {\"paths\": {FLAGS: {FROM: {TO: [..]}}}, \"clauses\": [..]}");
  command->callback([json, &status] {
    if (*json) {
      fmt::print("{}\n", json_text(to_json(), 2));
    } else {
      print_text();
    }
    status = kSuccess;
  });
}

}  // namespace gangway::cli
