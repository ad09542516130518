// One direction of one socket between a client and a server: takes messages from one end and passes them to the other,
// as they are.
//
// A message leaves with its descriptors, and its header in one write with what there is of its body; to the client,
// whose released kinds need a header and its body together (WIR-REPLY), messages up to kWhole bytes leave whole. Longer
// ones are passed as they come. Small ones that came together leave together. What is kept is one buffer; while the
// receiver takes nothing, nothing more is read, so that the sender feels it.
//
// Descriptors belong to the message that holds the last byte of the read they came with, and a write that carries some
// ends with its message, so that the next reader finds them where this one did (WIR-FDS).
//
// Bytes that are no messages are passed all the same: judging them is the receiver's part.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "vfio_user/protocol.h"

namespace gangway::vfio_user {

enum class Direction : std::uint8_t { ToServer, ToClient };
enum class SocketRole : std::uint8_t { Main, Twin };
struct LaneId {
  Direction direction{};
  SocketRole socket{};
};

// Is told what passes, before it does.
class ForwardingObserver {
 public:
  virtual ~ForwardingObserver() = default;
  // Of a message: its header, then its body in pieces, then its end.
  virtual void began(LaneId lane, const Header& header, std::span<const Fd> fds) = 0;
  virtual void body(LaneId lane, std::span<const std::byte> piece) = 0;
  virtual void ended(LaneId lane, bool whole) = 0;
  // Nothing more comes this way, and why.
  virtual void closed(LaneId lane, const std::string& why) = 0;
};

// May change the descriptors of a message before it is passed.
class DescriptorGate {
 public:
  virtual ~DescriptorGate() = default;
  // `body` is all of it, or as much as there is of a long one.
  virtual void pass(LaneId lane, const Header& header, std::span<const std::byte> body, std::vector<Fd>& fds) = 0;
};

class ForwardingLane {
 public:
  static constexpr std::size_t kBuffer = 256U << 10;
  static constexpr std::size_t kWhole = 64U << 10;
  static constexpr std::size_t kMostHeld = 512;        // descriptors that wait to be passed; with them nothing is read
  static constexpr std::size_t kTogether = 16U << 10;  // the kernel takes so much in one piece or not at all

  // The sockets are the caller's and outlive it.
  ForwardingLane(LaneId id, int from, int to, ForwardingObserver& observer, DescriptorGate& gate);

  // Moves what can be moved without waiting. True if something was.
  bool step();

  [[nodiscard]] bool wants_to_read() const { return !ended_ && end_ - begin_ < kBuffer && held_ < kMostHeld; }
  [[nodiscard]] bool wants_to_write() const { return !pieces_.empty(); }
  // All that came was passed, and nothing more will.
  [[nodiscard]] bool finished() const { return finished_; }
  // The peer that this reads from is gone wholly.
  [[nodiscard]] bool hung_up() const { return hung_up_; }
  // It is, and there may still be bytes of it to read.
  void note_hang_up() { hung_up_ = true; }
  // The other direction ended: nobody is there to take what this has.
  void give_up(const std::string& why);

  [[nodiscard]] int from() const { return from_; }
  [[nodiscard]] int to() const { return to_; }

 private:
  // What leaves in one write, if it fits.
  struct Piece {
    std::size_t size = 0;
    std::vector<Fd> fds;
    bool begun = false;
  };
  struct Arrived {  // descriptors, and the byte of the stream before whose end they came
    std::uint64_t end = 0;
    std::vector<Fd> fds;
  };

  bool read();
  bool write();
  void sort();
  [[nodiscard]] bool sort_message(std::size_t there);
  [[nodiscard]] std::vector<Fd> claim(std::uint64_t before);
  void add_piece(std::size_t size, std::vector<Fd> fds);
  void end_stream(const std::string& why);
  void finish();

  const LaneId id_;
  const int from_;
  const int to_;
  ForwardingObserver& observer_;
  DescriptorGate& gate_;

  std::unique_ptr<std::byte[]> buffer_;
  std::size_t begin_ = 0;     // of what was not passed
  std::size_t sorted_ = 0;    // up to here it lies in pieces
  std::size_t end_ = 0;       // of what was read
  std::uint64_t passed_ = 0;  // bytes of the stream before buffer_
  std::uint64_t left_ = 0;    // of a long message that is being passed
  bool raw_ = false;          // what comes makes no messages
  bool ended_ = false;
  bool finished_ = false;
  bool hung_up_ = false;
  std::size_t held_ = 0;  // descriptors in pieces_
  std::deque<Piece> pieces_;
  std::deque<Arrived> arrived_;
};

}  // namespace gangway::vfio_user
