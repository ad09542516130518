// The client's calls of DMA, within the limits that the server said it has (WIR-NEGOTIATE).
#include <array>
#include <bit>
#include <vector>

#include <fmt/format.h>

#include <gangway/dma_log.h>

#include "base/bytes.h"
#include "vfio_user/client.h"

namespace gangway::vfio_user {

// What the server could not take it need not be asked.
Result<void> Client::check_limits(const DmaMap& request) const {
  const auto refuse = [&](int code, std::string_view why) {
    return fail(
        code,
        fmt::format("{}: map {:#x} bytes at {:#x}: {}", target_, request.range.size, request.range.start.value, why),
        "WIR-NEGOTIATE");
  };
  if (request.file >= 0 && server_.max_msg_fds == 0) {
    return refuse(ENOTSUP, "the server takes no descriptors (max_msg_fds 0)");
  }
  if (server_.page_sizes == 0) return refuse(ENOTSUP, "the server names no page size that it maps (pgsizes 0)");
  const std::uint64_t smallest = server_.page_sizes & -server_.page_sizes;
  const std::uint64_t offset = request.file >= 0 ? request.offset : 0;
  if ((request.range.start.value | request.range.size | offset) % smallest != 0) {
    return refuse(EINVAL, fmt::format("address, size and offset {:#x} must be multiples of {:#x}, the smallest page "
                                      "that the server maps (pgsizes {:#x})",
                                      offset, smallest, server_.page_sizes));
  }
  return {};
}

Result<void> Client::count_map() {
  if (maps_.fetch_add(1) < server_.max_dma_maps) return {};
  uncount_map();
  return fail(ENOSPC,
              fmt::format("{}: {} mappings exist, the most that the server takes (max_dma_maps)", target_,
                          server_.max_dma_maps),
              "WIR-NEGOTIATE");
}

// Never below none, whatever a server says it unmapped.
void Client::uncount_map() {
  for (std::uint64_t count = maps_.load(); count != 0 && !maps_.compare_exchange_weak(count, count - 1);) continue;
}

Result<void> Client::dma_map(const DmaMap& request) {
  const vfio_user::DmaMap map{
      .argsz = sizeof map,
      .flags = (request.permissions.read ? kDmaMapRead : 0) | (request.permissions.write ? kDmaMapWrite : 0),
      .offset = request.file >= 0 ? request.offset : 0,
      .address = request.range.start.value,
      .size = request.range.size};
  if (request.memory.size() > request.range.size) {
    return fail(EINVAL,
                fmt::format("{}: map {} bytes with memory of {}", target_, request.range.size, request.memory.size()));
  }
  if (Result<void> allowed = check_limits(request); !allowed) return allowed;
  if (Result<void> counted = count_map(); !counted) return counted;
  // Before the server knows: it may access the memory before its reply is here.
  const bool served = !request.memory.empty() && dma_->add(request.range.start, request.memory, request.permissions);
  const std::array body{bytes_of(map)};
  const std::span<const int> fds(&request.file, request.file >= 0 ? 1 : 0);
  Result<void> mapped = call_without_payload(Command::DmaMap, {body, fds});
  if (mapped) return mapped;
  if (served) dma_->remove(request.range.start);
  uncount_map();
  return std::unexpected(
      in_words(fmt::format("map {} bytes at {:#x}", request.range.size, request.range.start.value), mapped.error()));
}

Result<void> Client::dma_unmap(IovaRange range) {
  const DmaUnmap asked{.argsz = sizeof asked, .address = range.start.value, .size = range.size};
  DmaUnmap answered;
  const std::array body{bytes_of(asked)};
  const Result<Channel::Reply> reply = call_exactly(Command::DmaUnmap, {body, {}}, room_for(answered));
  if (!reply) {
    return std::unexpected(
        in_words(fmt::format("unmap {} bytes at {:#x}", range.size, range.start.value), reply.error()));
  }
  dma_->remove(range.start);
  uncount_map();
  return {};
}

Result<void> Client::dma_unmap_reporting(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) {
  constexpr std::uint64_t kBitsPerWord = 64;
  const std::string doing =
      fmt::format("unmap {} bytes at {:#x} in pages of {}", range.size, range.start.value, page_size);
  const auto refuse = [&](int code, std::string_view why) {
    return fail(code, fmt::format("{}: {}: {}", target_, doing, why), "LOG-REPORT");
  };
  if (page_size < DmaLog::kMinPageSize || !std::has_single_bit(page_size)) {
    return refuse(EINVAL, fmt::format("a page size is a power of two from {} on", DmaLog::kMinPageSize));
  }
  const std::uint64_t pages = range.size / page_size + (range.size % page_size != 0 ? 1 : 0);
  const std::uint64_t words = pages / kBitsPerWord + (pages % kBitsPerWord != 0 ? 1 : 0);
  if (words > kMaxDirtyBitmap / sizeof(std::uint64_t)) {
    return refuse(E2BIG, fmt::format("{} words of bitmap are more than a message has; use larger pages", words));
  }
  if (words > bitmap.size()) {
    return refuse(EINVAL, fmt::format("a bitmap of {} words, {} are needed", bitmap.size(), words));
  }
  struct Fixed {
    DmaUnmap unmap;
    Bitmap bitmap;
  };
  std::vector<std::uint64_t> dirty(words);
  const std::span<std::byte> room = std::as_writable_bytes(std::span(dirty));
  const Fixed asked{.unmap = {.argsz = static_cast<std::uint32_t>(sizeof asked + room.size()),
                              .flags = kUnmapGetDirtyBitmap,
                              .address = range.start.value,
                              .size = range.size},
                    .bitmap = {.page_size = page_size, .size = room.size()}};
  Fixed answered;
  const std::array body{bytes_of(asked)};
  const Result<Channel::Reply> reply = call_exactly(Command::DmaUnmap, {body, {}}, room_for(answered), room);
  if (!reply) return std::unexpected(in_words(doing, reply.error()));
  if (answered.bitmap.page_size != page_size || answered.bitmap.size != room.size()) {
    return fail_protocol(fmt::format("DMA_UNMAP: a bitmap of {} bytes for pages of {}, asked for {} and {}",
                                     answered.bitmap.size, answered.bitmap.page_size, room.size(), page_size));
  }
  for (std::size_t i = 0; i < words; ++i) bitmap[i] |= dirty[i];
  dma_->remove(range.start);
  uncount_map();
  return {};
}

Result<void> Client::dma_unmap_all() {
  const DmaUnmap asked{.argsz = sizeof asked, .flags = kUnmapAll};
  DmaUnmap answered;
  const std::array body{bytes_of(asked)};
  const Result<Channel::Reply> reply = call_exactly(Command::DmaUnmap, {body, {}}, room_for(answered));
  if (!reply) return std::unexpected(in_words("unmap all", reply.error()));
  dma_->remove_all();
  maps_.store(0);
  return {};
}

}  // namespace gangway::vfio_user
