// Reads and writes plain structures at byte offsets, bounds checked. Host byte order, as vfio-user and VFIO have it.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace gangway {

// nullopt when the structure does not lie wholly within the bytes.
template <class T>
  requires std::is_trivially_copyable_v<T>
[[nodiscard]] std::optional<T> load_at(std::span<const std::byte> bytes, std::size_t offset = 0) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// False, and nothing written, when the structure does not fit.
template <class T>
  requires std::is_trivially_copyable_v<T>
[[nodiscard]] bool store_at(std::span<std::byte> bytes, std::size_t offset, const T& value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return false;
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
  return true;
}

template <class T>
  requires std::is_trivially_copyable_v<T>
[[nodiscard]] std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

// To receive one into.
template <class T>
  requires std::is_trivially_copyable_v<T>
[[nodiscard]] std::span<std::byte> room_for(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace gangway
