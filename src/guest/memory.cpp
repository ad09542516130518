#include "guest/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

namespace gangway::guest {
namespace {

constexpr std::uint64_t kLowStart = GuestMemory::kGranule;
constexpr std::uint64_t kLowLimit = 3ULL << 30;  // ram0 ends here at the latest
constexpr std::uint64_t kHighStart = 4ULL << 30;

Result<Fd> make_file(const std::string& name, std::uint64_t size, bool huge_pages) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge_pages ? unsigned{MFD_HUGETLB} : 0U);
  Fd file(::memfd_create(name.c_str(), flags));
  if (!file) return fail_errno(fmt::format("create {}", name));
  if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) return fail_errno(fmt::format("size {}", name));
  // A device process may rely on it: what it mapped stays backed.
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail_errno(fmt::format("seal {}", name));
  }
  return file;
}

Result<GuestMemory::Block> make_block(std::string name, IovaRange range, bool huge_pages) {
  auto file = make_file(name, range.size, huge_pages);
  if (!file) return std::unexpected(file.error());
  auto cpus = Mapping::map(file->get(), 0, range.size);
  auto migration = Mapping::map(file->get(), 0, range.size);
  if (!cpus || !migration) {
    const Error& error = cpus ? migration.error() : cpus.error();
    return fail(error.code, fmt::format("{} of {} MiB: {}{}", name, range.size >> 20, error.message,
                                        huge_pages ? " (are there enough in /proc/sys/vm/nr_hugepages?)" : ""));
  }
  const std::size_t words = (range.size / kPageSize + 63) / 64;
  return GuestMemory::Block{std::move(name),       range,
                            std::move(*file),      std::move(*cpus),
                            std::move(*migration), std::vector<std::atomic<std::uint64_t>>(words)};
}

}  // namespace

Result<std::unique_ptr<GuestMemory>> GuestMemory::create(const Options& options) {
  if (options.size < kSmallest || options.size > (1ULL << 46)) {
    return fail(EINVAL, fmt::format("guest memory of {} bytes: must be {} MiB or more", options.size, kSmallest >> 20));
  }
  const std::uint64_t size = (options.size + kGranule - 1) / kGranule * kGranule;
  const std::uint64_t low = std::min(kLowLimit - kLowStart, (size / 2 + kGranule - 1) / kGranule * kGranule);
  std::unique_ptr<GuestMemory> memory(new GuestMemory());
  memory->size_ = size;
  memory->huge_pages_ = options.huge_pages;
  for (const auto& [name, range] :
       {std::pair{"ram0", IovaRange{{kLowStart}, low}}, std::pair{"ram1", IovaRange{{kHighStart}, size - low}}}) {
    auto block = make_block(name, range, options.huge_pages);
    if (!block) return std::unexpected(block.error());
    memory->blocks_.push_back(std::move(*block));
  }
  return memory;
}

std::span<std::byte> GuestMemory::at(Iova iova, std::uint64_t size) const {
  for (const Block& block : blocks_) {
    if (iova < block.range.start) continue;
    const std::uint64_t offset = iova.value - block.range.start.value;
    if (offset >= block.range.size || size > block.range.size - offset) continue;
    return block.cpus.bytes().subspan(offset, size);
  }
  return {};
}

Result<void> GuestMemory::map_into(DeviceHandle& device) const {
  for (const Block& block : blocks_) {
    const DeviceHandle::DmaMap request{.range = block.range, .memory = block.cpus.bytes(), .file = block.file.get()};
    if (auto mapped = device.dma_map(request); !mapped) {
      return fail_within(fmt::format("{}: map {}", device.target(), block.name), mapped.error());
    }
  }
  return {};
}

void GuestMemory::record_writes(bool on) {
  recording_.store(on);
  for (Block& block : blocks_) {
    for (auto& word : block.written) word.store(0);
  }
}

void GuestMemory::record(const std::byte* start, std::size_t size) {
  if (size == 0) return;
  for (Block& block : blocks_) {
    const auto view = block.cpus.bytes();
    if (start < view.data() || start >= view.data() + view.size()) continue;
    const auto offset = static_cast<std::uint64_t>(start - view.data());
    const std::uint64_t last = (std::min<std::uint64_t>(offset + size, view.size()) - 1) / kPageSize;
    for (std::uint64_t page = offset / kPageSize; page <= last; ++page) {
      block.written[page / 64].fetch_or(1ULL << (page % 64));
    }
    return;
  }
}

void GuestMemory::take_writes(std::size_t block, std::span<std::uint64_t> bitmap) {
  auto& written = blocks_[block].written;
  for (std::size_t n = 0; n < std::min(written.size(), bitmap.size()); ++n) {
    if (written[n].load() != 0) bitmap[n] |= written[n].exchange(0);
  }
}

}  // namespace gangway::guest
