// Doorbells in the host's memory: the host writes them there, and rings the register only when the controller asked for
// it, by the event index. While the controller polls, an I/O costs the host no exit.
//
// Two pages lie in the host's memory, both laid out as the doorbell registers: the shadow doorbells, which the host
// writes, and the event indices, which the controller writes. The host rings the register when a doorbell passes its
// event index. So before it sleeps, the controller writes what it has seen, and looks once more. The admin queue is
// always rung by register: hosts differ in whether they shadow it.
// Source: NVM Express 1.4, 5.7 (doorbell buffer config), 7.13.
//
// Thread-safety: the I/O thread's own.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include <gangway/dma.h>
#include <gangway/error.h>

#include "devices/nvme/queues.h"

namespace gangway::nvme {

inline constexpr std::size_t kShadowWords = std::size_t{kMaxQueues} * 2;

class ShadowDoorbells {
 public:
  void enable(Iova doorbells, Iova event_indices);
  void disable() { enabled_ = false; }
  [[nodiscard]] bool enabled() const { return enabled_; }
  [[nodiscard]] Iova doorbells() const { return doorbells_; }
  [[nodiscard]] Iova event_indices() const { return event_indices_; }

  // The words as they are now, of `queues` queues; valid until the next call.
  Result<std::span<const std::uint32_t>> load(DmaSpace& dma, std::size_t queues);
  // Asks for the register to be rung when the word passes this value.
  Result<void> ask(DmaSpace& dma, std::size_t word, std::uint32_t value);

 private:
  bool enabled_ = false;
  Iova doorbells_;
  Iova event_indices_;
  std::array<std::uint32_t, kShadowWords> words_{};
  std::array<std::optional<std::uint32_t>, kShadowWords> asked_{};
};

}  // namespace gangway::nvme
