// The fixture of the hostile-peer tests.
//
// Whatever a test's peers did, its end proves for every device it served that the server lives, that the next client
// finds a RUNNING device with nothing left over (WIR-GONE), and that the process holds as many descriptors as before
// (WIR-FDS).
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "integration/hostile/raw_peer.h"
#include "integration/hostile/served_device.h"
#include "integration/hostile/wire.h"

namespace gangway::hostile {

// What a peer finds after it did something it should not.
enum class Aftermath { InStep, Closed };
[[nodiscard]] std::string name(Aftermath aftermath);

// Sends DEVICE_GET_INFO and reads until its reply, which must be right, or the end of the stream. Replies to what the
// peer sent before are let through, as they are the answer to the misdeed.
[[nodiscard]] Aftermath aftermath(RawPeer& peer);

// WIR-FRAME: "never out of step".
void expect_in_step(RawPeer& peer);
void expect_in_step_or_closed(RawPeer& peer);
void expect_closed(RawPeer& peer);

// The command gets an error reply that is a header and nothing else, and the stream stays in step. Any errno but 0 if
// none is given.
void expect_refused(RawPeer& peer, std::uint16_t command, std::span<const std::byte> body,
                    std::initializer_list<int> error_numbers = {}, const RawPeer::Descriptors& fds = {});
void expect_accepted(RawPeer& peer, std::uint16_t command, std::span<const std::byte> body,
                     const RawPeer::Descriptors& fds = {});

[[nodiscard]] std::size_t open_descriptors();

class HostileTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // A further device in this process.
  ServedDevice& serve(const ServedOptions& options = {});
  // A client that has negotiated.
  [[nodiscard]] static RawPeer connect(ServedDevice& device);

  // Ends the tests of a device before the fixture does: a new client finds it as a new device.
  static void expect_like_new(ServedDevice& device);
  // As many descriptors as when the devices were new, with a client connected to each.
  void expect_no_descriptor_kept();

 private:
  [[nodiscard]] std::size_t descriptors_with_clients();

  std::vector<std::unique_ptr<ServedDevice>> devices_;
  std::size_t descriptors_when_new_ = 0;
};

// --- what the tests do with a device over and over ---

[[nodiscard]] std::uint32_t state_of(RawPeer& peer);
void go_to(RawPeer& peer, std::uint32_t state);
// The whole stream of a save, read to its end.
[[nodiscard]] Bytes read_stream(RawPeer& peer, std::uint32_t transfer = 1U << 16);

template <class T>
void write_register(RawPeer& peer, std::uint64_t offset, T value) {
  expect_accepted(peer, kRegionWrite, region_write(kRegisters, offset, std::as_bytes(std::span(&value, 1))));
}
[[nodiscard]] std::uint32_t read_register(RawPeer& peer, std::uint64_t offset);
// Starts a copy, which runs until its status is no longer kDmaBusy.
void start_dma(RawPeer& peer, std::uint64_t iova, std::uint32_t length, std::uint32_t command);
// Starts one and waits for its end; returns its errno.
[[nodiscard]] std::uint32_t run_dma(RawPeer& peer, std::uint64_t iova, std::uint32_t length, std::uint32_t command);
// Until the copy on the device's thread has ended, without a message to the server.
[[nodiscard]] std::uint32_t await_dma(const ServedDevice& device);

}  // namespace gangway::hostile
