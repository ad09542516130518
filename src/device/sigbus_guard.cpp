#include "device/sigbus_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <vector>

namespace gangway {
namespace {

// Read by the signal handler, so nothing but lock-free atomics. An odd version says that the slot is being changed or
// empty; a reader that finds the same even version before and after saw one registration and no mixture of two.
struct Slot {
  std::atomic<std::uint32_t> version{1};
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};
  std::atomic<std::size_t> page_size{0};
  std::atomic<std::atomic<bool>*> failed{nullptr};
};
static_assert(std::atomic<std::uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// Process-wide, as a signal handler is; untouched slots cost no memory.
constinit std::array<Slot, SigbusGuard::kMaxRanges> slots;
constinit std::atomic<std::size_t> used_slots{0};  // all in use lie below
constinit struct sigaction previous_action{};

std::mutex& registration_mutex() {
  static std::mutex mutex;
  return mutex;
}

std::vector<std::size_t>& free_slots() {
  static std::vector<std::size_t> slots_given_back;
  return slots_given_back;
}

// Replaces what is gone with zeroed memory: everything from the faulting page to the end of the range, since a file is
// shortened at its end, and so that one fault does for all. Async-signal-safe.
bool repair(const Slot& slot, std::uintptr_t address) {
  const std::uint32_t version = slot.version.load(std::memory_order_acquire);
  if (version % 2 != 0) return false;
  const std::uintptr_t begin = slot.begin.load(std::memory_order_relaxed);
  const std::uintptr_t end = slot.end.load(std::memory_order_relaxed);
  const std::size_t page_size = slot.page_size.load(std::memory_order_relaxed);
  std::atomic<bool>* const failed = slot.failed.load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (slot.version.load(std::memory_order_relaxed) != version) return false;
  if (address < begin || address >= end) return false;

  const std::uintptr_t page = std::max(begin, address / page_size * page_size);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the fault came as a number
  void* const at = reinterpret_cast<void*>(page);
  if (::mmap(at, end - page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) ==
      MAP_FAILED) {
    return false;
  }
  failed->store(true);
  return true;
}

void pass_on(int signal, siginfo_t* info, void* context) {
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler == SIG_DFL || previous_action.sa_handler == SIG_IGN) {
    // The instruction faults again, and the default action ends the process with the right signal. (The kernel does
    // not let a fault be ignored either.)
    ::signal(signal, SIG_DFL);
    if (info->si_code <= 0) ::raise(signal);  // sent by a process: nothing faults again
  } else {
    previous_action.sa_handler(signal);
  }
}

void handle_sigbus(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  bool repaired = false;
  if (info->si_code > 0) {
    const std::size_t count = used_slots.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < count && !repaired; ++i) repaired = repair(slots[i], address);
  }
  if (!repaired) pass_on(signal, info, context);
  errno = saved_errno;
}

void install_handler() {
  struct sigaction action{};
  action.sa_sigaction = handle_sigbus;
  // On the alternate stack where a thread has one; a fault inside a handler that we pass on to is caught too.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &previous_action);
}

}  // namespace

Result<SigbusGuard> SigbusGuard::watch(std::span<std::byte> range, std::size_t page_size, std::atomic<bool>& failed) {
  static std::once_flag installed;
  std::call_once(installed, install_handler);

  std::scoped_lock lock(registration_mutex());
  std::size_t index = used_slots.load(std::memory_order_relaxed);
  if (!free_slots().empty()) {
    index = free_slots().back();
    free_slots().pop_back();
  } else if (index == kMaxRanges) {
    return fail(ENOSPC, "guard a mapping: too many mappings in this process");
  }
  Slot& slot = slots[index];
  const auto begin = reinterpret_cast<std::uintptr_t>(range.data());
  slot.begin.store(begin, std::memory_order_relaxed);
  slot.end.store(begin + range.size(), std::memory_order_relaxed);
  slot.page_size.store(page_size, std::memory_order_relaxed);
  slot.failed.store(&failed, std::memory_order_relaxed);
  slot.version.fetch_add(1, std::memory_order_release);
  if (index == used_slots.load(std::memory_order_relaxed)) used_slots.store(index + 1, std::memory_order_release);
  return SigbusGuard(index);
}

void SigbusGuard::end() noexcept {
  if (slot_ == kNoSlot) return;
  std::scoped_lock lock(registration_mutex());
  slots[slot_].version.fetch_add(1, std::memory_order_release);
  // A store to the slot by its next owner must not be seen before the version is odd.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  free_slots().push_back(slot_);
  slot_ = kNoSlot;
}

}  // namespace gangway
