#include "device/save_pieces.h"

#include <algorithm>
#include <utility>

namespace gangway {

void SavePieces::append_copy(std::span<const std::byte> bytes) {
  drop_taken();
  if (bytes.empty()) return;
  const bool room = !pieces_.empty() && !pieces_.back().owned.empty() && pieces_.back().owned.size() < kReferenceSize;
  Piece& piece = room ? pieces_.back() : start_owned();
  piece.owned.insert(piece.owned.end(), bytes.begin(), bytes.end());
  piece.bytes = piece.owned;
  grow(bytes.size());
}

void SavePieces::append(std::span<const std::byte> bytes) {
  drop_taken();
  Piece* last = pieces_.empty() ? nullptr : &pieces_.back();
  const bool continues =
      last != nullptr && last->owned.empty() && last->bytes.data() + last->bytes.size() == bytes.data();
  if (!continues && bytes.size() < kReferenceSize) return append_copy(bytes);
  if (continues) {
    last->bytes = {last->bytes.data(), last->bytes.size() + bytes.size()};
  } else {
    pieces_.push_back({{}, bytes});
  }
  grow(bytes.size());
}

std::span<std::byte> SavePieces::append_room(std::size_t size) {
  drop_taken();
  if (size == 0) return {};
  Piece piece{std::exchange(spare_, {}), {}};
  piece.owned.resize(size);
  pieces_.push_back(std::move(piece));
  pieces_.back().bytes = pieces_.back().owned;
  grow(size);
  return pieces_.back().owned;
}

std::span<const std::span<const std::byte>> SavePieces::take(std::size_t max) {
  drop_taken();
  parts_.clear();
  std::size_t skip = taken_;
  std::size_t left = static_cast<std::size_t>(std::min<std::uint64_t>(max, size_));
  for (const Piece& piece : pieces_) {
    if (left == 0) break;
    const std::span<const std::byte> rest = piece.bytes.subspan(skip);
    parts_.push_back(rest.first(std::min(left, rest.size())));
    left -= parts_.back().size();
    taken_ += parts_.back().size();
    size_ -= parts_.back().size();
    skip = 0;
  }
  return parts_;
}

void SavePieces::drop_taken() {
  while (!pieces_.empty() && taken_ >= pieces_.front().bytes.size()) {
    taken_ -= pieces_.front().bytes.size();
    if (!pieces_.front().owned.empty()) spare_ = std::move(pieces_.front().owned);
    pieces_.pop_front();
  }
}

void SavePieces::grow(std::size_t bytes) {
  size_ += bytes;
  total_ += bytes;
}

SavePieces::Piece& SavePieces::start_owned() {
  Piece piece{std::exchange(spare_, {}), {}};
  piece.owned.clear();
  pieces_.push_back(std::move(piece));
  return pieces_.back();
}

}  // namespace gangway
