// WIR: descriptors that come with messages, and clients that vanish.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include <fmt/core.h>

#include "base/bytes.h"
#include "conformance/steps.h"
#include "conformance/wire_client.h"

namespace gangway::conformance {
namespace {

using namespace wire;
using namespace vfio_user;

// --- descriptors, and clients that vanish ---

// Whether the server held on to the other end of a pipe.
struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) throw Untestable{"no pipe can be made", false};
    reader = Fd(ends[0]);
    writer = Fd(ends[1]);
  }
  // Once nobody holds the other end the pipe is at its end.
  [[nodiscard]] bool released(std::chrono::milliseconds limit) {
    writer.reset();
    pollfd end{reader.get(), POLLIN, 0};
    return ::poll(&end, 1, static_cast<int>(limit.count())) == 1 && (end.revents & POLLHUP) != 0;
  }
  Fd reader;
  Fd writer;
};

struct Message {
  Command command;
  Bytes body;
};

// With one, with as many as a message may have, and with more than the control data of a receiver has room for.
void unexpected_descriptors_are_closed(Context& c) {
  std::vector<Message> messages{{Command::DeviceGetInfo, get_info()},
                                {Command::DeviceGetRegionInfo, body(RegionInfo{.argsz = sizeof(RegionInfo)})}};
  if ((c.abilities.have & kMigration) != 0) messages.push_back({Command::DeviceFeature, get_state()});
  if ((c.abilities.have & kReset) != 0) messages.push_back({Command::DeviceReset, {}});
  for (const Message& message : messages) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{kPlainFds}, std::size_t{200}}) {
      WirePeer peer = connect(c);
      Pipe pipe;
      const std::vector<int> fds(count, pipe.writer.get());
      const std::string what = fmt::format("command {} with {} descriptors", static_cast<int>(message.command), count);
      c.journal.act("# " + what);
      const Result<Reply> reply = peer.call(message.command, message.body, fds);
      if (reply) {
        expect_in_step("WIR-FDS", peer, "after " + what);
      } else {
        expect("WIR-FDS", reply.error().code == ECONNRESET, what + ": they are closed, or the connection is",
               to_text(reply.error()));
      }
      expect("WIR-FDS", pipe.released(c.settings.limit), what + ": they are closed", "the server keeps one");
    }
  }
}

Reply call_new_client(WirePeer& peer, Command command, const Bytes& bytes, const std::string& after) {
  Reply reply = expect_answer("WIR-GONE", peer.call(command, bytes), after);
  expect("WIR-GONE", !reply.failed(), after, fmt::format("error {}", reply.header.error));
  return reply;
}

Fd memory_file() {
  Fd file(::memfd_create("gangway-check", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file || ::ftruncate(file.get(), 16 * kPage) != 0) throw Untestable{"no memory file can be made", false};
  return file;
}

// A client sets everything up, in this state, and goes in the middle of a message.
void vanish(Context& c, DeviceState state) {
  const Fd file = memory_file();
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{15}, std::size_t{20}}) {
    WirePeer peer = connect(c);
    const int fd = file.get();
    call(peer, Command::DmaMap, map_memory(), "DMA_MAP", std::span(&fd, 1));
    if ((c.abilities.have & kDmaLogging) != 0) {
      (void)peer.call(Command::DeviceFeature, stop_log());  // that of somebody before, if it was left on
      call(peer, Command::DeviceFeature, start_log(), "DMA_LOGGING_START");
    }
    if (state != DeviceState::Running) {
      call(peer, Command::DeviceFeature, set_state(state), fmt::format("SET of {}", contract::name(state)));
    }
    const Bytes last = peer.message(static_cast<std::uint16_t>(Command::DeviceGetInfo), get_info());
    step(peer.send(std::span(last).first(cut)), "send");
    peer.close();
    const std::string after = fmt::format("after a client that vanished {} bytes into a message", cut);
    WirePeer next = connect(c);
    if ((c.abilities.have & kMigration) != 0) {
      const Reply state = call_new_client(next, Command::DeviceFeature, get_state(), after + " GET answers");
      const auto now = load_at<FeatureDeviceState>(state.body, sizeof(FeatureHeader)).value_or(FeatureDeviceState{});
      expect("WIR-GONE", now.state == static_cast<std::uint32_t>(DeviceState::Running),
             after + " the device is RUNNING", fmt::format("state {}", now.state));
    }
    call_new_client(next, Command::DmaMap, map_memory(), after + " the memory can be mapped");
    if ((c.abilities.have & kDmaLogging) != 0) {
      call_new_client(next, Command::DeviceFeature, start_log(), after + " the DMA log can be started");
    }
  }
}

