#include "devices/serial/loopback_backend.h"

#include <algorithm>

namespace gangway::serial {

std::size_t LoopbackBackend::write(std::span<const std::byte> bytes) {
  const std::size_t size = std::min(bytes.size(), ring_.size() - count_);
  for (const std::byte byte : bytes.first(size)) ring_[(first_ + count_++) % ring_.size()] = byte;
  return size;
}

std::size_t LoopbackBackend::read(std::span<std::byte> out) {
  const std::size_t size = std::min(out.size(), count_);
  for (std::byte& byte : out.first(size)) {
    byte = ring_[first_];
    first_ = (first_ + 1) % ring_.size();
    --count_;
  }
  return size;
}

std::vector<std::byte> LoopbackBackend::on_the_way() const {
  std::vector<std::byte> bytes(count_);
  for (std::size_t i = 0; i < count_; ++i) bytes[i] = ring_[(first_ + i) % ring_.size()];
  return bytes;
}

bool LoopbackBackend::restore(std::span<const std::byte> bytes) {
  if (bytes.size() > ring_.size()) return false;
  reset();
  write(bytes);
  return true;
}

}  // namespace gangway::serial
