// Reads a whole stream out of an engine, and writes one in, in pieces of chosen sizes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include <gangway/migration.h>

namespace gangway::test {

using Bytes = std::vector<std::byte>;
using PieceSizes = std::function<std::size_t()>;

inline PieceSizes pieces_of(std::size_t size) {
  return [size] { return size; };
}

// Until an end, which is returned with the bytes; More stands for an error.
struct Drained {
  Bytes bytes;
  StreamEnd end = StreamEnd::More;
};
inline Drained drain(Migration& migration, const PieceSizes& sizes) {
  Drained drained;
  while (drained.end == StreamEnd::More) {
    Bytes piece(sizes());
    const Result<StreamRead> read = migration.read(piece);
    if (!read) break;
    drained.bytes.insert(drained.bytes.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(read->size));
    drained.end = read->end;
  }
  return drained;
}
inline Drained drain_views(Migration& migration, const PieceSizes& sizes) {
  Drained drained;
  while (drained.end == StreamEnd::More) {
    const Result<StreamView> view = migration.read_view(sizes());
    if (!view) break;
    for (const std::span<const std::byte> part : view->parts) {
      drained.bytes.insert(drained.bytes.end(), part.begin(), part.end());
    }
    drained.end = view->end;
  }
  return drained;
}

inline Result<void> fill(Migration& migration, std::span<const std::byte> stream, const PieceSizes& sizes) {
  while (!stream.empty()) {
    const std::size_t size = std::min(sizes(), stream.size());
    if (Result<void> written = migration.write(stream.first(size)); !written) return written;
    stream = stream.subspan(size);
  }
  return {};
}

// More than any small stream.
inline constexpr std::size_t kWhole = 64 * 1024;

}  // namespace gangway::test
