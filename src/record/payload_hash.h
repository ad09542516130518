// XXH3-64 of bytes that come in pieces.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "base/xxh3.h"

namespace gangway::record {

class PayloadHash {
 public:
  PayloadHash() : xxh3_(fastest_xxh3()), state_(xxh3_.create(), xxh3_.destroy) {
    if (!state_) throw std::bad_alloc();
    restart();
  }
  void restart() { xxh3_.reset(state_.get(), 0); }
  void update(std::span<const std::byte> bytes) {
    if (!bytes.empty()) xxh3_.update(state_.get(), bytes.data(), bytes.size());
  }
  [[nodiscard]] std::uint64_t value() const { return xxh3_.digest(state_.get()); }

 private:
  const Xxh3& xxh3_;
  std::unique_ptr<void, void (*)(void*)> state_;
};

}  // namespace gangway::record
