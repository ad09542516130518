#include "device/state_checksum.h"

#include <new>

namespace gangway {

StateChecksum::StateChecksum() : xxh3_(fastest_xxh3()), state_(xxh3_.create(), xxh3_.destroy) {
  if (!state_) throw std::bad_alloc();
  xxh3_.reset(state_.get(), 0);
}

void StateChecksum::update(std::span<const std::byte> bytes) {
  if (!bytes.empty()) xxh3_.update(state_.get(), bytes.data(), bytes.size());
}

std::uint64_t StateChecksum::seal() {
  const std::uint64_t checksum = xxh3_.digest(state_.get());
  xxh3_.reset(state_.get(), checksum);
  return checksum;
}

}  // namespace gangway
