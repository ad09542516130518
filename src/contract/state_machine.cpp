#include <gangway/contract.h>

namespace gangway::contract {
namespace {

using enum DeviceState;
constexpr std::size_t kN = kDeviceStates;
constexpr DeviceState XX = Error;  // refused

// The first step from one state (row) to another (column) for a device with all flags. Read it against
// vfio_mig_get_next_state(); a state that a device lacks is passed over by looking up its own row.
using Row = std::array<DeviceState, kN>;
// clang-format off
constexpr std::array<Row, kN> kNext{{
    // to:            ERROR STOP        RUNNING     STOP_COPY   RESUMING    RUNNING_P2P PRE_COPY    PRE_COPY_P2P
    /* ERROR        */ {XX, XX,         XX,         XX,         XX,         XX,         XX,         XX},
    /* STOP         */ {XX, Stop,       RunningP2p, StopCopy,   Resuming,   RunningP2p, RunningP2p, RunningP2p},
    /* RUNNING      */ {XX, RunningP2p, Running,    RunningP2p, RunningP2p, RunningP2p, PreCopy,    RunningP2p},
    /* STOP_COPY    */ {XX, Stop,       Stop,       StopCopy,   Stop,       Stop,       XX,         XX},
    /* RESUMING     */ {XX, Stop,       Stop,       Stop,       Resuming,   Stop,       Stop,       Stop},
    /* RUNNING_P2P  */ {XX, Stop,       Running,    Stop,       Stop,       RunningP2p, Running,    PreCopyP2p},
    /* PRE_COPY     */ {XX, Running,    Running,    PreCopyP2p, Running,    Running,    PreCopy,    PreCopyP2p},
    /* PRE_COPY_P2P */ {XX, RunningP2p, RunningP2p, StopCopy,   RunningP2p, RunningP2p, PreCopy,    PreCopyP2p},
}};
// clang-format on

constexpr std::array<std::string_view, kN> kNames{"ERROR",    "STOP",        "RUNNING",  "STOP_COPY",
                                                  "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P"};

constexpr std::size_t index(DeviceState state) { return static_cast<std::size_t>(state); }

constexpr bool has(DeviceState state, MigrationFlags flags) {
  if (state == Error || index(state) >= kN) return false;
  if (is_p2p(state) && !flags.p2p) return false;
  return !is_pre_copy(state) || flags.pre_copy;
}

constexpr std::optional<DeviceState> step(DeviceState from, DeviceState to, MigrationFlags flags) {
  if (!has(from, flags) || !has(to, flags)) return std::nullopt;
  DeviceState next = kNext[index(from)][index(to)];
  while (next != XX && !has(next, flags)) next = kNext[index(next)][index(to)];
  if (next == XX) return std::nullopt;
  return next;
}

constexpr std::optional<Path> walk(DeviceState from, DeviceState to, MigrationFlags flags) {
  Path path;
  for (DeviceState at = from; at != to;) {
    const std::optional<DeviceState> next = step(at, to, flags);
    if (!next) return std::nullopt;
    path.append(*next);
    at = *next;
  }
  if (!has(from, flags) || !has(to, flags)) return std::nullopt;
  return path;
}

// The table, checked where it is compiled.

constexpr bool is_path(MigrationFlags flags, DeviceState from, DeviceState to,
                       std::initializer_list<DeviceState> expected) {
  const std::optional<Path> found = walk(from, to, flags);
  if (!found || found->size() != expected.size()) return false;
  const DeviceState* at = found->begin();
  for (const DeviceState state : expected) {
    if (*at++ != state) return false;
  }
  return true;
}

constexpr bool every_pair_ends_and_keeps_out_of_the_saving_group() {
  for (const MigrationFlags flags : kAllMigrationFlags) {
    for (std::uint32_t f = 1; f < kN; ++f) {
      for (std::uint32_t t = 1; t < kN; ++t) {
        const auto from = static_cast<DeviceState>(f);
        const auto to = static_cast<DeviceState>(t);
        if (!has(from, flags) || !has(to, flags)) continue;
        const bool blocked = from == StopCopy && is_pre_copy(to);
        const std::optional<Path> found = walk(from, to, flags);
        if (found.has_value() == blocked) return false;
        if (!found) continue;
        for (const DeviceState* at = found->begin(); at != found->end(); ++at) {
          const bool interior = at + 1 != found->end();
          const bool p2p_on_the_way_to_stop_copy = is_pre_copy(from) && to == StopCopy && *at == PreCopyP2p;
          if (interior && in_saving_group(*at) && !p2p_on_the_way_to_stop_copy) return false;
        }
      }
    }
  }
  return true;
}

constexpr MigrationFlags kPlain{false, false};
constexpr MigrationFlags kP2p{true, false};
constexpr MigrationFlags kPreCopy{false, true};
constexpr MigrationFlags kAll{true, true};

static_assert(every_pair_ends_and_keeps_out_of_the_saving_group());
static_assert(is_path(kAll, Running, Stop, {RunningP2p, Stop}));
static_assert(is_path(kAll, Running, Resuming, {RunningP2p, Stop, Resuming}));
static_assert(is_path(kAll, PreCopy, Resuming, {Running, RunningP2p, Stop, Resuming}));
static_assert(is_path(kAll, PreCopy, StopCopy, {PreCopyP2p, StopCopy}));
static_assert(is_path(kAll, Resuming, PreCopy, {Stop, RunningP2p, Running, PreCopy}));
static_assert(is_path(kP2p, StopCopy, Running, {Stop, RunningP2p, Running}));
static_assert(is_path(kPreCopy, PreCopy, StopCopy, {StopCopy}));
static_assert(is_path(kPreCopy, Stop, PreCopy, {Running, PreCopy}));
static_assert(is_path(kPlain, Running, StopCopy, {Stop, StopCopy}));
static_assert(!walk(Running, RunningP2p, kPlain) && !walk(Running, Error, kAll) && !walk(Error, Running, kAll));

}  // namespace

std::string_view name(DeviceState state) { return index(state) < kN ? kNames[index(state)] : "?"; }

std::optional<DeviceState> state_from_name(std::string_view text) {
  for (std::size_t i = 0; i < kN; ++i) {
    if (kNames[i] == text) return static_cast<DeviceState>(i);
  }
  return std::nullopt;
}

bool advertised(DeviceState state, MigrationFlags flags) { return has(state, flags); }

std::optional<DeviceState> next_state(DeviceState from, DeviceState to, MigrationFlags flags) {
  return step(from, to, flags);
}

std::optional<Path> path(DeviceState from, DeviceState to, MigrationFlags flags) { return walk(from, to, flags); }

}  // namespace gangway::contract
