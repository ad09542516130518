// Plays the acts of one connection of a recording on a device that was just opened.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conformance/model.h"
#include "conformance/subject.h"
#include "profile/profile.h"
#include "profile/replay.h"
#include "profile/replay_memory.h"

namespace gangway::profile {

struct NumberedAct {
  std::size_t number = 0;  // in the recording
  const record::Act* act = nullptr;
  bool last_write = false;  // of migration data, before the state changes
};

class ReplayConnection {
 public:
  // `data`: what is written where the recording wrote migration data; what is read to its end takes its place.
  ReplayConnection(conformance::Subject& subject, MigrationFlags flags, const ReplayOptions& options,
                   conformance::Bytes& data, ReplayReport& report);

  // False: what follows stood on a deviation.
  bool play(std::span<const NumberedAct> acts);

 private:
  // What came of an act, beside what the recording says.
  struct Came {
    std::optional<Error> error;
    std::optional<std::pair<std::string, std::string>> other;  // an answer: recorded, came
    std::optional<conformance::Act> judged;                    // by the contract, as this act
    conformance::Outcome outcome;
  };

  bool play_one(const NumberedAct& numbered);
  bool compare(const NumberedAct& numbered, const Came& came);
  void deviate(const NumberedAct& numbered, std::string recorded, std::string came, std::string_view clause);
  bool check_end(const NumberedAct& last);

  // nullopt: left out.
  template <class T>
  std::optional<Came> perform(const T&) {
    return std::nullopt;
  }
  std::optional<Came> perform(const record::GetInfo& recorded);
  std::optional<Came> perform(const record::GetRegion& recorded);
  std::optional<Came> perform(const record::GetIrq& recorded);
  std::optional<Came> perform(const record::ReadRegion& recorded);
  std::optional<Came> perform(const record::WriteRegion& recorded);
  std::optional<Came> perform(const record::SetIrqs& recorded);
  std::optional<Came> perform(const record::MapDma& recorded);
  std::optional<Came> perform(const record::UnmapDma& recorded);
  std::optional<Came> perform(const record::Reset& recorded);
  std::optional<Came> perform(const record::ProbeFeature& recorded);
  std::optional<Came> perform(const record::GetMigrationFlags& recorded);
  std::optional<Came> perform(const record::GetState& recorded);
  std::optional<Came> perform(const record::SetState& recorded);
  std::optional<Came> perform(const record::GetDataSize& recorded);
  std::optional<Came> perform(const record::GetPrecopyInfo& recorded);
  std::optional<Came> perform(const record::StartLogging& recorded);
  std::optional<Came> perform(const record::StopLogging& recorded);
  std::optional<Came> perform(const record::ReportLogging& recorded);
  std::optional<Came> perform(const record::ReadData& recorded);
  std::optional<Came> perform(const record::WriteData& recorded);

  // An act of the suite, judged as itself.
  Came act(const conformance::Act& act);
  void begin_load();
  [[nodiscard]] bool is_opaque(std::uint32_t region) const;

  conformance::Subject& subject_;
  const ReplayOptions& options_;
  conformance::Bytes& data_;
  ReplayReport& report_;
  conformance::Model model_;
  std::shared_ptr<ReplayMemory> memory_ = std::make_shared<ReplayMemory>();
  std::optional<std::uint32_t> migration_region_;
  const NumberedAct* now_ = nullptr;
  bool loading_ = false;
  bool told_precopy_ = false;  // since PRE_COPY was entered
};

}  // namespace gangway::profile
