#include "device/region_front_end.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/core.h>

#include <gangway/migration_region.h>

#include "base/bytes.h"

namespace gangway {
namespace {

using namespace migration_region;

std::unexpected<Error> refuse(std::string_view what, std::uint64_t offset, std::size_t size) {
  return fail(EINVAL,
              fmt::format("migration region: {} of {} bytes at {:#x}: a field is accessed whole", what, size, offset));
}

}  // namespace

Result<RegionFrontEnd::Memory> RegionFrontEnd::Memory::make() {
  Fd file(::memfd_create("gangway-migration-region", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno("make a migration region");
  if (::ftruncate(file.get(), static_cast<off_t>(kSize)) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail_errno("size a migration region");
  }
  void* const memory = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return fail_errno("map a migration region");
  return Memory(std::move(file), {static_cast<std::byte*>(memory), static_cast<std::size_t>(kSize)});
}

RegionFrontEnd::Memory::Memory(Fd file, std::span<std::byte> bytes) : file_(std::move(file)), bytes_(bytes) {}

RegionFrontEnd::Memory::Memory(Memory&& other) noexcept
    : file_(std::move(other.file_)), bytes_(std::exchange(other.bytes_, {})) {}

RegionFrontEnd::Memory::~Memory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

RegionFrontEnd::RegionFrontEnd(Revision revision, Migration& migration, Memory memory)
    : revision_(revision),
      migration_(migration),
      memory_(std::move(memory)),
      data_(memory_.bytes().subspan(kDataStart)) {}

RegionInfo RegionFrontEnd::info() const {
  return {.size = kSize,
          .read = true,
          .write = true,
          .mappable = {{kDataStart, kDataCapacity}},
          .file = memory_.file(),
          .type = RegionInfo::Type{kType, subtype(revision_)}};
}

Result<void> RegionFrontEnd::read(std::uint64_t offset, std::span<std::byte> out) {
  if (offset < kDataStart) return read_header(offset, out);
  std::ranges::copy(data_.subspan(offset - kDataStart, out.size()), out.begin());
  return {};
}

Result<void> RegionFrontEnd::write(std::uint64_t offset, std::span<const std::byte> in) {
  if (offset < kDataStart) return write_header(offset, in);
  std::ranges::copy(in, data_.subspan(offset - kDataStart).begin());
  return {};
}

Result<void> RegionFrontEnd::read_header(std::uint64_t offset, std::span<std::byte> out) {
  const auto put = [&](auto value) -> Result<void> {
    if (out.size() != sizeof value) return refuse("read", offset, out.size());
    (void)store_at(out, 0, value);
    return {};
  };
  switch (offset) {
    case kDeviceState:
      return put(device_state());
    case kPendingBytes: {
      if (out.size() != sizeof(std::uint64_t)) return refuse("read", offset, out.size());
      const Result<std::uint64_t> pending = pending_bytes();
      if (!pending) return std::unexpected(pending.error());
      return put(*pending);
    }
    case kDataOffset:
      if (out.size() == sizeof(std::uint64_t)) {
        if (auto ready = prepare_chunk(); !ready) return ready;
        if (chunk_ == Chunk::Ready) chunk_ = Chunk::Staged;
      }
      return put(std::uint64_t{kDataStart});
    case kDataSize:
      return put(std::uint64_t{chunk_size_});
    default:
      return refuse("read", offset, out.size());
  }
}

Result<void> RegionFrontEnd::write_header(std::uint64_t offset, std::span<const std::byte> in) {
  if (offset == kDeviceState && in.size() == sizeof(std::uint32_t)) {
    return set_device_state(*load_at<std::uint32_t>(in));
  }
  if (offset == kDataSize && in.size() == sizeof(std::uint64_t)) {
    return commit(*load_at<std::uint64_t>(in));
  }
  return refuse("write", offset, in.size());
}

std::uint32_t RegionFrontEnd::device_state() const {
  const DeviceState state = migration_.state();
  if (revision_ == Revision::RegionV2) return static_cast<std::uint32_t>(state);
  if (idle_pre_copy_) return kept_bits_ | v1_bits(DeviceState::PreCopy);
  return kept_bits_ | v1_bits(state);
}

Result<void> RegionFrontEnd::set_device_state(std::uint32_t value) {
  return revision_ == Revision::V1 ? set_v1_state(value) : set_state(value);  // R2-STATES
}

Result<void> RegionFrontEnd::set_v1_state(std::uint32_t bits) {
  const std::optional<DeviceState> wanted = v1_state(bits);
  if (!wanted) {
    return fail(EINVAL, fmt::format("migration region: device_state {:#x} is no state that a client may ask for", bits),
                "V1-STATES");
  }
  // Every v1 device may be put into pre-copy; one that has none stays as it is and has nothing to say until it stops.
  const bool idle = *wanted == DeviceState::PreCopy && !migration_.flags().pre_copy;
  const DeviceState target = idle ? DeviceState::Running : *wanted;
  if (auto set = set_state(static_cast<std::uint32_t>(target)); !set) return set;
  idle_pre_copy_ = idle;
  kept_bits_ = bits & ~kStateBits;
  return {};
}

Result<void> RegionFrontEnd::set_state(std::uint32_t number) {
  const DeviceState before = migration_.state();
  auto set = migration_.set_state(number);
  if (migration_.state() != before) change_session();  // after a failure, too
  return set;
}

// V1-SAVE: what was staged is the client's now. What was not is kept while its session lasts: a stream has no holes.
Result<std::uint64_t> RegionFrontEnd::pending_bytes() {
  if (chunk_ == Chunk::Staged) drop_chunk();
  if (auto ready = prepare_chunk(); !ready) return std::unexpected(ready.error());
  const bool stopped = migration_.state() == DeviceState::StopCopy;
  if (chunk_ == Chunk::None) {
    if (stopped) migration_.read_to_end();
    return 0;
  }
  if (!stopped) {
    const Result<PrecopyInfo> info = migration_.precopy_info();
    return chunk_size_ + (info ? info->initial_bytes + info->dirty_bytes : 0);
  }
  return chunk_size_ + migration_.data_size();
}

Result<void> RegionFrontEnd::prepare_chunk() {
  if (chunk_ != Chunk::None || !contract::in_saving_group(migration_.state())) return {};
  const Result<StreamRead> read = migration_.read(data_);
  if (!read) return std::unexpected(read.error());
  chunk_size_ = read->size;
  if (read->size != 0) chunk_ = Chunk::Ready;
  return {};
}

Result<void> RegionFrontEnd::commit(std::uint64_t size) {
  if (migration_.state() != DeviceState::Resuming) {
    return fail(EINVAL, "migration region: data_size is written in RESUMING only", "DAT-DIRECTION");
  }
  if (size > kDataCapacity) {
    Error error{EINVAL, fmt::format("migration region: {} bytes of data, there is room for {}", size, kDataCapacity),
                "V1-LOAD"};
    migration_.refuse_load(error);
    return std::unexpected(std::move(error));
  }
  const auto data = data_.first(size);
  committed_.assign(data.begin(), data.end());
  return migration_.write(committed_);
}

void RegionFrontEnd::drop_chunk() {
  chunk_ = Chunk::None;
  chunk_size_ = 0;
}

void RegionFrontEnd::change_session() {
  idle_pre_copy_ = false;
  // V1-CHANGE: pre-copy goes on in STOP_COPY with the same session, and a chunk that nobody saw is part of it.
  const bool goes_on = contract::in_saving_group(migration_.state());
  if (chunk_ == Chunk::Ready && goes_on) return;
  drop_chunk();
}

void RegionFrontEnd::reset() {
  drop_chunk();
  kept_bits_ = 0;
  idle_pre_copy_ = false;
}

}  // namespace gangway
