// WIR-*: messages, replies, descriptors, and clients that are gone.
#include <fcntl.h>

#include <tuple>

#include "devices/faulty/defect.h"

namespace gangway::faulty {
namespace {

using enum DeviceState;

// The report as the log keeps it, a multiple of 64 bytes.
class BitmapReplyTooLong : public FaultyLog {
 public:
  Result<DirtyReport> report(IovaRange range, std::uint64_t page_size, std::size_t max_bytes) override {
    Result<DirtyReport> report = DmaLog::report(range, page_size, max_bytes);
    constexpr std::size_t kLine = 8;
    if (report) report->total_words = (report->total_words + kLine) / kLine * kLine;
    return report;
  }
};

class StreamReplyTooLong : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<StreamView> read_view(std::size_t max) override {
    constexpr std::size_t kMore = 8;
    return Migration::read_view(max == 0 ? 0 : max + kMore);
  }
  Result<StreamRead> read(std::span<std::byte> out) override { return real_read(out); }  // no reply of its own
};

// Of a session that is cancelled.
class LeaksDescriptor : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    Result<void> done = Migration::set_state(number);
    if (before == StopCopy && real_state() != before) std::ignore = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    return done;
  }
};

class StateLeftBehind : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> client_gone() override {
    const DeviceState before = migration() != nullptr ? migration()->state() : Running;
    Result<void> gone = FaultyEndpoint::client_gone();
    if (!gone || before != Stop) return gone;
    return migration()->set_state(static_cast<std::uint32_t>(Stop));
  }
};

class DmaMapsLeftBehind : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  // All that the good endpoint does, but for the mappings.
  Result<void> client_gone() override {
    Result<void> running = FaultyEndpoint::reset();
    interrupts().clear();
    std::ignore = log().stop();
    return running;
  }
};

class LogLeftBehind : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> client_gone() override {
    const bool logged = log().started();
    Result<void> running = FaultyEndpoint::client_gone();
    if (logged) std::ignore = log().start_all(0);
    return running;
  }
};

class InterruptsLeftBehind : public FaultyEndpoint {
 public:
  using FaultyEndpoint::FaultyEndpoint;
  Result<void> client_gone() override {
    Result<void> running = FaultyEndpoint::reset();
    dma().unmap_all();
    std::ignore = log().stop();
    return running;
  }
};

}  // namespace

std::vector<Defect> wire_defects() {
  return {
      {"transfer_limit_ignored", "WIR-NEGOTIATE", "a DMA message is as long as it likes, whatever the client takes",
       "libvfio-user pull request 788: the pieces of a DMA transfer were cut wrongly",
       kFaultyWire<WireFault::TransferLimitIgnored>},
      {"split_header_refused", "WIR-FRAME", "a message whose header does not come in one piece ends the connection",
       "libvfio-user issue 306 and pull request 415: a short read is taken for the end",
       kFaultyWire<WireFault::SplitHeaderRefused>},
      {"refused_body_left", "WIR-FRAME", "the body of an unknown command is taken for the next message",
       "cloud-hypervisor pull request 2974: a payload that nobody read put all that followed out of step",
       kFaultyWire<WireFault::RefusedBodyLeft>},
      {"refusal_under_another_id", "WIR-FRAME", "an unknown command is refused under the id 0",
       "rust-vmm/vfio issue 143, of the same kind: the header of an error reply did not say what it is",
       kFaultyWire<WireFault::RefusalUnderAnotherId>},
      {"reply_to_no_reply", "WIR-NOREPLY", "a command is answered that wants no reply",
       "rust-vmm/vfio issue 141: posted writes of QEMU were answered", kFaultyWire<WireFault::ReplyToNoReply>},
      {"no_reply_dropped", "WIR-NOREPLY", "a command that wants no reply is not carried out",
       "kind: a command dropped together with its reply", kFaultyWire<WireFault::NoReplyDropped>},
      {"map_reply_echoes", "WIR-SHAPE", "the reply to a DMA_MAP without a descriptor brings the request back",
       "libvfio-user issue 63, of the same kind: replies had another payload than the specification gives them",
       kFaultyWire<WireFault::MapReplyEchoes>},
      {"unmap_reply_empty", "WIR-SHAPE", "a DMA_UNMAP is answered with a header alone",
       "cloud-hypervisor pull request 2974: client and server disagreed on whether the reply has a payload",
       kFaultyWire<WireFault::UnmapReplyEmpty>},
      {"header_sent_alone", "WIR-REPLY", "the body of a reply leaves after its header",
       "libvfio-user issue 306: what does not come in one read is taken for the end",
       kFaultyWire<WireFault::HeaderSentAlone>},
      {"bitmap_reply_too_long", "WIR-REPLY", "the bitmap of a REPORT is rounded up beyond the client's argsz",
       "libvfio-user issues 374 and 824: sizes of dirty bitmaps on which client and server disagree",
       kFaultyLog<BitmapReplyTooLong>},
      {"stream_reply_too_long", "WIR-REPLY", "a MIG_DATA_READ brings eight bytes more than were asked for",
       "kind: a header counted twice", kFaultyMigration<StreamReplyTooLong>},
      {"descriptor_leaked", "WIR-FDS", "each save leaves a descriptor open",
       "Linux mlx5, \"Fix unwind flows in mlx5vf_pci_save/resume_device_data()\"; libvfio-user issue 852",
       kFaultyMigration<LeaksDescriptor>},
      {"state_left_by_vanished_client", "FSM-INITIAL WIR-GONE", "a client that goes in STOP leaves STOP to the next",
       "libvfio-user issue 458: after its VMM was killed a device kept refusing commands as stopped",
       kFaultyEndpoint<StateLeftBehind>},
      {"mappings_left_by_vanished_client", "WIR-GONE", "the mappings of a client that is gone remain",
       "libvfio-user issue 852: what was set up for a region of memory outlives the region",
       kFaultyEndpoint<DmaMapsLeftBehind>},
      {"log_left_by_vanished_client", "WIR-GONE", "DMA logging that a vanished client started goes on",
       "libvfio-user issue 539: dirty bitmaps outlive the logging", kFaultyEndpoint<LogLeftBehind>},
      {"interrupts_left_by_vanished_client", "WIR-GONE", "the eventfds of a client that is gone are still signalled",
       "kind: descriptors closed only when others take their place", kFaultyEndpoint<InterruptsLeftBehind>},
  };
}

}  // namespace gangway::faulty