void vanished_client_leaves_nothing(Context& c) { vanish(c, DeviceState::Running); }
void client_that_vanishes_in_stop_leaves_nothing(Context& c) { vanish(c, DeviceState::Stop); }

// It asked for data and does not wait for the reply.
void client_that_vanishes_in_a_read_leaves_nothing(Context& c) {
  for (const std::uint32_t size : {1U, 4096U, 1U << 20}) {
    WirePeer peer = connect(c);
    call(peer, Command::DeviceFeature, set_state(DeviceState::StopCopy), "SET of STOP_COPY");
    for (int i = 0; i < 3; ++i) {
      step(peer.send(peer.message(static_cast<std::uint16_t>(Command::MigDataRead), read_data(size))), "send");
    }
    peer.close();
    const std::string after = fmt::format("after a client that vanished while it read {} bytes", size);
    WirePeer next = connect(c);
    const AtRest at_rest(next);
    const Reply state = call_new_client(next, Command::DeviceFeature, get_state(), after + " GET answers");
    const auto now = load_at<FeatureDeviceState>(state.body, sizeof(FeatureHeader)).value_or(FeatureDeviceState{});
    expect("WIR-GONE", now.state == static_cast<std::uint32_t>(DeviceState::Running), after + " the device is RUNNING",
           fmt::format("state {}", now.state));
    call_new_client(next, Command::DeviceFeature, set_state(DeviceState::StopCopy), after + " it saves");
    const Reply data = call_new_client(next, Command::MigDataRead, read_data(size), after + " its data is read");
    expect("WIR-GONE", data.body.size() > sizeof(MigData), after + " its data is read from the start", "no data");
  }
}

// Triggered by its successor, an interrupt must not arrive where a client that is gone wanted it.
void vanished_client_is_not_interrupted(Context& c) {
  for (const IrqType type : {IrqType::Msix, IrqType::Msi, IrqType::Intx}) {
    const Fd eventfd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    WirePeer peer = connect(c);
    const int fd = eventfd.get();
    const Bytes set = body(IrqSet{.argsz = sizeof(IrqSet),
                                  .flags = kIrqDataEventfd | kIrqActionTrigger,
                                  .index = to_number(type),
                                  .start = 0,
                                  .count = 1});
    const Reply reply = step(peer.call(Command::DeviceSetIrqs, set, std::span(&fd, 1)), "SET_IRQS");
    if (reply.failed()) continue;  // it has no such interrupt
    peer.close();
    WirePeer next = connect(c);
    step(next.call(Command::DeviceSetIrqs, trigger(type)), "SET_IRQS");
    std::uint64_t count = 0;
    const bool signalled = ::read(eventfd.get(), &count, sizeof count) == sizeof count;
    expect("WIR-GONE", !signalled, "the interrupts of a client that is gone are gone", "its eventfd is signalled");
  }
}

}  // namespace

std::vector<Test> wire_gone_tests() {
  constexpr std::uint32_t kData = kWire | kMigration;
  return {
      {"unexpected_descriptors_are_closed", {"WIR-FDS"}, kWire, unexpected_descriptors_are_closed},
      {"vanished_client_leaves_nothing", {"WIR-GONE"}, kWire, vanished_client_leaves_nothing},
      {"client_that_vanishes_in_stop_leaves_nothing",
       {"WIR-GONE"},
       kData,
       client_that_vanishes_in_stop_leaves_nothing,
       Level::Must,
       true},
      {"client_that_vanishes_in_a_read_leaves_nothing",
       {"WIR-GONE"},
       kData,
       client_that_vanishes_in_a_read_leaves_nothing,
       Level::Must,
       true},
      {"vanished_client_is_not_interrupted", {"WIR-GONE"}, kWire, vanished_client_is_not_interrupted},
  };
}

}  // namespace gangway::conformance
