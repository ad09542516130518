// Plays the acts of one connection of a recording on a device that was just opened.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conformance/model.h"
#include "conformance/subject.h"
#include "profile/profile.h"
#include "profile/recorded_region.h"
#include "profile/region_acts.h"
#include "profile/replay.h"
#include "profile/replay_memory.h"
#include "profile/saved.h"

namespace gangway::profile {

struct NumberedAct {
  std::size_t number = 0;  // in the recording
  const record::Act* act = nullptr;
  bool last_write = false;  // of migration data, before the state changes
};

// "write device_state 100", "read a chunk"
[[nodiscard]] std::string deed_text(const RegionDeed& deed);

class ReplayConnection {
 public:
  // What the device has by the interface that the connection drives.
  struct Setting {
    Revision interface = Revision::V2;
    MigrationFlags flags;
    std::map<Revision, MigrationRegion> regions;  // of the device
  };
  // `data`: what is written where the recording wrote migration data; what is read to its end takes its place.
  // `recorded`: the accesses to its migration regions.
  ReplayConnection(conformance::Subject& subject, Setting setting, const RecordedRegion& recorded,
                   const ReplayOptions& options, Saved& data, ReplayReport& report);

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
  std::optional<Came> perform(const record::CloseData& recorded);

  // An act of the suite, judged as itself.
  Came act(const conformance::Act& act);
  void begin_load();
  std::optional<DeviceState> state_now();  // by the interface that is driven

  // An access to a migration region, as what it came to.
  std::optional<Came> perform_deed(const RegionDeed& deed);
  Came write_state(const RegionDeed& deed, const MigrationRegion& region);
  Came read_state(const RegionDeed& deed, const MigrationRegion& region);
  Came read_pending(const RegionDeed& deed, const MigrationRegion& region);
  Came read_chunk(const RegionDeed& deed, const MigrationRegion& region);
  Came load_chunks(const RegionDeed& deed, const MigrationRegion& region);
  Came access(const MigrationRegion& region);
  Result<std::uint64_t> read_on(const MigrationRegion& region);
  std::optional<DeviceState> region_state_now(const MigrationRegion& region);
  [[nodiscard]] std::string_view clause_by_region(std::string_view clause) const;

  conformance::Subject& subject_;
  const ReplayOptions& options_;
  const Setting setting_;
  const RecordedRegion& recorded_region_;
  Saved& data_;
  ReplayReport& report_;
  conformance::Model model_;
  std::shared_ptr<ReplayMemory> memory_ = std::make_shared<ReplayMemory>();
  Saved reading_;              // by a migration region, since its session began
  std::uint64_t pending_ = 0;  // as it was read last
  std::size_t loaded_ = 0;     // chunks, since RESUMING was entered
  const NumberedAct* now_ = nullptr;
  bool loading_ = false;
  bool told_precopy_ = false;  // since PRE_COPY was entered
};

}  // namespace gangway::profile
