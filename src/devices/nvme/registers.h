// The controller registers of page 0 of BAR 0: their layout, and the values that both the connection and the I/O
// thread see.
// Source: NVM Express 1.4, 3.1.
//
// Thread-safety: every value is atomic by itself.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <gangway/error.h>

namespace gangway::nvme {

inline constexpr std::uint64_t kRegisterCap = 0x00;
inline constexpr std::uint64_t kRegisterVs = 0x08;
inline constexpr std::uint64_t kRegisterIntms = 0x0c;
inline constexpr std::uint64_t kRegisterIntmc = 0x10;
inline constexpr std::uint64_t kRegisterCc = 0x14;
inline constexpr std::uint64_t kRegisterCsts = 0x1c;
inline constexpr std::uint64_t kRegisterAqa = 0x24;
inline constexpr std::uint64_t kRegisterAsq = 0x28;
inline constexpr std::uint64_t kRegisterAcq = 0x30;
inline constexpr std::uint64_t kRegistersEnd = 0x38;

inline constexpr std::uint32_t kVersion14 = 0x0001'0400;
inline constexpr std::uint16_t kMaxQueueEntries = 1024;
inline constexpr std::uint32_t kMinPageShift = 12;
inline constexpr std::uint32_t kMaxPageShift = 16;

// CAP: 1024 entries, contiguous queues, 20 s to become ready, the NVM command set, pages of 4 to 64 KiB.
inline constexpr std::uint64_t kCapabilities =
    (kMaxQueueEntries - 1U) | (1ULL << 16) | (40ULL << 24) | (1ULL << 37) | (std::uint64_t{kMaxPageShift - 12} << 52);

// Controller Configuration.
struct Cc {
  std::uint32_t value = 0;
  [[nodiscard]] constexpr bool enable() const { return (value & 1U) != 0; }
  [[nodiscard]] constexpr std::uint32_t command_set() const { return value >> 4 & 7U; }
  [[nodiscard]] constexpr std::uint32_t page_shift() const { return kMinPageShift + (value >> 7 & 0xfU); }
  [[nodiscard]] constexpr std::uint32_t arbitration() const { return value >> 11 & 7U; }
  [[nodiscard]] constexpr std::uint32_t shutdown() const { return value >> 14 & 3U; }
  [[nodiscard]] constexpr std::uint32_t sq_entry_shift() const { return value >> 16 & 0xfU; }
  [[nodiscard]] constexpr std::uint32_t cq_entry_shift() const { return value >> 20 & 0xfU; }
};
inline constexpr std::uint32_t kCcWritable = 0x00ff'fff1;
inline constexpr std::uint32_t kCcLatched = 0x0000'3ff0;  // CSS, MPS, AMS

// Controller Status.
inline constexpr std::uint32_t kCstsReady = 1U << 0;
inline constexpr std::uint32_t kCstsFatal = 1U << 1;
inline constexpr std::uint32_t kCstsShutdownMask = 3U << 2;
inline constexpr std::uint32_t kCstsShutdownOccurring = 1U << 2;
inline constexpr std::uint32_t kCstsShutdownComplete = 2U << 2;

struct Registers {
  std::atomic<std::uint32_t> cc{0};
  std::atomic<std::uint32_t> csts{0};
  std::atomic<std::uint32_t> aqa{0};
  std::atomic<std::uint64_t> asq{0};
  std::atomic<std::uint64_t> acq{0};

  // Power-on values.
  void clear();

  // Registers as bytes; `intms` is what INTMS and INTMC read.
  void read(std::uint64_t offset, std::span<std::byte> out, std::uint32_t intms) const;

  // AQA, ASQ or ACQ, one dword. False for any other register.
  bool write_queue_register(std::uint64_t offset, std::uint32_t value);

  // A host that disables a controller that never became ready need not wait, and must not find the old failure when it
  // enables it again.
  // While it is enabled, command set, page size and arbitration stay what it was enabled with.
  void configure(Cc configuration) {
    const Cc before = this->configuration();
    if (before.enable() && configuration.enable()) {
      configuration.value = (configuration.value & ~kCcLatched) | (before.value & kCcLatched);
    }
    cc.store(configuration.value);
    if (!configuration.enable() && !ready()) set_status(kCstsFatal, 0);
  }

  [[nodiscard]] Cc configuration() const { return {cc.load()}; }
  [[nodiscard]] bool ready() const { return (csts.load() & kCstsReady) != 0; }
  [[nodiscard]] bool fatal() const { return (csts.load() & kCstsFatal) != 0; }
  void set_status(std::uint32_t mask, std::uint32_t bits) {
    std::uint32_t before = csts.load();
    while (!csts.compare_exchange_weak(before, (before & ~mask) | bits)) {
    }
  }
};

}  // namespace gangway::nvme
