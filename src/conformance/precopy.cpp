// PRE: what a device says of its pre-copy data.
#include <limits>

#include <fmt/core.h>

#include "base/bytes.h"
#include "conformance/steps.h"
#include "vfio_user/protocol.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

// A device that runs may change its state between two questions; an idle one does so seldom.
constexpr int kTries = 5;

void information_is_for_pre_copy_only(Context& c) {
  for (const DeviceState state : states_of(c.flags())) {
    if (c.device.last_state() != state) go(c.device, state);
    const Result<PrecopyInfo> info = c.device.precopy_info();
    if (contract::is_pre_copy(state)) {
      expect_answer("PRE-INFO-STATE", info, fmt::format("PRECOPY_INFO answers in {}", contract::name(state)));
    } else {
      // A state without a session has nothing that could be asked; STOP_COPY has, and says EINVAL.
      expect_refused("PRE-INFO-STATE", c.device, info,
                     fmt::format("PRECOPY_INFO in {} is EINVAL", contract::name(state)),
                     state == StopCopy ? EINVAL : 0);
    }
    expect_state("PRE-INFO-STATE", c.device, state);
    if (state == Resuming) reset(c.device);
  }
}

void initial_data_is_announced(Context& c) {
  go(c.device, PreCopy);
  const PrecopyInfo info = step(c.device.precopy_info(), "PRECOPY_INFO");
  expect("PRE-INFO-INITIAL", info.initial_bytes > 0, "initial_bytes starts above 0", "0");
  expect("PRE-INFO-INITIAL", info.dirty_bytes == 0, "dirty_bytes starts at 0", fmt::format("{}", info.dirty_bytes));
}

void initial_bytes_fall_with_reading(Context& c) {
  go(c.device, PreCopy);
  const PrecopyInfo before = step(c.device.precopy_info(), "PRECOPY_INFO");
  step(c.device.read_all(), "read all");
  const PrecopyInfo after = step(c.device.precopy_info(), "PRECOPY_INFO");
  expect("PRE-INFO-INITIAL", after.initial_bytes < before.initial_bytes || before.initial_bytes == 0,
         "initial_bytes falls as data is read",
         fmt::format("{} before and {} after {} bytes were read", before.initial_bytes, after.initial_bytes,
                     c.device.received().size()));
}

// Both 0 and ENOMSG, or neither. nullopt: they agree.
std::optional<std::string> disagreement(Context& c) {
  const PrecopyInfo info = step(c.device.precopy_info(), "PRECOPY_INFO");
  const bool says_empty = info.initial_bytes == 0 && info.dirty_bytes == 0;
  const StreamRead read = step(c.device.read(16), "read some");
  const bool is_empty = read.size == 0;
  if (says_empty == is_empty) return {};
  return fmt::format("initial {} and dirty {}, and a read of {} bytes", info.initial_bytes, info.dirty_bytes,
                     read.size);
}

void empty_is_said_when_it_is_so(Context& c) {
  for (const DeviceState state : {PreCopy, PreCopyP2p}) {
    if (!contract::advertised(state, c.flags())) continue;
    go(c.device, state);
    std::optional<std::string> wrong = disagreement(c);
    for (int i = 0; i < kTries && !wrong; ++i) wrong = disagreement(c);
    expect("PRE-INFO-EMPTY", !wrong, "both counts are 0 exactly when a read gives ENOMSG", wrong.value_or(""));
    for (int i = 0; i < kTries; ++i) {
      step(c.device.read_all(), "read all");
      wrong = disagreement(c);
      if (!wrong) break;
    }
    expect("PRE-INFO-EMPTY", !wrong, "both counts are 0 exactly when a read gives ENOMSG", wrong.value_or(""));
    go(c.device, Running);
  }
}

void change_is_announced_and_falls_with_reading(Context& c) {
  const auto workload = set_up_workload(c);
  go(c.device, PreCopy);
  step(c.device.read_all(), "read all");
  const PrecopyInfo drained = step(c.device.precopy_info(), "PRECOPY_INFO");
  step(c.device.perform("work change", [workload](DeviceHandle& device) { return workload->change(device, 1); }),
       "change the device's memory");
  const PrecopyInfo changed = step(c.device.precopy_info(), "PRECOPY_INFO");
  expect("PRE-INFO-INITIAL", changed.dirty_bytes + changed.initial_bytes > drained.dirty_bytes + drained.initial_bytes,
         "dirty_bytes grows with change", fmt::format("{} before, {} after", drained.dirty_bytes, changed.dirty_bytes));
  std::optional<std::string> wrong = disagreement(c);
  for (int i = 0; i < kTries; ++i) {
    step(c.device.read_all(), "read all");
    wrong = disagreement(c);
    if (!wrong) break;
  }
  expect("PRE-INFO-EMPTY", !wrong, "both counts are 0 exactly when a read gives ENOMSG, after change too",
         wrong.value_or(""));
}

