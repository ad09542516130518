// RST-*: resets that are needed, forbidden, or leave something behind.
#include <algorithm>
#include <tuple>
#include <utility>

#include "devices/faulty/defect.h"

namespace gangway::faulty {
namespace {

using enum DeviceState;

bool asks_for_resuming(std::uint32_t number) { return static_cast<DeviceState>(number) == Resuming; }

class ResumingNeedsReset : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    if (asks_for_resuming(number) && endpoint().resets() == 0) return fail(EINVAL, "not reset");
    return Migration::set_state(number);
  }
};

class ResumingRefusedAfterReset : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    if (asks_for_resuming(number) && endpoint().resets() != 0) return fail(EBUSY, "a reset is pending");
    return Migration::set_state(number);
  }
};

class ResetRefusedInResuming : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> reset() override {
    if (real_state() == Resuming && !endpoint().client_leaving()) return fail(EBUSY, "a load is under way");
    return Migration::reset();
  }
};

class ResetKeepsState : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> reset() override {
    const DeviceState before = real_state();
    if (Result<void> done = Migration::reset(); !done) return done;
    const bool first = !std::exchange(began_, true);  // of the device's life, which no client asked for
    if (first || before != Stop || endpoint().client_leaving()) return {};
    return go(Stop);
  }

 private:
  bool began_ = false;
};

class ResetHangsAfterRefusedSet : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    Result<void> done = Migration::set_state(number);
    if (!done) locked_ = true;
    return done;
  }
  Result<void> reset() override {
    if (locked_ && !endpoint().client_leaving()) return endpoint().hang();
    locked_ = false;
    return Migration::reset();
  }

 private:
  bool locked_ = false;
};

class SessionSurvivesReset : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    left_.clear();
    return Migration::set_state(number);
  }
  Result<void> reset() override {
    left_.clear();
    if (real_state() == StopCopy && !endpoint().client_leaving()) {
      left_.resize(kKept);
      Result<StreamRead> kept = real_read(left_);
      left_.resize(kept ? kept->size : 0);
    }
    return Migration::reset();
  }
  Result<StreamView> read_view(std::size_t max) override {
    if (left_.empty()) return Migration::read_view(max);
    part_ = std::span<const std::byte>(left_).first(std::min(max, left_.size()));
    return StreamView{.parts = std::span(&part_, 1), .size = part_.size(), .end = StreamEnd::Final, .owner = {}};
  }

 private:
  static constexpr std::size_t kKept = 4096;
  std::vector<std::byte> left_;
  std::span<const std::byte> part_;
};

class HalfLoadSurvivesReset : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    Result<void> done = Migration::set_state(number);
    if (!done || before == real_state()) return done;
    if (real_state() == Resuming && !kept_.empty()) std::ignore = Migration::write(kept_);
    kept_.clear();
    return done;
  }
  Result<void> write(std::span<const std::byte> in) override {
    kept_.insert(kept_.end(), in.begin(), in.end());
    return Migration::write(in);
  }
  Result<std::span<std::byte>> landing(std::size_t) override { return std::span<std::byte>(); }
  Result<void> reset() override {
    if (real_state() != Resuming || endpoint().client_leaving()) kept_.clear();
    return Migration::reset();
  }

 private:
  std::vector<std::byte> kept_;
};

class VerdictSurvivesReset : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> write(std::span<const std::byte> in) override {
    if (verdict_) return std::unexpected(*verdict_);
    Result<void> taken = Migration::write(in);
    if (!taken && real_state() == Resuming) verdict_ = taken.error();
    return taken;
  }
  Result<std::span<std::byte>> landing(std::size_t) override { return std::span<std::byte>(); }
  Result<void> reset() override {
    if (endpoint().client_leaving()) verdict_.reset();
    return Migration::reset();
  }

 private:
  std::optional<gangway::Error> verdict_;
};

// The state of a register that is 0 is not in the stream, and what it was before the load stays.
class MergesWithOldState : public Card {
 public:
  void reset() override {
    std::uint64_t scratch = 0;
    {
      std::scoped_lock lock(mutex_);
      scratch = registers_.scratch;
    }
    Card::reset();
    before_reset_ = scratch;
  }
  Result<void> load(const StateReader& reader) override {
    Result<void> loaded = Card::load(reader);
    std::scoped_lock lock(mutex_);
    if (loaded && registers_.scratch == 0) registers_.scratch = before_reset_;
    return loaded;
  }

 private:
  std::uint64_t before_reset_ = 0;
};

}  // namespace

std::vector<Defect> reset_defects() {
  return {
      {"resuming_needs_reset", "RST-NOT-REQUIRED", "RESUMING is refused to a client that did not reset the device",
       "kind: a driver that was only tried with a VMM that resets the device first",
       kFaultyMigration<ResumingNeedsReset>},
      {"resuming_refused_after_reset", "RST-NOT-REQUIRED RST-ALLOWED", "RESUMING is refused to a client that did reset",
       "Linux fd94213e1417, hisi_acc: a reset deferred its work to the next state change",
       kFaultyMigration<ResumingRefusedAfterReset>},
      {"load_merges_with_old_state", "RST-NOT-REQUIRED", "a load keeps what the device held where the stream has zeros",
       "kind: zeros left out of the stream, and the destination not cleared before", kFaultyCard<MergesWithOldState>},
      {"reset_refused_in_resuming", "RST-ALLOWED RST-ABORTS", "a reset in RESUMING fails",
       "libvfio-user issue 458: after a reset the device kept refusing commands for its migration state",
       kFaultyMigration<ResetRefusedInResuming>},
      {"reset_keeps_state", "RST-ALLOWED", "a reset in STOP leaves the device in STOP",
       "libvfio-user pull request 854: the migration state is kept over a device reset",
       kFaultyMigration<ResetKeepsState>},
      {"reset_hangs_after_refused_set", "RST-ALLOWED RST-CONCURRENT",
       "a refused SET leaves a lock behind, for which a reset waits",
       "kind: a lock not given back on an error path; Linux fd94213e1417, hisi_acc, is about such a pair of locks",
       kFaultyMigration<ResetHangsAfterRefusedSet>},
      {"session_survives_reset", "RST-CLEARS DAT-SESSION", "after a reset in STOP_COPY the stream can still be read",
       "Linux 457f73082547, pds: the migration file was used after a reset", kFaultyMigration<SessionSurvivesReset>},
      {"half_load_survives_reset", "RST-CLEARS", "what a reset interrupted is put in front of the next load",
       "Linux 8512ed256334, pds: the files for saving and loading were kept over a reset",
       kFaultyMigration<HalfLoadSurvivesReset>},
      {"verdict_survives_reset", "RST-CLEARS", "once a stream was refused every other is, even after a reset",
       "kind: a verdict kept with the device and not with the session; compare good_verdict_kept",
       kFaultyMigration<VerdictSurvivesReset>},
  };
}

}  // namespace gangway::faulty
