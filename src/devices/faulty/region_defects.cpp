// V1-STATES, V1-ONE, V1-HIDDEN, R2-FOUND, R2-LAYOUT, R2-STATES: the migration region and its states.
#include "devices/faulty/faulty_front_end.h"

namespace gangway::faulty {
namespace {

using namespace migration_region;

constexpr Revisions kV1Only{.v2 = false, .v1 = true};
constexpr Revisions kRegionV2Only{.v2 = false, .region_v2 = true};
constexpr Revisions kV2AndV1{.v2 = true, .v1 = true};
constexpr Revisions kBothRegions{.v2 = false, .v1 = true, .region_v2 = true};

class V1InvalidStateAccepted : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  Result<void> set(std::uint32_t bits) override {
    return (bits & kResuming) != 0 ? put_state(DeviceState::Resuming) : FaultyFrontEnd::set(bits);
  }
};

class V1RefusedStateStops : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  Result<void> set(std::uint32_t bits) override {
    Result<void> done = FaultyFrontEnd::set(bits);
    if (!done) std::ignore = put_state(DeviceState::Stop);
    return done;
  }
};

class V1OtherBitsChange : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  std::uint32_t told(std::uint32_t bits) override {
    constexpr std::uint32_t kBusy = 1U << 8;
    return is_saving() ? bits | kBusy : bits;
  }
};

class V1OtherBitsLost : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  Result<void> set(std::uint32_t bits) override { return FaultyFrontEnd::set(bits & kStateBits); }
};

class V1StateReadsAsWritten : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  std::uint32_t told(std::uint32_t bits) override { return migration().state() == DeviceState::Running ? last_ : bits; }
  Result<void> set(std::uint32_t bits) override {
    Result<void> done = FaultyFrontEnd::set(bits);
    if (done) last_ = bits;
    return done;
  }

  std::uint32_t last_ = kRunning;
};

class RevisionsAtOnce : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> look(Revision revision) const override {
    if (exposes(revision)) return {};
    return FaultyEndpoint::look(revision);
  }
};

class V1RegionWithoutV1 : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> look(Revision revision) const override {
    if (revision == Revision::V1) return fail(ENOTTY, "there is nobody behind the migration region");
    return FaultyEndpoint::look(revision);
  }
};

class RegionV2FoundAsV1 : public FaultyFrontEnd {
 public:
  RegionV2FoundAsV1(Revision asked, Migration& migration, Memory memory)
      : FaultyFrontEnd(Revision::RegionV2, migration, std::move(memory)), asked_(asked) {}
  [[nodiscard]] RegionInfo info() const override {
    RegionInfo info = RegionFrontEnd::info();
    info.type->subtype = subtype(asked_);
    return info;
  }

 private:
  const Revision asked_;
};

class RegionV2Bits : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  Result<void> set(std::uint32_t number) override { return FaultyFrontEnd::set(number & kStateBits); }
};

class RegionV2HalfState : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> in) override {
    const auto low = written<std::uint8_t>(kDeviceState, offset, in);
    return low ? put(offset, std::uint32_t{*low}) : FaultyFrontEnd::write(offset, in);
  }
};

class RegionV2RefusalIsEio : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  Result<void> set(std::uint32_t number) override {
    Result<void> done = FaultyFrontEnd::set(number);
    if (!done) done.error().code = EIO;
    return done;
  }
};

class RegionV2RefusedPairAccepted : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  Result<void> set(std::uint32_t number) override {
    const bool to_pre_copy = contract::is_pre_copy(static_cast<DeviceState>(number));
    if (to_pre_copy && migration().state() == DeviceState::StopCopy) std::ignore = put_state(DeviceState::Running);
    return FaultyFrontEnd::set(number);
  }
};

class RegionV2HidesP2p : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  std::uint32_t told(std::uint32_t number) override {
    const bool hidden = number == static_cast<std::uint32_t>(DeviceState::RunningP2p);
    return hidden ? static_cast<std::uint32_t>(DeviceState::Running) : number;
  }
};

}  // namespace

std::vector<Defect> region_defects() {
  return {
      {"v1_region_without_v1", "V1-HIDDEN", "a region of the retired interface is found and does not answer",
       "kind: a region that is added for all devices and served for some", kFaultyEndpoint<V1RegionWithoutV1>,
       Shows::Always, kV2AndV1},
      {"revisions_at_once", "V1-ONE", "v1 and v2 are driven at once",
       "kind: two front ends that do not know each other", kFaultyEndpoint<RevisionsAtOnce>, Shows::Always, kV2AndV1},
      {"v1_invalid_state_accepted", "V1-STATES", "the bits 101 and 111 are taken for resuming",
       "kind: one bit tested where three make the state", kFaultyFrontEnd<V1InvalidStateAccepted>, Shows::Always,
       kV1Only},
      {"v1_refused_state_stops", "V1-STATES", "bits that are refused leave the device stopped",
       "kind: the device is quiesced before the request is looked at", kFaultyFrontEnd<V1RefusedStateStops>,
       Shows::Always, kV1Only},
      {"v1_other_bits_change", "V1-STATES", "while saving, a bit beside the state's is set",
       "kind: reserved bits used for the driver's own flags", kFaultyFrontEnd<V1OtherBitsChange>, Shows::Always,
       kV1Only},
      {"v1_other_bits_lost", "V1-STATES", "bits beside the state's are cleared by a write",
       "kind: only the known bits are stored", kFaultyFrontEnd<V1OtherBitsLost>, Shows::Always, kV1Only},
      {"v1_state_reads_as_written", "V1-STATES", "after a reset device_state reads as it was written last",
       "kind: a register file that the reset does not reach", kFaultyFrontEnd<V1StateReadsAsWritten>, Shows::Always,
       kV1Only},
      {"region_v2_found_as_v1", "R2-FOUND V1-STATES V1-ONE",
       "the region with the states of v2 is found by sub-type 1, too",
       "kind: a layout that changes its meaning and keeps its identifier", kFaultyFrontEnd<RegionV2FoundAsV1>,
       Shows::Always, kBothRegions},
      {"region_v2_bits", "R2-LAYOUT", "only the low three bits of a state number count",
       "kind: code of the retired interface that goes on", kFaultyFrontEnd<RegionV2Bits>, Shows::Always, kRegionV2Only},
      {"region_v2_half_state", "R2-LAYOUT", "a write of one byte sets the state",
       "kind: registers emulated byte by byte", kFaultyFrontEnd<RegionV2HalfState>, Shows::Always, kRegionV2Only},
      {"region_v2_refusal_is_eio", "R2-STATES", "a state that is refused is an I/O error",
       "kind: every error of a register is one error", kFaultyFrontEnd<RegionV2RefusalIsEio>, Shows::Always,
       kRegionV2Only},
      {"region_v2_refused_pair_accepted", "R2-STATES", "STOP_COPY to PRE_COPY is taken through RUNNING",
       "kind: a path searched without its forbidden interior", kFaultyFrontEnd<RegionV2RefusedPairAccepted>,
       Shows::WithPreCopy, kRegionV2Only},
      {"region_v2_hides_p2p", "R2-STATES", "RUNNING_P2P reads as RUNNING",
       "kind: states translated by the words of an older interface", kFaultyFrontEnd<RegionV2HidesP2p>, Shows::WithP2p,
       kRegionV2Only},
  };
}

}  // namespace gangway::faulty
