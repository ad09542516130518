#include "conformance/region.h"

#include <algorithm>
#include <array>
#include <bit>
#include <memory>

#include <fmt/core.h>

#include "base/bytes.h"
#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using namespace migration_region;
using Chunks = MigrationRegion::Chunks;
using Way = MigrationRegion::Way;

constexpr std::size_t kWord = 8;
// Enough to see that words work; the rest of a large state is moved faster.
constexpr std::size_t kByWords = 32U << 10;

// Naturally aligned powers of two up to a word, as long as `done` is little; then what one access may have.
std::size_t piece_at(Way way, std::uint64_t offset, std::size_t done, std::size_t left) {
  if (way != Way::Words || done >= kByWords) return std::min(left, Subject::kPiece);
  const std::size_t aligned = offset % kWord == 0 ? kWord : std::size_t{1} << std::countr_zero(offset);
  return std::min(aligned, std::bit_floor(std::min(left, kWord)));
}

template <class Bytes, class Access>
Result<void> by_pieces(Way way, std::uint64_t offset, Bytes bytes, Access&& access) {
  for (std::size_t done = 0; done < bytes.size();) {
    const std::size_t size = piece_at(way, offset + done, done, bytes.size() - done);
    if (Result<void> moved = access(offset + done, bytes.subspan(done, size)); !moved) return moved;
    done += size;
  }
  return {};
}

Result<void> check_chunk(std::uint64_t offset, std::uint64_t size, std::uint64_t region) {
  if (offset >= kHeaderSize && offset <= region && size <= region - offset) return {};
  return fail(EPROTO, fmt::format("a chunk of {} bytes at {:#x} of a region of {:#x}", size, offset, region));
}

Result<MigrationRegionClient> client_of(DeviceHandle& device, Revision revision, Way way) {
  auto found = MigrationRegionClient::find(device, revision, {.map = way == Way::Map});
  if (!found) return std::unexpected(found.error());
  if (!*found) return fail(ENOENT, fmt::format("no region of {}", contract::name(revision)));
  return std::move(**found);
}

// Iterations by accesses, as a client without the mapped part makes them.
class Accesses {
 public:
  Accesses(DeviceHandle& device, std::uint32_t region, std::uint64_t size, Way way)
      : device_(device), region_(region), size_(size), way_(way) {}

  // Empty at the end.
  Result<Bytes> next_chunk() {
    const Result<std::uint64_t> pending = field(kPendingBytes);
    if (!pending) return std::unexpected(pending.error());
    if (*pending == 0) return {};
    const Result<std::uint64_t> offset = field(kDataOffset);
    if (!offset) return std::unexpected(offset.error());
    const Result<std::uint64_t> size = field(migration_region::kDataSize);
    if (!size) return std::unexpected(size.error());
    if (Result<void> inside = check_chunk(*offset, *size, size_); !inside) return std::unexpected(inside.error());
    return read(*offset, *size);
  }
  Result<Bytes> read(std::uint64_t offset, std::uint64_t size) {
    Bytes bytes(size);
    Result<void> read = by_pieces(way_, offset, std::span(bytes), [&](std::uint64_t at, std::span<std::byte> piece) {
      return device_.read(region_, at, piece);
    });
    if (!read) return std::unexpected(read.error());
    return bytes;
  }
  Result<void> load(const Bytes& chunk) {
    const Result<std::uint64_t> offset = field(kDataOffset);
    if (!offset) return std::unexpected(offset.error());
    if (Result<void> inside = check_chunk(*offset, chunk.size(), size_); !inside) return inside;
    if (Result<void> written = write(*offset, chunk); !written) return written;
    return device_.write(region_, migration_region::kDataSize, bytes_of(std::uint64_t{chunk.size()}));
  }
  Result<void> write(std::uint64_t offset, const Bytes& bytes) {
    return by_pieces(way_, offset, std::span(bytes), [&](std::uint64_t at, std::span<const std::byte> piece) {
      return device_.write(region_, at, piece);
    });
  }
  Result<std::uint64_t> field(std::uint64_t offset) {
    std::array<std::byte, sizeof(std::uint64_t)> bytes{};
    if (Result<void> read = device_.read(region_, offset, bytes); !read) return std::unexpected(read.error());
    return *load_at<std::uint64_t>(bytes);
  }

