// Writes down what passes on one connection.
//
// A message is written when its last byte is here and before that byte is passed on: what a peer has received is in the
// recording, whatever happens next. Migration data in shared memory is hashed there, between the message that says it
// lies there and the peer who learns of it.
//
// Thread-safety: one thread at a time.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "record/payload_hash.h"
#include "record/payload_rule.h"
#include "record/record.h"
#include "record/trace_file.h"
#include "vfio_user/forwarding_lane.h"
#include "vfio_user/shared_memory.h"

namespace gangway::record {

enum class KeepPayload : bool { No, Yes };

class Scribe final : public vfio_user::ForwardingObserver {
 public:
  using Clock = std::chrono::steady_clock;

  Scribe(TraceWriter& writer, std::uint32_t connection, Clock::time_point began, KeepPayload keep);

  // Of the connection as a whole.
  void note(ConnectionRecord::Event event, std::string text);

  void began(vfio_user::LaneId lane, const vfio_user::Header& header, std::span<const Fd> fds) override;
  void body(vfio_user::LaneId lane, std::span<const std::byte> piece) override;
  void ended(vfio_user::LaneId lane, bool whole) override;
  void closed(vfio_user::LaneId lane, const std::string& why) override;

 private:
  // The message that passes in a lane; memory of it is reused.
  struct Passing {
    MessageRecord record;
    std::size_t structure_left = 0;
    bool sized = false;
    PayloadHash hash;
  };
  [[nodiscard]] Passing& passing(vfio_user::LaneId lane);
  [[nodiscard]] bool size_up(Passing& passing, std::span<const std::byte> piece);
  [[nodiscard]] Time now() const { return Clock::now() - began_; }
  void take_shared_memory(const MessageRecord& reply);
  void hash_shared_memory(Passing& passing);

  TraceWriter& writer_;
  const std::uint32_t connection_;
  const Clock::time_point began_;
  const KeepPayload keep_;
  PayloadRule rule_;
  std::array<Passing, 4> passing_;
  std::optional<Fd> offered_;  // by the reply that passes, perhaps as shared memory
  std::optional<vfio_user::SharedMemory> shared_;
};

[[nodiscard]] Descriptor describe(const Fd& fd);

}  // namespace gangway::record
