#include "device/state_interrupts.h"

#include <array>
#include <cstdint>
#include <optional>

#include <fmt/format.h>

#include "base/bytes.h"

namespace gangway {
namespace {

struct Head {
  std::uint32_t intx_asserted;  // 0 or 1
  std::array<std::uint32_t, kIrqTypes> counts;
};
// Followed, for each type, by its pending bits, eight a byte, the lowest first.

constexpr std::size_t bytes_for(std::size_t bits) { return (bits + 7) / 8; }

std::vector<std::byte> pack(const std::vector<bool>& bits) {
  std::vector<std::byte> packed(bytes_for(bits.size()));
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (bits[i]) packed[i / 8] |= std::byte{1} << (i % 8);
  }
  return packed;
}

std::vector<bool> unpack(std::span<const std::byte> packed, std::size_t count) {
  std::vector<bool> bits(count);
  for (std::size_t i = 0; i < count; ++i) bits[i] = (packed[i / 8] >> (i % 8) & std::byte{1}) != std::byte{0};
  return bits;
}

constexpr IrqType type_of(std::size_t number) { return static_cast<IrqType>(number); }

}  // namespace

std::vector<std::byte> encode_interrupts(const Interrupts& interrupts) {
  Head head{.intx_asserted = interrupts.intx_asserted() ? 1U : 0U, .counts = {}};
  std::vector<std::byte> pending;
  for (std::size_t type = 0; type < kIrqTypes; ++type) {
    const std::vector<bool> bits = interrupts.pending(type_of(type));
    head.counts[type] = static_cast<std::uint32_t>(bits.size());
    const std::vector<std::byte> packed = pack(bits);
    pending.insert(pending.end(), packed.begin(), packed.end());
  }
  std::vector<std::byte> bytes;
  bytes.reserve(sizeof(head) + pending.size());
  const std::span<const std::byte> front = bytes_of(head);
  bytes.insert(bytes.end(), front.begin(), front.end());
  bytes.insert(bytes.end(), pending.begin(), pending.end());
  return bytes;
}

Result<void> restore_interrupts(Interrupts& interrupts, std::span<const std::byte> bytes) {
  const std::optional<Head> head = load_at<Head>(bytes);
  if (!head || head->intx_asserted > 1) return fail(EINVAL, "interrupts: malformed");
  std::array<std::vector<bool>, kIrqTypes> pending;
  std::size_t at = sizeof(Head);
  for (std::size_t type = 0; type < kIrqTypes; ++type) {
    const std::uint32_t count = interrupts.info(type_of(type)).count;
    if (head->counts[type] != count) {
      return fail(EINVAL, fmt::format("interrupts: {} of type {} in the stream and {} in this device",
                                      head->counts[type], type, count));
    }
    if (bytes.size() - at < bytes_for(count)) return fail(EINVAL, "interrupts: malformed");
    pending[type] = unpack(bytes.subspan(at), count);
    at += bytes_for(count);
  }
  if (at != bytes.size()) return fail(EINVAL, "interrupts: malformed");
  for (std::size_t type = 0; type < kIrqTypes; ++type) interrupts.set_pending(type_of(type), pending[type]);
  interrupts.set_intx(head->intx_asserted == 1);
  return {};
}

}  // namespace gangway
