#include <gangway/migration_region.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <utility>

#include <fmt/core.h>

#include <gangway/device_handle.h>

#include "base/bytes.h"

namespace gangway {

using namespace migration_region;

namespace {

// The most that is kept of a server's word at once. Bytes.
constexpr std::uint64_t kMaxChunk = std::uint64_t{256} << 20;

// Whether the mapped bytes stay there as long as they are mapped: an access beyond the end of a file would end the
// process. Who gives a regular file could shorten it, unless it is sealed; the file of a device has no end.
bool stays_as_long(int file, std::uint64_t offset, std::uint64_t size) {
  struct stat status{};
  if (::fstat(file, &status) != 0) return false;
  if (!S_ISREG(status.st_mode)) return true;
  const int seals = ::fcntl(file, F_GET_SEALS);
  const auto length = static_cast<std::uint64_t>(status.st_size);
  return seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && offset <= length && size <= length - offset;
}

}  // namespace

// The part of the region that may be mapped.
class MigrationRegionClient::Mapping {
 public:
  static std::unique_ptr<Mapping> of(const DeviceHandle::Region& region) {
    if (!region.mmap || !region.file || region.areas.empty()) return nullptr;
    const MappableArea area = region.areas.front();
    const std::uint64_t offset = region.mmap_offset + area.offset;
    if (offset < area.offset || !stays_as_long(region.file->get(), offset, area.size)) return nullptr;
    void* const memory =
        ::mmap(nullptr, area.size, PROT_READ | PROT_WRITE, MAP_SHARED, region.file->get(), static_cast<off_t>(offset));
    if (memory == MAP_FAILED) return nullptr;
    return std::unique_ptr<Mapping>(
        new Mapping(area.offset, {static_cast<std::byte*>(memory), static_cast<std::size_t>(area.size)}));
  }
  ~Mapping() { ::munmap(bytes_.data(), bytes_.size()); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  // Empty unless all of it is mapped.
  [[nodiscard]] std::span<std::byte> at(std::uint64_t offset, std::size_t size) const {
    if (offset < offset_ || offset - offset_ > bytes_.size() || size > bytes_.size() - (offset - offset_)) return {};
    return bytes_.subspan(offset - offset_, size);
  }
  [[nodiscard]] std::uint64_t end() const { return offset_ + bytes_.size(); }

 private:
  Mapping(std::uint64_t offset, std::span<std::byte> bytes) : offset_(offset), bytes_(bytes) {}
  std::uint64_t offset_;
  std::span<std::byte> bytes_;
};

MigrationRegionClient::MigrationRegionClient(DeviceHandle& device, Revision revision, std::uint32_t region,
                                             std::uint64_t size, std::size_t access_size)
    : device_(&device), revision_(revision), region_(region), size_(size), access_size_(access_size) {}

MigrationRegionClient::~MigrationRegionClient() = default;
MigrationRegionClient::MigrationRegionClient(MigrationRegionClient&&) noexcept = default;
MigrationRegionClient& MigrationRegionClient::operator=(MigrationRegionClient&&) noexcept = default;

Result<std::optional<MigrationRegionClient>> MigrationRegionClient::find(DeviceHandle& device, Revision revision,
                                                                         const Options& options) {
  const auto info = device.info();
  if (!info) return std::unexpected(info.error());
  for (std::uint32_t index = 0; index < info->regions; ++index) {
    const auto region = device.region(index);
    if (!region && region.error().code == EINVAL) continue;  // as that of VGA, where there is none
    if (!region) return std::unexpected(region.error());
    if (!region->type || *region->type != kType || region->subtype.value_or(0) != subtype(revision)) continue;
    if (region->size <= kHeaderSize) {
      return fail(EPROTO, fmt::format("{}: a migration region of {} bytes", device.target(), region->size));
    }
    MigrationRegionClient client(device, revision, index, region->size, std::max<std::size_t>(options.access_size, 1));
    if (options.map) client.mapping_ = Mapping::of(*region);
    return client;
  }
  return std::nullopt;
}

template <class T>
Result<T> MigrationRegionClient::get(std::uint64_t offset) {
  T value{};
  if (auto read = device_->read(region_, offset, std::as_writable_bytes(std::span(&value, 1))); !read) {
    return std::unexpected(read.error());
  }
  return value;
}

template <class T>
Result<void> MigrationRegionClient::put(std::uint64_t offset, T value) {
  return device_->write(region_, offset, bytes_of(value));
}

Result<std::uint32_t> MigrationRegionClient::device_state() { return get<std::uint32_t>(kDeviceState); }

Result<void> MigrationRegionClient::set_device_state(std::uint32_t value) { return put(kDeviceState, value); }

Result<DeviceState> MigrationRegionClient::state() {
  const Result<std::uint32_t> value = device_state();
  if (!value) return std::unexpected(value.error());
  if (revision_ == Revision::RegionV2) {
    if (*value < kDeviceStates) return static_cast<DeviceState>(*value);
  } else if ((*value & kStateBits) == v1_bits(DeviceState::Error)) {
    return DeviceState::Error;
  } else if (const std::optional<DeviceState> state = v1_state(*value)) {
    return *state;
  }
  return fail(EPROTO, fmt::format("{}: device_state {:#x} is no state", device_->target(), *value), "V1-STATES");
}

Result<void> MigrationRegionClient::set_state(DeviceState state) {
  if (revision_ == Revision::RegionV2) return set_device_state(static_cast<std::uint32_t>(state));
  const Result<std::uint32_t> now = device_state();
  if (!now) return std::unexpected(now.error());
  return set_device_state((*now & ~kStateBits) | v1_bits(state));
}

Result<std::uint64_t> MigrationRegionClient::pending_bytes() { return get<std::uint64_t>(kPendingBytes); }

Result<std::uint64_t> MigrationRegionClient::data_offset() {
  const Result<std::uint64_t> offset = get<std::uint64_t>(kDataOffset);
  if (!offset) return offset;
  if (*offset >= kHeaderSize && *offset < size_) return offset;
  return fail(EPROTO,
              fmt::format("{}: data at {:#x} of a migration region of {:#x}", device_->target(), *offset, size_));
}

Result<std::vector<std::byte>> MigrationRegionClient::next_chunk() {
  const Result<std::uint64_t> pending = pending_bytes();
  if (!pending) return std::unexpected(pending.error());
  if (*pending == 0) return {};
  const Result<std::uint64_t> offset = data_offset();
  if (!offset) return std::unexpected(offset.error());
  const Result<std::uint64_t> size = get<std::uint64_t>(kDataSize);
  if (!size) return std::unexpected(size.error());
  if (*size > size_ - *offset) {
    return fail(EPROTO, fmt::format("{}: a chunk of {} bytes at {:#x} of a migration region of {:#x}",
                                    device_->target(), *size, *offset, size_));
  }
  if (*size > kMaxChunk) {
    return fail(EPROTO,
                fmt::format("{}: a chunk of {} bytes, at most {} are taken", device_->target(), *size, kMaxChunk));
  }
  std::vector<std::byte> chunk(*size);
  if (auto read = read_data(*offset, chunk); !read) return std::unexpected(read.error());
  return chunk;
}

Result<void> MigrationRegionClient::load(std::span<const std::byte> data) {
  while (!data.empty()) {
    const Result<std::uint64_t> offset = data_offset();
    if (!offset) return std::unexpected(offset.error());
    // A chunk lies whole in the mapped part, or whole outside it.
    const std::uint64_t end = mapping_ && !mapping_->at(*offset, 1).empty() ? mapping_->end() : size_;
    const auto chunk = data.first(std::min<std::uint64_t>(data.size(), end - *offset));
    if (auto written = write_data(*offset, chunk); !written) return written;
    if (auto committed = put(kDataSize, std::uint64_t{chunk.size()}); !committed) return committed;
    data = data.subspan(chunk.size());
  }
  return {};
}

namespace {

// The next access to `left` bytes at `offset`: of whole words as long as there are some, then of naturally aligned
// powers of two, which is what every device takes (V1-LOAD).
std::size_t access_at(std::uint64_t offset, std::size_t left, std::size_t most) {
  constexpr std::size_t kWord = 8;
  const std::size_t size = std::min(left, most);
  if (offset % kWord == 0 && size >= kWord) return size / kWord * kWord;
  const std::size_t aligned = offset % kWord == 0 ? kWord : std::size_t{1} << std::countr_zero(offset);
  return std::min(aligned, std::bit_floor(size));
}

}  // namespace

Result<void> MigrationRegionClient::read_data(std::uint64_t offset, std::span<std::byte> out) {
  if (mapping_) {
    const auto mapped = mapping_->at(offset, out.size());
    if (mapped.size() == out.size()) {
      std::ranges::copy(mapped, out.begin());
      return {};
    }
  }
  for (std::size_t done = 0; done < out.size();) {
    const auto piece = out.subspan(done, access_at(offset + done, out.size() - done, access_size_));
    if (auto read = device_->read(region_, offset + done, piece); !read) return read;
    done += piece.size();
  }
  return {};
}

Result<void> MigrationRegionClient::write_data(std::uint64_t offset, std::span<const std::byte> in) {
  if (mapping_) {
    const auto mapped = mapping_->at(offset, in.size());
    if (mapped.size() == in.size()) {
      std::ranges::copy(in, mapped.begin());
      return {};
    }
  }
  for (std::size_t done = 0; done < in.size();) {
    const auto piece = in.subspan(done, access_at(offset + done, in.size() - done, access_size_));
    if (auto written = device_->write(region_, offset + done, piece); !written) return written;
    done += piece.size();
  }
  return {};
}

}  // namespace gangway