 private:
  DeviceHandle& device_;
  const std::uint32_t region_;
  const std::uint64_t size_;
  const Way way_;
};

// The bits that are not the state's stay as they are.
Subject::WayHome way_home_of(Revision revision, std::uint32_t region) {
  return [revision, region](DeviceHandle& device) -> Result<void> {
    if (revision != Revision::V1) {
      return device.write(region, kDeviceState, bytes_of(static_cast<std::uint32_t>(DeviceState::Running)));
    }
    std::uint32_t value = 0;
    if (auto read = device.read(region, kDeviceState, std::as_writable_bytes(std::span(&value, 1))); !read) return read;
    return device.write(region, kDeviceState, bytes_of((value & ~kStateBits) | v1_bits(DeviceState::Running)));
  };
}

}  // namespace

std::string_view to_text(Way way) {
  constexpr std::array<std::string_view, 3> kTexts{"by accesses of 8 bytes", "by large accesses", "by the mapped part"};
  return kTexts.at(static_cast<std::size_t>(way));
}

Bytes join(const Chunks& chunks) {
  Bytes all;
  for (const Bytes& chunk : chunks) all.insert(all.end(), chunk.begin(), chunk.end());
  return all;
}

Chunks cut(const Bytes& stream, std::size_t size) {
  Chunks chunks;
  for (std::size_t at = 0; at < stream.size(); at += size) {
    const auto first = stream.begin() + static_cast<std::ptrdiff_t>(at);
    chunks.emplace_back(first, first + static_cast<std::ptrdiff_t>(std::min(size, stream.size() - at)));
  }
  return chunks;
}

MigrationRegion::MigrationRegion(Context& context, Revision revision)
    : subject_(context.device),
      revision_(revision),
      region_(context.abilities.migration_region(revision)->index),
      size_(context.abilities.migration_region(revision)->size),
      mapped_(context.abilities.migration_region(revision)->mapped) {}

std::uint32_t MigrationRegion::value_of(DeviceState state) const {
  return revision_ == Revision::V1 ? v1_bits(state) : static_cast<std::uint32_t>(state);
}

Result<std::uint32_t> MigrationRegion::state() {
  std::array<std::byte, sizeof(std::uint32_t)> bytes{};
  if (Result<void> read = subject_.read_region(region_, kDeviceState, bytes); !read) {
    return std::unexpected(read.error());
  }
  return *load_at<std::uint32_t>(bytes);
}

Result<void> MigrationRegion::set(std::uint32_t value) { return write(kDeviceState, bytes_of(value)); }

Result<void> MigrationRegion::write(std::uint64_t offset, std::span<const std::byte> in) {
  Result<void> done = subject_.write_region(region_, offset, in);
  subject_.lose_track();
  // Who drives another revision was refused, and goes home by that one (V1-ONE).
  const bool drives = done || done.error().code != EBUSY;
  if (drives) subject_.remember_way_home(way_home_of(revision_, region_));
  return done;
}

Result<std::uint64_t> MigrationRegion::field(std::uint64_t offset) {
  std::array<std::byte, sizeof(std::uint64_t)> bytes{};
  if (Result<void> read = subject_.read_region(region_, offset, bytes); !read) return std::unexpected(read.error());
  return *load_at<std::uint64_t>(bytes);
}

Result<MigrationRegion::Chunk> MigrationRegion::stage() {
  const Result<std::uint64_t> offset = field(kDataOffset);
  if (!offset) return std::unexpected(offset.error());
  const Result<std::uint64_t> size = field(migration_region::kDataSize);
  if (!size) return std::unexpected(size.error());
  if (Result<void> inside = check_chunk(*offset, *size, size_); !inside) return std::unexpected(inside.error());
  return Chunk{*offset, *size};
}

Result<Bytes> MigrationRegion::read_data(const Chunk& chunk, Way way) {
  return subject_.ask<Bytes>(fmt::format("work read {} bytes at {:#x} {}", chunk.size, chunk.offset, to_text(way)),
                             [=, region = region_, size = size_](DeviceHandle& device) {
                               return Accesses(device, region, size, way).read(chunk.offset, chunk.size);
                             });
}

