#include "profile/replay_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <fmt/core.h>

namespace gangway::profile {

ReplayMemory::~ReplayMemory() {
  for (auto& [iova, part] : parts_) ::munmap(part.bytes.data(), part.bytes.size());
}

Result<DeviceHandle::DmaMap> ReplayMemory::add(IovaRange range, DmaPermissions permissions, bool with_file) {
  if (range.size == 0 || range.size > kMost - size_ || parts_.contains(range.start.value)) {
    return fail(ENOMEM, fmt::format("memory of {:#x} bytes at {:#x}", range.size, range.start.value));
  }
  Fd file(::memfd_create("gangway-replay", MFD_CLOEXEC));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(range.size)) != 0) return fail_errno("make memory");
  void* const mapped = ::mmap(nullptr, range.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.get(), 0);
  if (mapped == MAP_FAILED) return fail_errno("map memory");
  Part& part = parts_[range.start.value];
  part = {.bytes = {static_cast<std::byte*>(mapped), range.size}, .file = std::move(file)};
  size_ += range.size;
  return DeviceHandle::DmaMap{
      .range = range, .permissions = permissions, .memory = part.bytes, .file = with_file ? part.file.get() : -1};
}

void ReplayMemory::remove(IovaRange range) {
  const auto part = parts_.find(range.start.value);
  if (part == parts_.end()) return;
  size_ -= part->second.bytes.size();
  ::munmap(part->second.bytes.data(), part->second.bytes.size());
  parts_.erase(part);
}

std::vector<IovaRange> ReplayMemory::ranges() const {
  std::vector<IovaRange> all;
  for (const auto& [iova, part] : parts_) all.push_back({{iova}, part.bytes.size()});
  return all;
}

}  // namespace gangway::profile
