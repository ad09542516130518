// DAT-FD: the data descriptor of the kernel's interface.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>

#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using enum DeviceState;

// What the handle has; -1 where it has none.
int descriptor(Context& c) {
  const Result<int> now = c.device.ask<int>("data descriptor", [](DeviceHandle& device) -> Result<int> {
    const Result<int> has = device.data_descriptor();
    return has ? *has : -1;
  });
  return step(now, "ask for the data descriptor");
}

// A new one is opened before the old one is closed, so their numbers differ.
void descriptor_is_returned_where_a_session_starts(Context& c) {
  make_stream(c.device);
  for (const DeviceState from : states_of(c.flags())) {
    for (const DeviceState to : states_of(c.flags())) {
      // To the state that it is in is a SET without data, too.
      if (!contract::path(from, to, c.flags()) || from == Resuming) continue;
      if (c.device.last_state() != from) go(c.device, from);
      const int before = descriptor(c);
      go(c.device, to);
      const int after = descriptor(c);
      const bool begins = to == Resuming || (contract::in_saving_group(to) && !contract::in_saving_group(from));
      const std::string arc = fmt::format("{} to {}", contract::name(from), contract::name(to));
      if (begins) expect("DAT-FD", after >= 0 && after != before, arc + " returns a data descriptor", "-1");
      if (!begins) expect("DAT-FD", after == before, arc + " begins no session: data_fd is -1", "a descriptor");
      if (to == Resuming) reset(c.device);
    }
  }
}

// Of this process.
std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
}

// A caller looks at data_fd when the SET has succeeded: what comes with a failure nobody closes.
void failed_set_returns_no_descriptor(Context& c) {
  constexpr std::array kNoStates{static_cast<std::uint32_t>(Error), static_cast<std::uint32_t>(kDeviceStates)};
  const auto expect_none = [&](std::ptrdiff_t before, const std::string& what) {
    if (c.device.lost()) throw Untestable{c.device.why_lost()};
    const std::ptrdiff_t after = open_descriptors();
    expect("DAT-FD", after <= before, what + " returns no data descriptor", fmt::format("{} more", after - before));
  };
  for (const DeviceState from : {Running, Stop, StopCopy}) {
    go(c.device, from);
    const std::ptrdiff_t before = open_descriptors();
    for (const std::uint32_t number : kNoStates) (void)c.device.set_number(number);
    expect_none(before, fmt::format("a SET in {} that fails", contract::name(from)));
  }
  go(c.device, Resuming);
  const std::ptrdiff_t before = open_descriptors();
  (void)c.device.set(Stop);  // without a stream
  expect_none(before, "a SET from RESUMING to STOP that fails");
  reset(c.device);
}

void descriptor_is_closed_on_exec_and_not_seekable(Context& c) {
  for (const DeviceState state : states_of(c.flags())) {
    if (!contract::in_saving_group(state) && state != Resuming) continue;
    go(c.device, state);
    const int fd = descriptor(c);
    const std::string where = fmt::format("the data descriptor of {}", contract::name(state));
    expect("DAT-FD", (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, where + " is close-on-exec", "it is not");
    const off_t moved = ::lseek(fd, 0, SEEK_SET);
    expect("DAT-FD", moved < 0 && errno == ESPIPE, where + " is not seekable (ESPIPE)",
           moved >= 0 ? "success" : to_text(gangway::Error{errno, "lseek", {}}));
    if (state == Resuming) reset(c.device);
    if (state != Resuming) go(c.device, Running);
  }
}

void closing_the_descriptor_keeps_the_state(Context& c) {
  make_stream(c.device);
  for (const DeviceState state : states_of(c.flags())) {
    if (!contract::in_saving_group(state) && state != Resuming) continue;
    go(c.device, state);
    expect_done("DAT-FD", c.device.close_data(), "the data descriptor is closed");
    expect_state("DAT-FD", c.device, state);
    if (state == Resuming) reset(c.device);
    if (state != Resuming) {
      expect_done("DAT-FD", c.device.set(Running),
                  fmt::format("{} is left after its data descriptor was closed", contract::name(state)));
    }
    expect_migrates("DAT-FD", c.device);
  }
}

// The client may have handed it on: whoever holds it finds the session ended.
void old_descriptor_fails_after_a_reset(Context& c) {
  make_stream(c.device);
  for (const DeviceState state : states_of(c.flags())) {
    if (!contract::in_saving_group(state) && state != Resuming) continue;
    go(c.device, state);
    const Fd old(::fcntl(descriptor(c), F_DUPFD_CLOEXEC, 0));
    if (!old) throw Untestable{"the data descriptor cannot be duplicated"};
    reset(c.device);
    std::array<std::byte, 16> bytes{};
    std::ranges::copy_n(c.device.good().begin(), std::min<std::ptrdiff_t>(std::ssize(c.device.good()), 16),
                        bytes.begin());
    const ssize_t moved = state == Resuming ? ::write(old.get(), bytes.data(), bytes.size())
                                            : ::read(old.get(), bytes.data(), bytes.size());
    // To wait for more is to go on with the session.
    const bool failed = moved < 0 && errno != EAGAIN;
    expect("RST-CLEARS", failed, fmt::format("the data descriptor of {} fails after a reset", contract::name(state)),
           moved < 0 ? "it would wait" : fmt::format("{} bytes", moved));
  }
}

}  // namespace

std::vector<Test> data_descriptor_tests() {
  return {
      {"descriptor_is_returned_where_a_session_starts",
       {"DAT-FD"},
       kMigration | kDataFd | kReset,
       descriptor_is_returned_where_a_session_starts},
      {"failed_set_returns_no_descriptor", {"DAT-FD"}, kMigration | kDataFd | kReset, failed_set_returns_no_descriptor},
      {"descriptor_is_closed_on_exec_and_not_seekable",
       {"DAT-FD"},
       kMigration | kDataFd | kReset,
       descriptor_is_closed_on_exec_and_not_seekable},
      {"old_descriptor_fails_after_a_reset",
       {"RST-CLEARS"},
       kMigration | kDataFd | kReset,
       old_descriptor_fails_after_a_reset},
      {"closing_the_descriptor_keeps_the_state",
       {"DAT-FD"},
       kMigration | kDataFd | kReset,
       closing_the_descriptor_keeps_the_state},
  };
}

}  // namespace gangway::conformance
