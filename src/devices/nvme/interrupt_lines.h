// Turns "completion queues have entries" into interrupts.
//
// MSI-X vectors are messages: one per batch of completions. The INTx pin is a level: asserted while a queue of an
// unmasked vector holds entries that the host has not taken. Which of the two reaches the host is the client's setup,
// so both are kept right; the pin's level is told only when it changes.
// Source: NVM Express 1.4, 7.5 (interrupts), 3.1.3 and 3.1.4 (INTMS, INTMC).
//
// Thread-safety: everything may be called from any thread.
#pragma once

#include <cstdint>
#include <mutex>

#include <gangway/interrupts.h>

namespace gangway::nvme {

class InterruptLines {
 public:
  void attach(Interrupts& interrupts) { interrupts_ = &interrupts; }

  // New completions for these vectors (a bit each); `waiting` are the vectors whose queues hold entries now.
  void raise(std::uint32_t vectors, std::uint32_t waiting);
  // The host took entries.
  void update(std::uint32_t waiting);

  void mask(std::uint32_t vectors);    // INTMS
  void unmask(std::uint32_t vectors);  // INTMC
  [[nodiscard]] std::uint32_t masked() const;
  // True where the pin's level matters, and with it when the host takes entries.
  [[nodiscard]] bool by_pin() const { return !interrupts_->takes_messages(); }

  void clear();
  void restore(std::uint32_t masked);

 private:
  void drive_pin();

  Interrupts* interrupts_ = nullptr;
  mutable std::mutex mutex_;
  std::uint32_t masked_ = 0;
  std::uint32_t waiting_ = 0;
  bool asserted_ = false;
};

}  // namespace gangway::nvme
