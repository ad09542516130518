#include "device/sigbus_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <mutex>
#include <vector>

namespace gangway {
namespace {

// Read by the signal handler, so touched by lock-free atomics only. All zero is a free slot, so that the table costs no
// memory where it is not used. An even version says that the slot is free or being changed; a reader that finds the
// same odd version before and after saw one registration and no mixture of two.
struct Slot {
  std::uint64_t version;
  std::uintptr_t begin;
  std::uintptr_t end;
  std::atomic<bool>* failed;
};
constexpr std::size_t kSpareSize = 4096;

static_assert(std::atomic_ref<std::uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free &&
              std::atomic<void*>::is_always_lock_free);

template <class T>
T load(T& field, std::memory_order order = std::memory_order_relaxed) {
  return std::atomic_ref<T>(field).load(order);
}

template <class T>
void store(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_relaxed);
}

void next_version(Slot& slot) { std::atomic_ref(slot.version).fetch_add(1, std::memory_order_acq_rel); }

// Process-wide, as a signal handler is.
constinit std::array<Slot, SigbusGuard::kMaxRanges> slots{};
constinit std::atomic<std::size_t> used_slots{0};  // all in use lie below
constinit struct sigaction previous_action{};
// Mappings for the handler to give up: where the process has more than the kernel allows to add to, which it may reach
// by one, not even a replacement is made. Shared ones, which the kernel never joins with a neighbour, so that giving
// one up always makes room; two, for a range that the kernel joined with one on either side.
constinit std::array<std::atomic<void*>, 2> spares{};

std::mutex& registration_mutex() {
  static std::mutex mutex;
  return mutex;
}

std::vector<std::size_t>& free_slots() {
  static std::vector<std::size_t> slots_given_back;
  return slots_given_back;
}

// Under the registration mutex. One that cannot be had is tried again with the next registration.
void fill_spares() {
  for (std::atomic<void*>& spare : spares) {
    if (spare.load() != nullptr) continue;
    void* const made = ::mmap(nullptr, kSpareSize, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made != MAP_FAILED) spare.store(made);
  }
}

bool replace(std::uintptr_t begin, std::uintptr_t end) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the range is kept as numbers
  void* const at = reinterpret_cast<void*>(begin);
  constexpr int kHow = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  return ::mmap(at, end - begin, PROT_READ | PROT_WRITE, kHow, -1, 0) != MAP_FAILED;
}

// Replaces the range that the address is in with zeroed memory. Async-signal-safe.
bool repair(Slot& slot, std::uintptr_t address) {
  const std::uint64_t version = load(slot.version, std::memory_order_acquire);
  if (version % 2 == 0) return false;
  const std::uintptr_t begin = load(slot.begin);
  const std::uintptr_t end = load(slot.end);
  std::atomic<bool>* const failed = load(slot.failed);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (load(slot.version) != version) return false;
  if (address < begin || address >= end) return false;

  bool replaced = replace(begin, end);
  for (std::size_t i = 0; i < spares.size() && !replaced; ++i) {
    void* const spare = spares[i].exchange(nullptr);
    if (spare == nullptr) continue;
    ::munmap(spare, kSpareSize);
    replaced = replace(begin, end);
  }
  if (replaced) failed->store(true);
  return replaced;
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

Result<SigbusGuard> SigbusGuard::watch(std::span<std::byte> range, std::atomic<bool>& failed) {
  static std::once_flag installed;
  std::call_once(installed, install_handler);

  std::scoped_lock lock(registration_mutex());
  fill_spares();
  std::size_t index = used_slots.load(std::memory_order_relaxed);
  if (!free_slots().empty()) {
    index = free_slots().back();
    free_slots().pop_back();
  } else if (index == kMaxRanges) {
    return fail(ENOSPC, "guard a mapping: too many mappings in this process");
  }
  Slot& slot = slots[index];
  const auto begin = reinterpret_cast<std::uintptr_t>(range.data());
  store(slot.begin, begin);
  store(slot.end, begin + range.size());
  store(slot.failed, &failed);
  next_version(slot);
  if (index == used_slots.load(std::memory_order_relaxed)) used_slots.store(index + 1, std::memory_order_release);
  return SigbusGuard(index);
}

void SigbusGuard::end() noexcept {
  if (slot_ == kNoSlot) return;
  std::scoped_lock lock(registration_mutex());
  next_version(slots[slot_]);
  // A store to the slot by its next owner must not be seen before the version is even.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  free_slots().push_back(slot_);
  slot_ = kNoSlot;
}

}  // namespace gangway
