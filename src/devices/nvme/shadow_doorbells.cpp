#include "devices/nvme/shadow_doorbells.h"

#include <atomic>

namespace gangway::nvme {

void ShadowDoorbells::enable(Iova doorbells, Iova event_indices) {
  doorbells_ = doorbells;
  event_indices_ = event_indices;
  asked_ = {};
  enabled_ = true;
}

Result<std::span<const std::uint32_t>> ShadowDoorbells::load(DmaSpace& dma, std::size_t queues) {
  const auto words = std::span(words_).first(queues * 2);
  auto pin = dma.pin(doorbells_, words.size_bytes(), DmaAccess::Read);
  if (pin) {
    auto* shadow = reinterpret_cast<std::uint32_t*>(pin->bytes().data());
    for (std::size_t word = 0; word < words.size(); ++word) {
      // Orders the load after ask(), with the host's own barrier between its store and its look at the event index.
      words[word] = std::atomic_ref(shadow[word]).load(std::memory_order_seq_cst);
    }
    return std::span<const std::uint32_t>(words);
  }
  if (pin.error().code != ENOTSUP) return std::unexpected(std::move(pin.error()));
  if (auto read = dma.read(doorbells_, std::as_writable_bytes(words)); !read) {
    return std::unexpected(std::move(read.error()));
  }
  return std::span<const std::uint32_t>(words);
}

Result<void> ShadowDoorbells::ask(DmaSpace& dma, std::size_t word, std::uint32_t value) {
  if (asked_.at(word) == value) return {};
  const Iova at = event_indices_ + (word * sizeof(std::uint32_t));
  {
    const DmaLog::WriteSection section(dma.log());  // the host may see the value before the pin is gone
    auto pin = dma.pin(at, sizeof(value), DmaAccess::Write);
    if (pin) {
      std::atomic_ref(*reinterpret_cast<std::uint32_t*>(pin->bytes().data())).store(value, std::memory_order_seq_cst);
      asked_[word] = value;
      return {};
    }
    if (pin.error().code != ENOTSUP) return std::unexpected(std::move(pin.error()));
  }
  asked_[word] = value;
  return dma.write(at, std::as_bytes(std::span(&value, 1)));
}

}  // namespace gangway::nvme
