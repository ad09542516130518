#include "vfio_user/dma_channel.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "base/bytes.h"

namespace gangway::vfio_user {
namespace {

// The specification has 4 bytes of count in the reply to DMA_WRITE, what is deployed has 8.
constexpr std::size_t kShortWriteReply = 12;

template <class Byte, class Piece>
Result<void> in_pieces(Iova iova, std::span<Byte> bytes, std::uint32_t most, Piece piece) {
  if (most == 0) return fail(ENOTSUP, "the client takes no DMA messages (its max_data_xfer_size is 0)");
  for (std::size_t done = 0; done < bytes.size();) {
    const std::size_t count = std::min<std::size_t>(bytes.size() - done, most);
    if (Result<void> moved = piece(iova + done, bytes.subspan(done, count)); !moved) return moved;
    done += count;
  }
  return {};
}

}  // namespace

Result<void> DmaChannel::dma_read(Iova iova, std::span<std::byte> out) {
  const Turns::Transfer turn(turns_);
  const bool specified = layout_.load() == Layout::Specified;
  return in_pieces(iova, out, specified ? max_transfer_ : std::min(max_transfer_, kPackedMostRead),
                   [this](Iova at, std::span<std::byte> bytes) { return read_piece(at, bytes); });
}

Result<void> DmaChannel::dma_write(Iova iova, std::span<const std::byte> in) {
  const Turns::Transfer turn(turns_);
  return in_pieces(iova, in, max_transfer_,
                   [this](Iova at, std::span<const std::byte> bytes) { return write_piece(at, bytes); });
}

// Both layouts have a write of nothing in common, and what sets them apart is how it is answered: QEMU answers writes
// with a header alone, the specification with address and count.
Result<DmaChannel::Layout> DmaChannel::layout(Iova iova) {
  if (const Layout known = layout_.load(); known != Layout::Unknown) return known;
  const DmaAccessMessage nothing{.address = iova.value};
  DmaAccessMessage answered;
  const std::array body{std::as_bytes(std::span(&nothing, 1))};
  const Result<Channel::Reply> reply =
      channel_.call(Command::DmaWrite, {body, {}}, std::as_writable_bytes(std::span(&answered, 1)));
  if (!reply && channel_.broken()) return fail_with(reply.error());
  const Layout found = reply && reply->size == 0 ? Layout::Packed : Layout::Specified;
  layout_.store(found);
  return found;
}

Result<void> DmaChannel::read_piece(Iova iova, std::span<std::byte> out) {
  const Result<Layout> layout = this->layout(iova);
  if (!layout) return std::unexpected(layout.error());
  const DmaAccessMessage asked{.address = iova.value, .count = out.size()};
  DmaAccessMessage answered;
  const std::array body{std::as_bytes(std::span(&asked, 1))};
  const Result<Channel::Reply> reply =
      channel_.call(Command::DmaRead, {body, {}}, std::as_writable_bytes(std::span(&answered, 1)), out);
  if (!reply) return fail_with(reply.error());
  std::array<std::byte, kPackedDmaPadding> first{};  // of the data, where the specification has the rest of the count
  if (*layout == Layout::Packed) {
    std::ranges::copy(bytes_of(answered).last(first.size()), first.begin());
    answered.count &= std::numeric_limits<std::uint32_t>::max();
  }
  if (reply->size != sizeof answered + out.size() || answered.address != asked.address ||
      answered.count != asked.count) {
    return end_connection(fmt::format("DMA_READ of {} bytes at {:#x}: answered with {} bytes of body for {} at {:#x}",
                                      asked.count, asked.address, reply->size, answered.count, answered.address));
  }
  if (*layout == Layout::Packed) {
    const std::size_t moved = std::min(first.size(), out.size());
    std::memmove(out.data() + moved, out.data(), out.size() - moved);
    std::memcpy(out.data(), first.data(), moved);
  }
  return {};
}

Result<void> DmaChannel::write_piece(Iova iova, std::span<const std::byte> in) {
  const Result<Layout> layout = this->layout(iova);
  if (!layout) return std::unexpected(layout.error());
  const DmaAccessMessage asked{.address = iova.value, .count = in.size()};
  DmaAccessMessage answered;
  constexpr std::array<std::byte, kPackedDmaPadding> kPadding{};
  const bool packed = *layout == Layout::Packed;
  const std::array body{bytes_of(asked).first(packed ? kPackedDmaHead : sizeof asked), in,
                        std::span(kPadding).first(packed ? kPackedDmaPadding : 0)};
  const Result<Channel::Reply> reply =
      channel_.call(Command::DmaWrite, {body, {}}, std::as_writable_bytes(std::span(&answered, 1)));
  if (!reply) return fail_with(reply.error());
  if (reply->size == 0) return {};  // QEMU answers with a header alone
  if ((reply->size != sizeof answered && reply->size != kShortWriteReply) || answered.address != asked.address ||
      answered.count != asked.count) {
    return end_connection(fmt::format("DMA_WRITE of {} bytes at {:#x}: answered for {} at {:#x}", asked.count,
                                      asked.address, answered.count, answered.address));
  }
  return {};
}

std::unexpected<Error> DmaChannel::fail_with(Error error) {
  if (const std::optional<Error> reason = channel_.broken()) {
    connection_.close(*reason);
    return std::unexpected(*reason);
  }
  return std::unexpected(std::move(error));
}

std::unexpected<Error> DmaChannel::end_connection(std::string reason) {
  const Error error{EPROTO, std::move(reason), "WIR-FRAME"};
  channel_.close(error);
  connection_.close(error);
  return std::unexpected(error);
}

}  // namespace gangway::vfio_user
