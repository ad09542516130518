// Makes a phase of the acts of one connection, as they come.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "profile/profile.h"
#include "record/act.h"

namespace gangway::profile {

class PhaseMaker {
 public:
  // `next`: the act that follows in the connection, or null. True if it was taken as well: a recovery.
  bool take(const record::Act& act, const record::Act* next);

  // Whether migration was driven at all.
  [[nodiscard]] bool empty() const { return !drove_; }
  [[nodiscard]] Phase finish(std::string name);

 private:
  // Migration data of one size that moved between two changes of state.
  struct Run {
    bool pre_copy = false;
    std::size_t place = 0;  // of its step
    std::uint64_t times = 0;
    bool ended = false;
  };

  bool take_set(const record::SetState& set, const record::Act& act, const record::Act* next);
  void take_read(const record::ReadData& read, const record::Act& act);
  void take_write(const record::WriteData& write);
  void take_region_write(const record::WriteRegion& write);
  void add(Step step);
  void add_once(std::string_view line);
  [[nodiscard]] std::vector<Step>& list();
  void end_segment();

  Phase phase_;
  DeviceState state_ = DeviceState::Running;
  bool drove_ = false;
  bool loads_ = false;
  bool keeps_command_ = false;
  std::set<std::string> seen_;         // in this segment
  std::map<std::uint64_t, Run> runs_;  // by the size of a read, likewise
  std::uint64_t largest_write_ = 0;
};

}  // namespace gangway::profile
