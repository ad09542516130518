#include "vfio_user/answer.h"

#include <algorithm>
#include <array>

namespace gangway::vfio_user {
namespace {

constexpr std::array<std::byte, 64 << 10> kZeros{};

}  // namespace

void Answer::put_zeros(std::size_t size) {
  while (size > 0) {
    const std::size_t count = std::min(size, kZeros.size());
    refer(std::span(kZeros).first(count));
    size -= count;
  }
}

void Answer::put_bitmap(DirtyReport report, std::size_t size) {
  report_ = std::move(report);
  std::size_t at = 0;
  const auto zeros_until = [&](std::size_t end) {
    if (at >= end) return;
    put_zeros(end - at);
    at = end;
  };
  for (const DirtyReport::Extent& extent : report_.extents) {
    zeros_until(extent.first_word * sizeof(std::uint64_t));
    const std::span<const std::byte> words = std::as_bytes(std::span(extent.words));
    refer(words);
    at += words.size();
  }
  zeros_until(size);
}

}  // namespace gangway::vfio_user
