// What a serial port's line leads to: a byte stream in each direction that never makes the port wait.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace gangway::serial {

class Backend {
 public:
  virtual ~Backend() = default;

  // Bytes that the port sends: takes what it can at once and returns how many. The rest is offered again.
  virtual std::size_t write(std::span<const std::byte> bytes) = 0;

  // Bytes for the port: as many as there are at once, up to out.size(); returns how many.
  virtual std::size_t read(std::span<std::byte> out) = 0;

  // Called once, first. `ready` is to be called, from any thread but not from within read or write, after one of those
  // fell short and may now do better.
  virtual void connect(std::function<void()> ready) = 0;

  // What the line itself holds on its way to the port belongs to the card's state. A line that only passes on what
  // somebody else has holds nothing.

  // Bytes on their way, the first to arrive first.
  [[nodiscard]] virtual std::vector<std::byte> on_the_way() const { return {}; }
  // Puts saved bytes on their way, after a reset. False, and nothing changed, for a line that cannot hold them.
  [[nodiscard]] virtual bool restore(std::span<const std::byte> bytes) { return bytes.empty(); }
  // What is on its way is lost: the card is reset, or goes to the next client.
  virtual void reset() {}
};

}  // namespace gangway::serial