Result<void> opt_in(Subject& subject) {
  return subject.perform("precopy info v2", [](DeviceHandle& device) -> Result<void> {
    const Result<std::vector<std::byte>> set = device.feature_set(Feature::MigPrecopyInfoV2, {});
    if (!set) return std::unexpected(set.error());
    return {};
  });
}

// New initial data is news; what was there from the start is none.
void reinit_is_not_said_without_reason(Context& c) {
  go(c.device, PreCopy);
  const PrecopyInfo plain = step(c.device.precopy_info(), "PRECOPY_INFO");
  expect("PRE-INFO-V2", !plain.reinit, "REINIT is not announced to a client that did not opt in", "REINIT");
  go(c.device, Running);
  expect_done("PRE-INFO-V2", opt_in(c.device), "a device with PRE_COPY lets a client opt in to PRECOPY_INFOv2");
  go(c.device, PreCopy);
  const PrecopyInfo first = step(c.device.precopy_info(), "PRECOPY_INFO");
  expect("PRE-INFO-V2", !first.reinit, "flags say nothing of REINIT at the start of pre-copy", "REINIT");
  reopen(c.device);
  go(c.device, PreCopy);
  const PrecopyInfo again = step(c.device.precopy_info(), "PRECOPY_INFO");
  expect("PRE-INFO-V2", !again.reinit, "the opt-in ends with the last close", "REINIT");
}

// Over vfio-user, where the information is a feature of gangway's own, a client can say something in the flags that are
// only the device's to say. Nothing that is asked at the start is news.
void flags_are_not_read(Context& c) {
  step(opt_in(c.device), "opt in to PRECOPY_INFOv2");
  go(c.device, PreCopy);
  const auto told = c.device.ask<std::uint32_t>(
      "precopy info with flags of the client's", [](DeviceHandle& device) -> Result<std::uint32_t> {
        using vfio_user::FeaturePrecopyInfo;
        const FeaturePrecopyInfo asked{.argsz = sizeof asked, .flags = std::numeric_limits<std::uint32_t>::max()};
        const auto reply =
            device.feature_get(static_cast<Feature>(vfio_user::kFeaturePrecopyInfo), bytes_of(asked), sizeof asked);
        if (!reply) return std::unexpected(reply.error());
        const auto info = load_at<FeaturePrecopyInfo>(*reply);
        if (!info) return fail(EPROTO, fmt::format("PRECOPY_INFO of {} bytes", reply->size()));
        return info->flags;
      });
  const std::uint32_t flags = step(told, "PRECOPY_INFO");
  expect("PRE-INFO-V2", flags == 0, "flags are output only: what a client says there does not come back",
         fmt::format("{:#x}", flags));
}

void opt_in_needs_pre_copy(Context& c) {
  expect_refused("PRE-INFO-V2", c.device, opt_in(c.device), "PRECOPY_INFOv2 without PRE_COPY is an error");
}

}  // namespace

std::vector<Test> precopy_tests() {
  return {
      {"information_is_for_pre_copy_only",
       {"PRE-INFO-STATE"},
       kMigration | kPreCopy | kPrecopyInfo | kReset,
       information_is_for_pre_copy_only},
      {"initial_data_is_announced",
       {"PRE-INFO-INITIAL"},
       kMigration | kPreCopy | kPrecopyInfo,
       initial_data_is_announced,
       Level::Should},
      {"initial_bytes_fall_with_reading",
       {"PRE-INFO-INITIAL"},
       kMigration | kPreCopy | kPrecopyInfo,
       initial_bytes_fall_with_reading},
      {"empty_is_said_when_it_is_so",
       {"PRE-INFO-EMPTY"},
       kMigration | kPreCopy | kPrecopyInfo | kEndsApart,
       empty_is_said_when_it_is_so},
      {"change_is_announced_and_falls_with_reading",
       {"PRE-INFO-INITIAL", "PRE-INFO-EMPTY"},
       kMigration | kPreCopy | kPrecopyInfo | kEndsApart | kChange,
       change_is_announced_and_falls_with_reading},
      {"reinit_is_not_said_without_reason",
       {"PRE-INFO-V2"},
       kMigration | kPreCopy | kPrecopyInfo | kPrecopyInfoV2,
       reinit_is_not_said_without_reason},
      {"flags_are_not_read",
       {"PRE-INFO-V2"},
       kMigration | kPreCopy | kPrecopyInfo | kPrecopyInfoV2 | kWire,
       flags_are_not_read},
      {"opt_in_needs_pre_copy", {"PRE-INFO-V2"}, kMigration | kNoPreCopy, opt_in_needs_pre_copy},
  };
}

}  // namespace gangway::conformance
