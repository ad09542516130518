#include <gangway/dma.h>

#include <algorithm>
#include <cstring>
#include <ranges>
#include <utility>

#include <fmt/format.h>

#include "device/dma_mapping.h"
#include "device/map_budget.h"

namespace gangway {
namespace {

constexpr std::uint64_t kPageSize = 4096;

std::string describe(const IovaRange& range) {
  return fmt::format("{:#x} bytes at {:#x}", range.size, range.start.value);
}

std::unexpected<Error> fault(Iova iova, DmaAccess access, std::string_view why) {
  return fail(EFAULT,
              fmt::format("DMA {} at {:#x}: {}", access == DmaAccess::Read ? "read" : "write", iova.value, why));
}

// The device's bytes must be visible to the client before the mark is: a report that takes the mark sends the client to
// read the page. The log tests the bit before it sets it; without this fence the test could come before the bytes, find
// a bit that a report is about to clear, and leave the page unmarked (LOG-EXACT). The same holds for started().
void mark_written(DmaLog& log, Iova iova, std::uint64_t length) noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  log.mark(iova, length);
}

}  // namespace

// A stretch of an access within one mapping, which it pins: unmapping waits until the access is done and logged.
class DmaSpace::Piece {
 public:
  Piece(DmaSpace& space, detail::DmaMapping& pinned, std::uint64_t iova, std::uint64_t size)
      : space_(&space),
        mapping_(&pinned),
        direct_(pinned.direct()),
        bytes_(direct_ ? pinned.at(iova, size) : std::span<std::byte>()),
        size_(size) {}
  Piece(Piece&& other) noexcept
      : space_(other.space_),
        mapping_(std::exchange(other.mapping_, nullptr)),
        direct_(other.direct_),
        bytes_(other.bytes_),
        size_(other.size_) {}
  Piece& operator=(Piece&&) = delete;
  ~Piece() {
    if (mapping_ != nullptr) space_->unpin(*mapping_);
  }

  // False: reached by messages.
  [[nodiscard]] bool direct() const { return direct_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] detail::DmaMapping* release() { return std::exchange(mapping_, nullptr); }

 private:
  DmaSpace* space_;
  detail::DmaMapping* mapping_;
  bool direct_;
  std::span<std::byte> bytes_;
  std::uint64_t size_;
};

DmaPin::DmaPin(DmaPin&& other) noexcept
    : space_(std::exchange(other.space_, nullptr)),
      mapping_(std::exchange(other.mapping_, nullptr)),
      bytes_(std::exchange(other.bytes_, {})),
      iova_(other.iova_),
      access_(other.access_) {}

DmaPin& DmaPin::operator=(DmaPin&& other) noexcept {
  if (this == &other) return *this;
  release();
  space_ = std::exchange(other.space_, nullptr);
  mapping_ = std::exchange(other.mapping_, nullptr);
  bytes_ = std::exchange(other.bytes_, {});
  iova_ = other.iova_;
  access_ = other.access_;
  return *this;
}

DmaPin::~DmaPin() { release(); }

void DmaPin::release() {
  if (mapping_ == nullptr) return;
  // First the mark, then the release: who sees the memory unmapped finds the page in the log.
  if (access_ == DmaAccess::Write) mark_written(space_->log_, iova_, bytes_.size());
  space_->unpin(*mapping_);
  mapping_ = nullptr;
  space_ = nullptr;
  bytes_ = {};
}

DmaSpace::DmaSpace(DmaLog& log, std::size_t max_maps)
    : log_(log), share_(std::make_unique<detail::MapShare>(detail::MapBudget::of_process(), max_maps)) {}

DmaSpace::~DmaSpace() { unmap_all(); }

std::shared_lock<std::shared_mutex> DmaSpace::lock_shared() const {
  if (writers_.load(std::memory_order_relaxed) != 0) std::scoped_lock wait(turnstile_);
  return std::shared_lock(mutex_);
}

std::unique_lock<std::shared_mutex> DmaSpace::lock_exclusive() {
  writers_.fetch_add(1, std::memory_order_relaxed);
  std::scoped_lock turn(turnstile_);
  std::unique_lock lock(mutex_);
  writers_.fetch_sub(1, std::memory_order_relaxed);
  return lock;
}

