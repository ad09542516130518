// Copies memory that a running device may be writing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace gangway {

// `to` is as large as `from`. Torn bytes are no harm: the device reports what it writes as dirty, and it is sent again.
// Read with relaxed atomics, so that a copy beside a write is defined.
inline void copy_running_memory(std::span<std::byte> from, std::span<std::byte> to) {
  using Word = std::uint64_t;
  std::size_t at = 0;
  const auto copy_byte = [&] {
    to[at] = std::atomic_ref(from[at]).load(std::memory_order_relaxed);
    ++at;
  };
  while (at < from.size() && reinterpret_cast<std::uintptr_t>(from.data() + at) % alignof(Word) != 0) copy_byte();
  for (; from.size() - at >= sizeof(Word); at += sizeof(Word)) {
    // The bytes are memory shared with a device, of no type of their own.
    auto& word = *reinterpret_cast<Word*>(from.data() + at);
    const Word value = std::atomic_ref(word).load(std::memory_order_relaxed);
    std::memcpy(to.data() + at, &value, sizeof(value));
  }
  while (at < from.size()) copy_byte();
}

}  // namespace gangway
