#include "guest/userfaultfd_tracker.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <bit>

#include "base/log.h"

namespace gangway::guest {

Result<std::unique_ptr<migrate::DirtyTracker>> UserfaultfdTracker::create(GuestMemory& memory) {
  if (memory.huge_pages()) return fail(ENOTSUP, "userfaultfd: tracks pages of 4 KiB, and the memory has huge ones");
  if (auto trial = Userfaultfd::open(Userfaultfd::Mode::Synchronous); !trial) {
    return fail(ENOTSUP, trial.error().message);
  }
  Fd wake(::eventfd(0, EFD_CLOEXEC));
  if (!wake) return fail_errno("create an eventfd");
  return std::unique_ptr<migrate::DirtyTracker>(new UserfaultfdTracker(memory, std::move(wake)));
}

UserfaultfdTracker::~UserfaultfdTracker() {
  if (auto stopped = UserfaultfdTracker::stop(); !stopped) log::warn("{}", stopped.error().message);
}

Result<void> UserfaultfdTracker::start() {
  auto protection = Userfaultfd::open(Userfaultfd::Mode::Synchronous);
  if (!protection) return std::unexpected(protection.error());
  written_.clear();
  for (const GuestMemory::Block& block : memory_.blocks()) {
    written_.emplace_back((block.range.size / kPageSize + 63) / 64);
    if (auto watched = protection->watch(block.cpus.bytes()); !watched) return watched;
  }
  protection_ = std::move(*protection);
  handler_ = std::thread([this] { handle_faults(); });
  for (const GuestMemory::Block& block : memory_.blocks()) {
    if (auto armed = protection_->protect(block.cpus.bytes(), true); !armed) {
      if (auto stopped = stop(); !stopped) log::warn("{}", stopped.error().message);
      return armed;
    }
  }
  return {};
}

void UserfaultfdTracker::handle_faults() {
  std::array<uffd_msg, 64> messages;
  while (true) {
    std::array<pollfd, 2> files{{{protection_->get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    if (::poll(files.data(), files.size(), -1) < 0) continue;
    if (files[1].revents != 0) return;
    const ssize_t size = ::read(protection_->get(), messages.data(), sizeof messages);
    for (std::size_t n = 0; size > 0 && n < static_cast<std::size_t>(size) / sizeof(uffd_msg); ++n) {
      if (messages[n].event == UFFD_EVENT_PAGEFAULT) handle_fault(messages[n].arg.pagefault.address);
    }
  }
}

void UserfaultfdTracker::handle_fault(std::uintptr_t address) {
  for (std::size_t block = 0; block < written_.size(); ++block) {
    const auto memory = memory_.blocks()[block].cpus.bytes();
    const auto base = reinterpret_cast<std::uintptr_t>(memory.data());
    if (address < base || address >= base + memory.size()) continue;
    const std::size_t page = (address - base) / kPageSize;
    const std::scoped_lock lock(mutex_);
    written_[block][page / 64] |= 1ULL << (page % 64);
    if (auto lifted = protection_->protect(memory.subspan(page * kPageSize, kPageSize), false); !lifted) {
      log::error("page at {:#x}: {}", address, lifted.error().message);
    }
    return;
  }
}

Result<void> UserfaultfdTracker::collect(std::size_t block, std::span<std::uint64_t> bitmap) {
  const auto memory = memory_.blocks()[block].cpus.bytes();
  auto& written = written_[block];
  if (bitmap.size() < written.size()) return fail(EINVAL, "the bitmap is shorter than the block");
  for (std::size_t word = 0; word < written.size(); ++word) {
    const std::scoped_lock lock(mutex_);
    std::uint64_t bits = std::exchange(written[word], 0);
    bitmap[word] |= bits;
    while (bits != 0) {
      const auto first = static_cast<unsigned>(std::countr_zero(bits));
      const auto count = static_cast<unsigned>(std::countr_one(bits >> first));
      const auto pages = memory.subspan((word * 64 + first) * kPageSize, count * kPageSize);
      if (auto armed = protection_->protect(pages, true); !armed) return armed;
      bits &= first + count == 64 ? (1ULL << first) - 1 : ~(((1ULL << count) - 1) << first);
    }
  }
  return {};
}

void UserfaultfdTracker::end_handler() {
  if (!handler_.joinable()) return;
  const std::uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) != sizeof one) log::error("wake the fault handler: failed");
  handler_.join();
  std::uint64_t drained = 0;
  if (::read(wake_.get(), &drained, sizeof drained) != sizeof drained) log::error("reset an eventfd: failed");
}

Result<void> UserfaultfdTracker::stop() {
  if (!protection_) return {};
  // Unregistering lifts every protection and wakes who waits; only then may the handler go.
  Result<void> result;
  for (const GuestMemory::Block& block : memory_.blocks()) {
    if (auto done = protection_->unwatch(block.cpus.bytes()); !done) result = done;
  }
  end_handler();
  protection_.reset();
  return result;
}

}  // namespace gangway::guest
