// The client's calls of DMA, within the limits that the server said it has (WIR-NEGOTIATE).
#include <array>

#include <fmt/format.h>

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

}  // namespace gangway::vfio_user
