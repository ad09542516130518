#include "vfio_user/message_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace gangway::vfio_user {

void MessageReader::copy_ahead(std::span<std::byte>& into) {
  const std::size_t count = std::min(into.size(), ahead().size());
  if (count == 0) return;
  std::memcpy(into.data(), ahead().data(), count);
  into = into.subspan(count);
  begin_ += count;
}

void MessageReader::claim_descriptors() {
  for (Fd& fd : unclaimed_) {
    if (fds_.size() < kMaxMsgFds) fds_.push_back(std::move(fd));
  }
  unclaimed_.clear();
}

Result<MessageReader::Progress> MessageReader::advance() {
  if (header_got_ < sizeof header_) {
    if (header_got_ == 0) fds_.clear();
    std::span<std::byte> missing = std::as_writable_bytes(std::span(&header_, 1)).subspan(header_got_);
    const std::size_t before = missing.size();
    copy_ahead(missing);
    header_got_ += before - missing.size();
    if (header_got_ < sizeof header_) return Progress::NeedsBytes;
  }
  if (!header_reported_) {
    if (header_.size < sizeof header_) {
      return fail(EPROTO, fmt::format("message of {} bytes: its header alone has {}", header_.size, sizeof header_),
                  "WIR-FRAME");
    }
    header_reported_ = true;
    return Progress::Header;
  }
  copy_ahead(body_.head);
  if (body_.head.empty()) copy_ahead(body_.data);
  if (body_.size() != 0) return Progress::NeedsBytes;
  if (begin_ == end_) claim_descriptors();
  header_got_ = 0;
  header_reported_ = false;
  return Progress::Message;
}

Result<void> MessageReader::receive(int socket, Wait wait, Descriptors descriptors) {
  if (in_message()) claim_descriptors();
  unclaimed_.clear();
  begin_ = end_ = 0;
  const std::size_t data = std::min(body_.data.size(), body_.piece);
  const std::size_t ahead = data == body_.data.size() ? ahead_.size() : 0;  // what follows the body only
  std::array<iovec, 3> into{
      {{body_.head.data(), body_.head.size()}, {body_.data.data(), data}, {ahead_.data(), ahead}}};
  const std::span<iovec> used = skip(into, 0);
  const Result<std::size_t> got = descriptors == Descriptors::Taken ? vfio_user::receive(socket, used, unclaimed_, wait)
                                                                    : vfio_user::receive_bytes(socket, used, wait);
  if (unclaimed_.size() > kMaxMsgFds) unclaimed_.resize(kMaxMsgFds);  // the rest is closed
  if (!got) return std::unexpected(got.error());
  std::size_t left = *got;
  for (std::span<std::byte>* part : {&body_.head, &body_.data}) {
    const std::size_t count = std::min(part->size(), left);
    *part = part->subspan(count);
    left -= count;
  }
  end_ = left;
  return {};
}

std::vector<Fd> MessageReader::take_descriptors() { return std::exchange(fds_, {}); }

}  // namespace gangway::vfio_user
