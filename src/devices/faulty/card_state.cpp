// The card's saved state: its registers, as they lie in memory. No card of another version is ever met, so there is
// nothing that Protobuf would have to keep compatible.
#include <fmt/format.h>

#include "base/bytes.h"
#include "devices/faulty/card.h"

namespace gangway::faulty {

StateIdentity Card::identity() const {
  return {.device_type = "faulty-card", .model_version = 1, .compatible_with = 1};
}

Result<void> Card::save(StateWriter& writer) const {
  std::scoped_lock lock(mutex_);
  writer.section("registers", bytes_of(registers_));
  return {};
}

Result<void> Card::load(const StateReader& reader) {
  const Result<std::span<const std::byte>> section = reader.section("registers");
  if (!section) return std::unexpected(section.error());
  const std::optional<Registers> saved = load_at<Registers>(*section);
  if (!saved || section->size() != sizeof(Registers)) {
    return fail(EINVAL, fmt::format("card: registers of {} bytes, {} are needed", section->size(), sizeof(Registers)));
  }
  const bool sound = saved->status != kStatusBusy || (saved->dma_length != 0 && saved->dma_length % 4 == 0);
  if (!sound || saved->dma_length > kMaxPiece) {
    return fail(EINVAL, fmt::format("card: a job with pieces of {} bytes", saved->dma_length));
  }
  std::scoped_lock lock(mutex_);
  registers_ = *saved;
  return {};
}

}  // namespace gangway::faulty
