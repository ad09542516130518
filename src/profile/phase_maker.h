// Makes a phase of the acts of one connection, as they come.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "profile/profile.h"
#include "profile/recorded_region.h"
#include "record/act.h"

namespace gangway::profile {

class PhaseMaker {
 public:
  // `region`: what the connection did to a migration region; it must outlive this.
  explicit PhaseMaker(const RecordedRegion& region)
      : region_(region), interface_(region.driven().value_or(Revision::V2)) {}

  // `next`: the act that follows in the connection, or null. True if it was taken as well: a recovery.
  bool take(const record::Act& act, const record::Act* next);

  [[nodiscard]] Revision interface() const { return interface_; }
  // Whether migration was driven at all.
  [[nodiscard]] bool drove() const { return drove_; }
  // Whether the device was put to use, as a machine that boots does.
  [[nodiscard]] bool used() const { return used_; }
  [[nodiscard]] Phase finish(std::string name);

 private:
  // Migration data of one size that moved between two changes of state.
  struct Run {
    bool pre_copy = false;
    std::size_t place = 0;  // of its step
    std::uint64_t times = 0;
    bool ended = false;
  };

  // Chunks of a migration region, likewise.
  struct ChunkRun {
    std::size_t pending = 0;  // places of the steps
    std::size_t chunk = 0;
    std::uint64_t chunks = 0;
    std::uint64_t access = 0;
    bool ended = false;
  };

  [[nodiscard]] std::optional<std::uint32_t> number_set(const record::Act& act) const;
  void take_v2(const record::Act& act);
  bool take_deed(const RegionDeed& deed, const record::Act& act, const record::Act* next);
  void take_bits(std::uint32_t device_state, const record::Act& act);
  void take_pending(const RegionDeed& deed);
  void take_chunk(const RegionDeed& deed);
  void take_load(const RegionDeed& deed);
  void end_chunks(std::vector<Step>& steps);
  [[nodiscard]] std::uint64_t access_of(std::uint64_t recorded);
  bool take_set(std::uint32_t number, const record::Act& act, const record::Act* next);
  void take_read(const record::ReadData& read, const record::Act& act);
  void take_write(const record::WriteData& write);
  void take_region_write(const record::WriteRegion& write);
  void add(Step step);
  void add_once(std::string_view line);
  [[nodiscard]] std::vector<Step>& list();
  void end_segment();

  const RecordedRegion& region_;
  const Revision interface_;
  Phase phase_;
  DeviceState state_ = DeviceState::Running;
  bool drove_ = false;
  bool used_ = false;
  bool loads_ = false;
  bool keeps_command_ = false;
  bool clears_ = false;                // PCI_COMMAND is off again, after it was on in this segment
  std::set<std::string> seen_;         // in this segment
  std::map<std::uint64_t, Run> runs_;  // by the size of a read, likewise
  std::uint64_t largest_write_ = 0;
  std::optional<ChunkRun> chunk_run_;
  std::optional<std::uint64_t> load_access_;
};

}  // namespace gangway::profile
