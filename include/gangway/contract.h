// The migration contract as data: states, arcs, paths, flags, clauses. Pure; no I/O, no allocation.
// Source: Linux include/uapi/linux/vfio.h (enum vfio_device_mig_state) and drivers/vfio/vfio_main.c
// (vfio_mig_get_next_state); the clauses are gangway's identifiers for the rules found there and in
// QEMU docs/interop/vfio-user.rst.
//
// Thread-safety: everything here is constant.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace gangway {

// enum vfio_device_mig_state, by number.
enum class DeviceState : std::uint32_t {
  Error = 0,
  Stop = 1,
  Running = 2,
  StopCopy = 3,
  Resuming = 4,
  RunningP2p = 5,
  PreCopy = 6,
  PreCopyP2p = 7,
};
inline constexpr std::uint32_t kDeviceStates = 8;

// What a device advertises in VFIO_DEVICE_FEATURE_MIGRATION. STOP_COPY is mandatory, so four sets exist.
struct MigrationFlags {
  bool p2p = false;
  bool pre_copy = false;

  friend constexpr bool operator==(MigrationFlags, MigrationFlags) = default;
  // VFIO_MIGRATION_STOP_COPY 1 | VFIO_MIGRATION_P2P 2 | VFIO_MIGRATION_PRE_COPY 4.
  [[nodiscard]] constexpr std::uint64_t bits() const { return 1U | (p2p ? 2U : 0U) | (pre_copy ? 4U : 0U); }
  // Unknown bits are ignored, as a client must; nullopt without STOP_COPY.
  [[nodiscard]] static constexpr std::optional<MigrationFlags> from_bits(std::uint64_t bits) {
    if ((bits & 1U) == 0) return std::nullopt;
    return MigrationFlags{(bits & 2U) != 0, (bits & 4U) != 0};
  }
};
inline constexpr std::array<MigrationFlags, 4> kAllMigrationFlags{
    {{false, false}, {true, false}, {false, true}, {true, true}}};

// The revisions of the migration interface. A client drives one of them in a connection (V1-ONE).
enum class Revision : std::uint8_t {
  V2,        // device features; what the kernel has since 5.18
  V1,        // the migration region, type 3 sub-type 1; retired, kernels 5.8 to 5.17
  RegionV2,  // the region with sub-type 2 and the states of v2; gangway's own
};
inline constexpr std::array<Revision, 3> kAllRevisions{Revision::V2, Revision::V1, Revision::RegionV2};

// Which of them a device exposes. What is not exposed does not exist for the client (V1-HIDDEN).
struct Revisions {
  bool v2 = true;
  bool v1 = false;
  bool region_v2 = false;

  friend constexpr bool operator==(Revisions, Revisions) = default;
  [[nodiscard]] constexpr bool has(Revision revision) const {
    return revision == Revision::V2 ? v2 : revision == Revision::V1 ? v1 : region_v2;
  }
  [[nodiscard]] constexpr bool none() const { return !v2 && !v1 && !region_v2; }
};

namespace contract {

// "v2", "v1", "region-v2".
[[nodiscard]] std::string_view name(Revision revision);
[[nodiscard]] std::optional<Revision> revision_from_name(std::string_view name);

// "RUNNING_P2P"; "?" for a number that is no state.
[[nodiscard]] std::string_view name(DeviceState state);
[[nodiscard]] std::optional<DeviceState> state_from_name(std::string_view name);

// PRE_COPY, PRE_COPY_P2P, STOP_COPY: they share one data session.
[[nodiscard]] constexpr bool in_saving_group(DeviceState s) {
  return s == DeviceState::PreCopy || s == DeviceState::PreCopyP2p || s == DeviceState::StopCopy;
}
// STOP, STOP_COPY, RESUMING (and ERROR): no DMA, no interrupt, no change (STP-QUIET).
[[nodiscard]] constexpr bool is_stopped(DeviceState s) {
  return s == DeviceState::Stop || s == DeviceState::StopCopy || s == DeviceState::Resuming || s == DeviceState::Error;
}
[[nodiscard]] constexpr bool is_p2p(DeviceState s) {
  return s == DeviceState::RunningP2p || s == DeviceState::PreCopyP2p;
}
[[nodiscard]] constexpr bool is_pre_copy(DeviceState s) {
  return s == DeviceState::PreCopy || s == DeviceState::PreCopyP2p;
}
// A state that a SET may name for a device with these flags. ERROR never is.
[[nodiscard]] bool advertised(DeviceState state, MigrationFlags flags);

// The states entered on the way, the last being the target; empty when already there.
class Path {
 public:
  [[nodiscard]] constexpr const DeviceState* begin() const { return states_.data(); }
  [[nodiscard]] constexpr const DeviceState* end() const { return states_.data() + size_; }
  [[nodiscard]] constexpr std::size_t size() const { return size_; }
  [[nodiscard]] constexpr bool empty() const { return size_ == 0; }
  constexpr void append(DeviceState state) { states_[size_++] = state; }
  [[nodiscard]] constexpr bool operator==(const Path&) const = default;

 private:
  std::array<DeviceState, 4> states_{};
  std::size_t size_ = 0;
};

// The first state on the way from one state to another; `from` itself when they are the same.
// nullopt where a SET must be refused with EINVAL (FSM-BLOCKED, FSM-INVALID) and from ERROR.
[[nodiscard]] std::optional<DeviceState> next_state(DeviceState from, DeviceState to, MigrationFlags flags);

// The whole way (FSM-ARC).
[[nodiscard]] std::optional<Path> path(DeviceState from, DeviceState to, MigrationFlags flags);

struct Clause {
  std::string_view id;      // "RST-NOT-REQUIRED"
  std::string_view text;    // the rule, one or two sentences
  std::string_view source;  // where it comes from
};
[[nodiscard]] std::span<const Clause> clauses();
[[nodiscard]] const Clause* find_clause(std::string_view id);

}  // namespace contract
}  // namespace gangway
