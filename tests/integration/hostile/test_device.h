// A small real device for hostile clients to abuse: registers, memory that migrates and may be mapped, MSI-X, and a DMA
// engine that copies between its memory and the client's, within the access that asks for it or on a thread of its own.
//
// Thread-safety: as Device; its own thread touches its memory only while status() says that a copy is under way.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include <gangway/device.h>

namespace gangway::hostile {

// BAR0, the registers.
inline constexpr std::uint32_t kRegisters = 0;
inline constexpr std::uint64_t kScratch = 0x00;     // u64, keeps what is written
inline constexpr std::uint64_t kDmaAddress = 0x08;  // u64, IOVA
inline constexpr std::uint64_t kDmaLength = 0x10;   // u32, bytes
inline constexpr std::uint64_t kDmaStart = 0x14;    // u32, a write starts a copy: kCopy*
inline constexpr std::uint64_t kDmaStatus = 0x18;   // u32, 0 done, kDmaBusy, else the errno
inline constexpr std::uint64_t kTrigger = 0x20;     // u32, a write triggers this MSI-X vector
inline constexpr std::uint64_t kWrites = 0x24;      // u32, how often kScratch was written
inline constexpr std::uint64_t kRegistersSize = 0x1000;

inline constexpr std::uint32_t kCopyIn = 1;        // the client's memory into the device's
inline constexpr std::uint32_t kCopyOut = 2;       // the device's memory into the client's
inline constexpr std::uint32_t kOnThread = 0x100;  // otherwise within the access
inline constexpr std::uint32_t kDmaBusy = 0xffffffff;

// BAR2, the memory; from its start the DMA engine copies. It migrates. Two stretches of it may be mapped.
inline constexpr std::uint32_t kMemory = 2;
inline constexpr std::size_t kMemorySize = 1U << 20;

// BAR4, MSI-X.
inline constexpr std::uint32_t kMsixBar = 4;
inline constexpr std::uint16_t kVectors = 4;

inline constexpr std::uint32_t kConfig = 7;
inline constexpr std::uint32_t kRegions = 9;

class TestDevice : public Migratable {
 public:
  explicit TestDevice(std::size_t memory_size = kMemorySize);
  ~TestDevice() override;

  [[nodiscard]] DeviceInfo info() const override;
  void attach(Bus bus) override;
  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override;
  Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) override;
  void reset() override;
  Result<void> start() override;

  [[nodiscard]] StateIdentity identity() const override { return {.device_type = "hostile-test"}; }
  Result<void> stop_initiating() override;
  Result<void> stop() override;
  Result<void> save(StateWriter& writer) const override;
  Result<void> load(const StateReader& reader) override;
  [[nodiscard]] std::vector<StateMemory> state_memory() override;

  // What kDmaStatus reads; from any thread.
  [[nodiscard]] std::uint32_t status() const { return status_.load(std::memory_order_acquire); }

 private:
  struct Registers {
    std::uint64_t scratch = 0;
    std::uint64_t dma_address = 0;
    std::uint32_t dma_length = 0;
    std::uint32_t writes = 0;
  };

  Result<void> write_register(std::uint64_t offset, std::span<const std::byte> in);
  // As the registers were when it was asked for; the client may write them at any time.
  struct Copy {
    std::uint32_t command = 0;
    Iova address;
    std::uint32_t length = 0;
  };
  Result<void> start_copy(std::uint32_t command);
  void carry_out(const Copy& copy);
  void run();
  void await_idle(std::unique_lock<std::mutex>& lock);

  Fd file_;
  std::span<std::byte> memory_;
  Fd doorbell_;
  std::optional<Bus> bus_;

  Registers registers_;
  std::atomic<std::uint32_t> status_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  bool initiating_ = false;
  bool quit_ = false;
  bool copying_ = false;
  std::optional<Copy> asked_;  // a copy that waits for the thread
  std::thread thread_;
};

}  // namespace gangway::hostile
