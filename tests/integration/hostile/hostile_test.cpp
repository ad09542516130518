#include "integration/hostile/hostile_test.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <ranges>

#include "base/log.h"

namespace gangway::hostile {

std::string name(Aftermath aftermath) { return aftermath == Aftermath::InStep ? "in step" : "closed"; }

Aftermath aftermath(RawPeer& peer) {
  const std::uint16_t id = peer.post(kGetInfo, get_info());
  for (;;) {
    const std::optional<Message> message = peer.receive_reply();
    if (!message) return Aftermath::Closed;
    if (message->header.id != id) continue;
    if (message->header.command != kGetInfo || message->failed() || message->body.size() != 16 ||
        field<std::uint32_t>(message->body, 0) != 16 || field<std::uint32_t>(message->body, 4) != 3 ||
        field<std::uint32_t>(message->body, 8) != kRegions || field<std::uint32_t>(message->body, 12) != 5) {
      throw std::runtime_error("out of step: DEVICE_GET_INFO was answered by command " +
                               std::to_string(message->header.command) + ", errno " + std::to_string(message->error()) +
                               ", " + std::to_string(message->body.size()) + " bytes");
    }
    return Aftermath::InStep;
  }
}

void expect_in_step(RawPeer& peer) { EXPECT_EQ(name(aftermath(peer)), "in step"); }
void expect_in_step_or_closed(RawPeer& peer) { static_cast<void>(aftermath(peer)); }
void expect_closed(RawPeer& peer) { peer.await_close(); }

void expect_refused(RawPeer& peer, std::uint16_t command, std::span<const std::byte> body,
                    std::initializer_list<int> error_numbers, const RawPeer::Descriptors& fds) {
  const Message reply = peer.request(command, body, fds);
  EXPECT_TRUE(reply.failed()) << "command " << command << " was carried out";
  if (reply.failed()) {
    EXPECT_NE(reply.error(), 0) << "command " << command << ": a refusal without a reason";
    EXPECT_TRUE(error_numbers.size() == 0 || std::ranges::find(error_numbers, reply.error()) != error_numbers.end())
        << "command " << command << ": errno " << reply.error();
  }
  expect_in_step(peer);
}

void expect_accepted(RawPeer& peer, std::uint16_t command, std::span<const std::byte> body,
                     const RawPeer::Descriptors& fds) {
  const Message reply = peer.request(command, body, fds);
  EXPECT_FALSE(reply.failed()) << "command " << command << " failed with errno " << reply.error();
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator entries("/proc/self/fd");
  return static_cast<std::size_t>(std::ranges::distance(entries));
}

void HostileTest::SetUp() {
  // Each test draws warnings by the dozen, which is right and says nothing here.
  log::set_up("hostile-test", log::Level::Error);
  descriptors_when_new_ = open_descriptors();
}

void HostileTest::TearDown() {
  if (HasFatalFailure()) return;
  for (const auto& device : devices_) expect_like_new(*device);
  expect_no_descriptor_kept();
}

ServedDevice& HostileTest::serve(const ServedOptions& options) {
  devices_.push_back(std::make_unique<ServedDevice>(options));
  descriptors_when_new_ = descriptors_with_clients();
  return *devices_.back();
}

RawPeer HostileTest::connect(ServedDevice& device) {
  RawPeer peer(device.socket());
  peer.negotiate();
  return peer;
}

void HostileTest::expect_like_new(ServedDevice& device) {
  RawPeer peer = connect(device);  // its VERSION is answered once the last client is done with
  expect_in_step(peer);
  Endpoint& endpoint = device.endpoint();
  EXPECT_EQ(endpoint.dma().map_count(), 0U) << "WIR-GONE: mappings are left over";
  EXPECT_FALSE(endpoint.dma().failed()) << "WIR-GONE: the last client's broken memory is held against the next";
  EXPECT_FALSE(endpoint.log().started()) << "WIR-GONE: the DMA log still runs";
  if (endpoint.migration() != nullptr) {
    EXPECT_EQ(state_of(peer), kStateRunning) << "FSM-INITIAL";
  }
  EXPECT_TRUE(peer.request(kMigDataRead, mig_data_read(64)).failed()) << "WIR-GONE: a data session is left over";
  EXPECT_EQ(read_register(peer, kWrites), 0U) << "WIR-GONE: the device was not reset";
  for (const bool pending : endpoint.interrupts().pending(IrqType::Msix)) {
    EXPECT_FALSE(pending) << "WIR-GONE: an interrupt of the last client is pending";
  }
}

// The least of three counts, since what is open for a moment in a thread that begins is no leak, nor is it to hide one.
std::size_t HostileTest::descriptors_with_clients() {
  constexpr int kCounts = 3;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (int count = 0; count < kCounts; ++count) {
    std::vector<RawPeer> peers;
    for (const auto& device : devices_) peers.push_back(connect(*device));
    least = std::min(least, open_descriptors());
  }
  return least;
}

void HostileTest::expect_no_descriptor_kept() {
  EXPECT_EQ(descriptors_with_clients(), descriptors_when_new_) << "WIR-FDS: a descriptor leaked";
}

std::uint32_t state_of(RawPeer& peer) {
  const Message reply = peer.request(kFeature, get_state());
  EXPECT_FALSE(reply.failed()) << "GET of the device state failed with errno " << reply.error();
  return reply.failed() ? kMax32 : field<std::uint32_t>(reply.body, 8);
}

void go_to(RawPeer& peer, std::uint32_t state) { expect_accepted(peer, kFeature, set_state(state)); }

Bytes read_stream(RawPeer& peer, std::uint32_t transfer) {
  Bytes stream;
  for (;;) {
    const Message reply = peer.request(kMigDataRead, mig_data_read(transfer));
    if (reply.failed()) throw std::runtime_error("MIG_DATA_READ failed with errno " + std::to_string(reply.error()));
    const auto size = field<std::uint32_t>(reply.body, 4);
    stream.insert(stream.end(), reply.body.begin() + 8, reply.body.end());
    if (size < transfer) return stream;
  }
}

std::uint32_t read_register(RawPeer& peer, std::uint64_t offset) {
  const Message reply = peer.request(kRegionRead, region_read(kRegisters, offset, 4));
  EXPECT_FALSE(reply.failed()) << "reading register " << offset << " failed with errno " << reply.error();
  return reply.failed() ? kMax32 : field<std::uint32_t>(reply.body, 16);
}

void start_dma(RawPeer& peer, std::uint64_t iova, std::uint32_t length, std::uint32_t command) {
  write_register<std::uint64_t>(peer, kDmaAddress, iova);
  write_register<std::uint32_t>(peer, kDmaLength, length);
  write_register<std::uint32_t>(peer, kDmaStart, command);
}

std::uint32_t run_dma(RawPeer& peer, std::uint64_t iova, std::uint32_t length, std::uint32_t command) {
  start_dma(peer, iova, length, command);
  std::uint32_t status = kDmaBusy;
  while (status == kDmaBusy) status = read_register(peer, kDmaStatus);
  return status;
}

std::uint32_t await_dma(const ServedDevice& device) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (device.device().status() == kDmaBusy) {
    if (std::chrono::steady_clock::now() > limit) throw std::runtime_error("the device's DMA hangs");
    ::sched_yield();
  }
  return device.device().status();
}

}  // namespace gangway::hostile
