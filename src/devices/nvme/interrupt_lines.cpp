#include "devices/nvme/interrupt_lines.h"

#include <bit>

namespace gangway::nvme {

void InterruptLines::raise(std::uint32_t vectors, std::uint32_t waiting) {
  update(waiting);
  for (; vectors != 0; vectors &= vectors - 1) {
    interrupts_->trigger(IrqType::Msix, static_cast<std::uint32_t>(std::countr_zero(vectors)));
  }
}

void InterruptLines::update(std::uint32_t waiting) {
  std::scoped_lock lock(mutex_);
  waiting_ = waiting;
  drive_pin();
}

void InterruptLines::mask(std::uint32_t vectors) {
  std::scoped_lock lock(mutex_);
  masked_ |= vectors;
  drive_pin();
}

void InterruptLines::unmask(std::uint32_t vectors) {
  std::scoped_lock lock(mutex_);
  masked_ &= ~vectors;
  drive_pin();
}

std::uint32_t InterruptLines::masked() const {
  std::scoped_lock lock(mutex_);
  return masked_;
}

void InterruptLines::clear() { restore(0); }

void InterruptLines::restore(std::uint32_t masked) {
  std::scoped_lock lock(mutex_);
  masked_ = masked;
  waiting_ = 0;
  drive_pin();
}

void InterruptLines::drive_pin() {
  const bool level = (waiting_ & ~masked_) != 0;
  if (level == asserted_) return;
  asserted_ = level;
  interrupts_->set_intx(level);
}

}  // namespace gangway::nvme
