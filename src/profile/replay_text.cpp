#include "profile/replay_text.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "profile/replay.h"

namespace gangway::profile {

std::string state_text(std::uint32_t state) {
  return state < kDeviceStates ? std::string(contract::name(static_cast<DeviceState>(state)))
                               : fmt::format("{}", state);
}

std::string act_text(const record::Doing& doing) {
  const std::string_view name = record::name(doing);
  if (const auto* set = std::get_if<record::SetState>(&doing))
    return fmt::format("{} {}", name, state_text(set->state));
  if (const auto* read = std::get_if<record::ReadRegion>(&doing)) {
    return fmt::format("{} {} at {:#x}", name, read->region, read->offset);
  }
  if (const auto* write = std::get_if<record::WriteRegion>(&doing)) {
    return fmt::format("{} {} at {:#x}", name, write->region, write->offset);
  }
  if (const auto* region = std::get_if<record::GetRegion>(&doing)) return fmt::format("{} {}", name, region->region);
  if (const auto* irq = std::get_if<record::GetIrq>(&doing)) return fmt::format("{} {}", name, irq->type);
  if (const auto* probe = std::get_if<record::ProbeFeature>(&doing)) return fmt::format("{} {}", name, probe->feature);
  return std::string(name);
}

std::string to_text(const ReplayReport& report) {
  std::string text;
  for (const Deviation& deviation : report.deviations) {
    text += fmt::format("act {}, recorded at {:.6f} s: {}\n  recorded: {}\n  came: {}\n", deviation.act,
                        std::chrono::duration<double>(deviation.time).count(), deviation.text, deviation.recorded,
                        deviation.came);
    if (const contract::Clause* clause = contract::find_clause(deviation.clause)) {
      text += fmt::format("  {}: {}\n", clause->id, clause->text);
    }
  }
  for (const std::string& note : report.notes) text += fmt::format("note: {}\n", note);
  if (report.ended_early) text += "what follows in the connection was not played: it stands on that\n";
  return text + fmt::format("{}: {} acts of {} connections played, {} left out, {} deviations\n", report.target,
                            report.played, report.connections, report.left_out, report.deviations.size());
}

std::string to_json(const ReplayReport& report) {
  using nlohmann::ordered_json;
  ordered_json deviations = ordered_json::array();
  for (const Deviation& deviation : report.deviations) {
    deviations.push_back({{"act", deviation.act},
                          {"time_ns", deviation.time.count()},
                          {"text", deviation.text},
                          {"recorded", deviation.recorded},
                          {"came", deviation.came},
                          {"clause", deviation.clause}});
  }
  const ordered_json all{{"target", report.target},
                         {"played", report.played},
                         {"left_out", report.left_out},
                         {"connections", report.connections},
                         {"ended_early", report.ended_early},
                         {"notes", report.notes},
                         {"deviations", std::move(deviations)}};
  return json_text(all, 2) + "\n";
}

}  // namespace gangway::profile