// Under the lock, shared or not.
detail::DmaMapping* DmaSpace::lookup(std::uint64_t iova) {
  detail::DmaMapping* const last = last_used_.load(std::memory_order_relaxed);
  if (last != nullptr && last->contains(iova)) return last;
  auto next = mappings_.upper_bound(iova);
  if (next == mappings_.begin()) return nullptr;
  detail::DmaMapping* const found = std::prev(next)->second.get();
  if (!found->contains(iova)) return nullptr;
  last_used_.store(found, std::memory_order_relaxed);
  return found;
}

Result<DmaSpace::Piece> DmaSpace::find(Iova iova, std::uint64_t length, DmaAccess access) {
  if (!used()) used_.store(true, std::memory_order_relaxed);
  const auto lock = lock_shared();
  detail::DmaMapping* const mapping = lookup(iova.value);
  if (mapping == nullptr) return fault(iova, access, "not mapped");
  if (!mapping->permits(access)) return fault(iova, access, "not permitted by the mapping");
  const std::uint64_t size = std::min(length, mapping->range().size - (iova.value - mapping->range().start.value));
  mapping->pin();
  return Piece(*this, *mapping, iova.value, size);
}

// `copy(iova, piece, done)` for each piece; `done` is how many bytes went before.
template <class Copy>
Result<void> DmaSpace::for_each_piece(Iova iova, std::uint64_t length, DmaAccess access, Copy&& copy) {
  if (length != 0 && !IovaRange{iova, length}.valid()) return fault(iova, access, "the range wraps");
  for (std::uint64_t done = 0; done < length;) {
    auto piece = find(iova + done, length - done, access);
    if (!piece) return std::unexpected(std::move(piece.error()));
    if (auto copied = copy(iova + done, *piece, done); !copied) return copied;
    done += piece->size();
  }
  return {};
}

template <class Call>
Result<void> DmaSpace::ask_client(Iova iova, Call&& call) {
  std::unique_lock lock(messenger_mutex_);
  DmaMessenger* const messenger = messenger_;
  if (messenger == nullptr) {
    return fail(EFAULT,
                fmt::format("DMA at {:#x}: the memory came without a descriptor, and no client answers", iova.value));
  }
  ++messenger_calls_;
  lock.unlock();
  auto result = call(*messenger);
  lock.lock();
  if (--messenger_calls_ == 0) messenger_idle_.notify_all();
  return result;
}

DmaSpace::Grace::Grace(DmaSpace& space) : space_(space) {
  const std::scoped_lock lock(space_.messenger_mutex_);
  if (space_.graces_++ == 0 && space_.messenger_ != nullptr) space_.messenger_->begin_grace();
}

DmaSpace::Grace::~Grace() {
  const std::scoped_lock lock(space_.messenger_mutex_);
  if (--space_.graces_ == 0 && space_.messenger_ != nullptr) space_.messenger_->end_grace();
}

Result<void> DmaSpace::read(Iova iova, std::span<std::byte> out) {
  return for_each_piece(iova, out.size(), DmaAccess::Read,
                        [&](Iova at, const Piece& piece, std::uint64_t done) -> Result<void> {
                          const auto target = out.subspan(done, piece.size());
                          if (!piece.direct()) {
                            return ask_client(at, [&](DmaMessenger& client) { return client.dma_read(at, target); });
                          }
                          std::memcpy(target.data(), piece.bytes().data(), target.size());
                          return {};
                        });
}

Result<void> DmaSpace::write(Iova iova, std::span<const std::byte> in) {
  return for_each_piece(
      iova, in.size(), DmaAccess::Write, [&](Iova at, const Piece& piece, std::uint64_t done) -> Result<void> {
        const auto source = in.subspan(done, piece.size());
        if (piece.direct()) {
          const DmaLog::WriteSection section(log_);
          std::memcpy(piece.bytes().data(), source.data(), source.size());
          mark_written(log_, at, source.size());
          return {};
        }
        // The client writes before we know that it did, and may ask for a report then.
        log_.mark(at, source.size());
        auto written = ask_client(at, [&](DmaMessenger& client) { return client.dma_write(at, source); });
        // After an error too: how much of it the client wrote is not known.
        mark_written(log_, at, source.size());
        return written;
      });
}

Result<DmaPin> DmaSpace::pin(Iova iova, std::size_t length, DmaAccess access) {
  if (length == 0 || !IovaRange{iova, length}.valid()) return fault(iova, access, "the range is empty or wraps");
  auto piece = find(iova, length, access);
  if (!piece) return std::unexpected(std::move(piece.error()));
  if (!piece->direct()) {
    return fail(ENOTSUP,
                fmt::format("pin {:#x} bytes at {:#x}: the memory came without a descriptor", length, iova.value));
  }
  if (piece->size() < length) {
    return fail(ENOTSUP, fmt::format("pin {:#x} bytes at {:#x}: the range crosses mappings", length, iova.value));
  }
  DmaPin pin;
  pin.space_ = this;
  pin.bytes_ = piece->bytes();
  pin.iova_ = iova;
  pin.access_ = access;
  pin.mapping_ = piece->release();
  return pin;
}