Result<Chunks> MigrationRegion::drain(Way way, unsigned asks) {
  const std::string line =
      fmt::format("work save {}{}", to_text(way), asks == 1 ? "" : fmt::format(", pending_bytes read {} times", asks));
  return subject_.ask<Chunks>(
      line, [=, revision = revision_, region = region_, size = size_](DeviceHandle& device) -> Result<Chunks> {
        Result<MigrationRegionClient> client = client_of(device, revision, way);
        if (!client) return std::unexpected(client.error());
        Accesses accesses(device, region, size, way);
        Chunks chunks;
        for (std::size_t total = 0; total < Subject::kMostData; total += chunks.back().size()) {
          for (unsigned i = 1; i < asks; ++i) {
            if (const auto pending = client->pending_bytes(); !pending) return std::unexpected(pending.error());
          }
          Result<Bytes> chunk = way == Way::Map ? client->next_chunk() : accesses.next_chunk();
          if (!chunk) return std::unexpected(chunk.error());
          if (chunk->empty()) return chunks;
          chunks.push_back(*std::move(chunk));
        }
        return fail(ENOSPC, "migration data does not end");
      });
}

Result<void> MigrationRegion::load(const Chunks& chunks, Way way) {
  const std::string line = fmt::format("work load {} chunks {}", chunks.size(), to_text(way));
  return subject_.perform(line,
                          [=, revision = revision_, region = region_, size = size_,
                           all = std::make_shared<Chunks>(chunks)](DeviceHandle& device) -> Result<void> {
                            Result<MigrationRegionClient> client = client_of(device, revision, way);
                            if (!client) return std::unexpected(client.error());
                            Accesses accesses(device, region, size, way);
                            for (const Bytes& chunk : *all) {
                              if (Result<void> loaded = way == Way::Map ? client->load(chunk) : accesses.load(chunk);
                                  !loaded)
                                return loaded;
                            }
                            return {};
                          });
}

Result<void> MigrationRegion::write_data(const Bytes& data) {
  const Result<std::uint64_t> offset = field(kDataOffset);
  if (!offset) return std::unexpected(offset.error());
  return subject_.perform(
      fmt::format("work write {} bytes at {:#x}", data.size(), *offset),
      [offset = *offset, region = region_, size = size_, bytes = std::make_shared<Bytes>(data)](DeviceHandle& device) {
        return Accesses(device, region, size, Way::Accesses).write(offset, *bytes);
      });
}

bool can_leave_an_unfinished_load(const Context& context) { return (context.abilities.have & kReset) != 0; }

void expect_iterations_agree(std::string_view clause, MigrationRegion& region) {
  expect(clause, step(region.field(kPendingBytes), "read pending_bytes") != 0,
         "pending_bytes is above 0 when a save begins", "0");
  const MigrationRegion::Chunk chunk =
      expect_answer(clause, region.stage(), "data_offset and data_size name a part of the region");
  expect(clause, chunk.size != 0, "what is pending is staged", "data_size 0");
  const Bytes data = expect_answer(clause, region.read_data(chunk, Way::Accesses), "the chunk is read");
  const MigrationRegion::Chunk again =
      expect_answer(clause, region.stage(), "data_offset and data_size are read again");
  expect(clause, again.size == chunk.size && again.offset == chunk.offset,
         fmt::format("data_offset {:#x} and data_size {} do not change within an iteration", chunk.offset, chunk.size),
         fmt::format("{:#x} and {}", again.offset, again.size));
  const Bytes same = expect_answer(clause, region.read_data(chunk, Way::Words), "the chunk is read by words");
  expect(clause, same == data, "a chunk that is read again is the same", "it differs");
}

void expect_end_for_ever(std::string_view clause, MigrationRegion& region) {
  constexpr int kAsks = 3;
  for (int i = 0; i < kAsks; ++i) {
    const std::uint64_t pending = step(region.field(kPendingBytes), "read pending_bytes");
    expect(clause, pending == 0, "pending_bytes is 0 at the end and stays so", fmt::format("{}", pending));
  }
}

}  // namespace gangway::conformance
