// PRE-INFO-*: what is told of pre-copy.
#include <algorithm>

#include "devices/faulty/defect.h"

namespace gangway::faulty {
namespace {

// Changes what the good engine tells.
class ChangedInfo : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<PrecopyInfo> precopy_info() override {
    Result<PrecopyInfo> info = Migration::precopy_info();
    if (info) change(*info);
    return info;
  }
  Result<void> set_state(std::uint32_t number) override {
    const bool before = contract::in_saving_group(real_state());
    Result<void> done = Migration::set_state(number);
    if (!before && contract::in_saving_group(real_state())) {
      first_.reset();
      most_dirty_ = 0;
      read_some_ = false;
    }
    return done;
  }
  Result<StreamView> read_view(std::size_t max) override {
    Result<StreamView> view = Migration::read_view(max);
    if (view && view->size != 0) read_some_ = true;
    return view;
  }

 protected:
  virtual void change(PrecopyInfo& info) = 0;
  // What was told first in this session.
  const PrecopyInfo& first(const PrecopyInfo& now) { return first_ ? *first_ : first_.emplace(now); }
  std::uint64_t most_dirty(std::uint64_t now) { return most_dirty_ = std::max(most_dirty_, now); }
  [[nodiscard]] bool read_some() const { return read_some_; }

 private:
  std::optional<PrecopyInfo> first_;
  std::uint64_t most_dirty_ = 0;
  bool read_some_ = false;
};

class InfoInEveryState : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<PrecopyInfo> precopy_info() override {
    if (!contract::is_pre_copy(real_state())) return PrecopyInfo{};
    return Migration::precopy_info();
  }
};

class InitialBytesZero : public ChangedInfo {
 public:
  using ChangedInfo::ChangedInfo;

 protected:
  void change(PrecopyInfo& info) override {
    info.dirty_bytes += info.initial_bytes;
    info.initial_bytes = 0;
  }
};

class InitialBytesNeverFall : public ChangedInfo {
 public:
  using ChangedInfo::ChangedInfo;

 protected:
  void change(PrecopyInfo& info) override { info.initial_bytes = first(info).initial_bytes; }
};

class DirtyBytesNeverFall : public ChangedInfo {
 public:
  using ChangedInfo::ChangedInfo;

 protected:
  void change(PrecopyInfo& info) override { info.dirty_bytes = most_dirty(info.dirty_bytes); }
};

class DirtyBytesFromStart : public ChangedInfo {
 public:
  using ChangedInfo::ChangedInfo;

 protected:
  void change(PrecopyInfo& info) override {
    if (info.initial_bytes != 0) info.dirty_bytes += kMemorySize;
  }
};

class InfoEmptyWithDataLeft : public ChangedInfo {
 public:
  using ChangedInfo::ChangedInfo;

 protected:
  void change(PrecopyInfo& info) override {
    if (read_some()) info = {};
  }
};

class ReinitAlways : public ChangedInfo {
 public:
  using ChangedInfo::ChangedInfo;

 protected:
  void change(PrecopyInfo& info) override { info.reinit = true; }
};

}  // namespace

std::vector<Defect> pre_copy_defects() {
  constexpr Shows kShows = Shows::WithPreCopy;
  return {
      {"precopy_info_in_every_state", "PRE-INFO-STATE", "outside PRE_COPY the information is zeros and no error",
       "kind: a session asked for its position without a look at the device's state",
       kFaultyMigration<InfoInEveryState>, kShows},
      {"initial_bytes_zero", "PRE-INFO-INITIAL", "all data counts as dirty, none as initial",
       "kind: two counters that are filled from one", kFaultyMigration<InitialBytesZero>, kShows},
      {"initial_bytes_never_fall", "PRE-INFO-INITIAL PRE-INFO-EMPTY", "reading does not lower initial_bytes",
       "kind: a size told where a rest is meant", kFaultyMigration<InitialBytesNeverFall>, kShows},
      {"dirty_bytes_never_fall", "PRE-INFO-EMPTY", "reading does not lower dirty_bytes",
       "kind: a count that is only ever added to", kFaultyMigration<DirtyBytesNeverFall>, kShows},
      {"dirty_bytes_from_start", "PRE-INFO-INITIAL", "dirty_bytes starts with the size of the device's memory",
       "kind: dirty tracking that starts with all dirty", kFaultyMigration<DirtyBytesFromStart>, kShows},
      {"info_empty_with_data_left", "PRE-INFO-EMPTY PRE-INFO-INITIAL",
       "after the first read both counts are 0 although data is left",
       "Linux 4928f67bc911, mlx5: dirty_bytes left out what already lay in the migration file",
       kFaultyMigration<InfoEmptyWithDataLeft>, kShows},
      {"precopy_reinit_always", "PRE-INFO-V2", "every answer announces new initial data",
       "Linux, series \"Define uAPI for re-init initial bytes during the PRE_COPY phase\": drivers gave flags back as "
       "they came",
       kFaultyMigration<ReinitAlways>, kShows},
      {"precopy_flags_echoed", "PRE-INFO-V2", "what a client says in flags comes back",
       "Linux, series \"Define uAPI for re-init initial bytes during the PRE_COPY phase\": drivers gave flags back as "
       "they came",
       kFaultyWire<WireFault::PrecopyFlagsEchoed>, kShows},
  };
}

}  // namespace gangway::faulty