void DmaSpace::unpin(detail::DmaMapping& mapping) {
  if (!mapping.unpin()) return;
  std::scoped_lock lock(pins_mutex_);
  unpinned_.notify_all();
}

// An access by messages holds a pin, and so may one that waits for such an access: who unmaps may be whom it waits for.
template <class Mappings>
void DmaSpace::wait_for_pins(const Mappings& mappings) {
  for (const auto& mapping : mappings) mapping->close();
  if (std::ranges::all_of(mappings, [](const auto& mapping) { return mapping->unused(); })) return;
  const Grace until_unused(*this);
  std::unique_lock lock(pins_mutex_);
  for (const auto& mapping : mappings) unpinned_.wait(lock, [&] { return mapping->unused(); });
}

// Under the lock.
Result<void> DmaSpace::check_room(const IovaRange& range) const {
  if (const std::size_t most = max_maps(); mappings_.size() >= most) {
    return fail(ENOSPC, fmt::format("map {}: {} mappings exist, the most there may be{}", describe(range), most,
                                    most < share_->wanted() ? " (the device's share of vm.max_map_count)" : ""));
  }
  const auto next = mappings_.upper_bound(range.last().value);
  if (next == mappings_.begin()) return {};
  const IovaRange& other = std::prev(next)->second->range();
  if (other.last() < range.start) return {};
  return fail(EEXIST, fmt::format("map {}: overlaps the mapping of {}", describe(range), describe(other)));
}

Result<void> DmaSpace::map(MapRequest request) {
  const IovaRange range = request.range;
  if (!range.valid() || (range.start.value | range.size) % kPageSize != 0) {
    return fail(EINVAL, fmt::format("map {}: the range is empty, wraps or is not aligned to {:#x}", describe(range),
                                    kPageSize));
  }
  {
    const auto lock = lock_shared();
    if (auto room = check_room(range); !room) return room;
  }
  auto mapping = detail::DmaMapping::create(request, failed_);
  if (!mapping) return std::unexpected(std::move(mapping.error()));
  const auto lock = lock_exclusive();
  if (auto room = check_room(range); !room) return room;
  mappings_.emplace(range.start.value, std::move(*mapping));
  return {};
}

Result<void> DmaSpace::unmap(IovaRange range) {
  std::unique_ptr<detail::DmaMapping> mapping;
  {
    const auto lock = lock_exclusive();
    const auto found = mappings_.find(range.start.value);
    if (found == mappings_.end() || found->second->range() != range) {
      return fail(ENOENT, fmt::format("unmap {}: no mapping has this range", describe(range)));
    }
    mapping = std::move(found->second);
    mappings_.erase(found);
    last_used_.store(nullptr, std::memory_order_relaxed);
  }
  wait_for_pins(std::span(&mapping, 1));
  return {};
}

void DmaSpace::unmap_all() {
  std::map<std::uint64_t, std::unique_ptr<detail::DmaMapping>> gone;
  {
    const auto lock = lock_exclusive();
    gone.swap(mappings_);
    last_used_.store(nullptr, std::memory_order_relaxed);
  }
  wait_for_pins(std::views::values(gone));
  gone.clear();
  failed_.store(false);
  used_.store(false, std::memory_order_relaxed);
}

std::size_t DmaSpace::max_maps() const { return share_->size(); }

void DmaSpace::release_share() { share_->give_back(); }

std::size_t DmaSpace::map_count() const {
  const auto lock = lock_shared();
  return mappings_.size();
}

std::vector<IovaRange> DmaSpace::ranges() const {
  const auto lock = lock_shared();
  std::vector<IovaRange> all;
  all.reserve(mappings_.size());
  for (const auto& [start, mapping] : mappings_) all.push_back(mapping->range());
  return all;
}

void DmaSpace::set_messenger(DmaMessenger* messenger) {
  std::unique_lock lock(messenger_mutex_);
  messenger_ = messenger;
  messenger_idle_.wait(lock, [this] { return messenger_calls_ == 0; });
}

bool DmaSpace::failed() const { return failed_.load(); }

}  // namespace gangway
