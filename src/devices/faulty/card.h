// A small PCI card that makes every defect of a migration visible in a few bytes: registers, some memory of its own, a
// DMA job that it carries out piece by piece, and interrupts. The good device that each faulty one differs from.
//
// The workload. A job writes pieces of kDmaLength bytes into the client's memory, one after the other: piece n goes to
// kDmaAddress + (n mod kDmaWindow) * kDmaLength, and each of its 32-bit words is kPattern + n. A kick starts at piece
// 0; the card carries out a piece each kPace microseconds while it may initiate DMA, kDmaPieces in all (0: until it is
// told to halt). kDmaDone counts the pieces whose bytes are written and logged, so what a job wrote is known from the
// registers alone: pieces 0 to kDmaDone - 1. The job is part of the card's state: a stop leaves it where it is and the
// next start takes it up, on this card or on the one that the state was loaded into. Interrupts are MSI vectors.
//
// Accesses to registers are of 4 or 8 bytes, naturally aligned; those to the memory are of any size.
//
// Thread-safety: as Device; the card has a thread of its own, which carries out the job.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <gangway/device.h>

namespace gangway::faulty {

inline constexpr PciIdentity kIdentity{.vendor = 0x1b36, .device = 0x0fa1, .class_code = 0xff0000, .revision = 1};

// BAR0, the registers.
inline constexpr RegionIndex kRegisters = RegionIndex::Bar0;
inline constexpr std::uint64_t kRegistersSize = 0x1000;
inline constexpr std::uint64_t kIdent = 0x00;       // u32, reads kIdentValue
inline constexpr std::uint64_t kStatus = 0x04;      // u32, read only: kStatusIdle, kStatusBusy, or else an errno
inline constexpr std::uint64_t kScratch = 0x08;     // u64, keeps what is written
inline constexpr std::uint64_t kDmaAddress = 0x10;  // u64, IOVA
inline constexpr std::uint64_t kDmaLength = 0x18;   // u32, bytes of a piece: a multiple of 4, at most kMaxPiece
inline constexpr std::uint64_t kDmaWindow = 0x1c;   // u32, pieces after which the address starts over; 0 counts as 1
inline constexpr std::uint64_t kDmaPieces = 0x20;   // u32, pieces of the job; 0 is without end
inline constexpr std::uint64_t kPattern = 0x24;     // u32
inline constexpr std::uint64_t kPace = 0x28;        // u32, microseconds from piece to piece
inline constexpr std::uint64_t kControl = 0x2c;     // u32, kInterruptEachPiece, kInterruptAtEnd
inline constexpr std::uint64_t kKick = 0x30;        // u32, write only: 1 starts the job at piece 0, 0 halts it
inline constexpr std::uint64_t kTrigger = 0x34;     // u32, write only: raises this vector
inline constexpr std::uint64_t kDmaDone = 0x38;     // u64, read only: pieces done since the kick
inline constexpr std::uint32_t kIdentValue = 0x4d414447;
inline constexpr std::uint32_t kStatusIdle = 0;
inline constexpr std::uint32_t kStatusBusy = 0xffffffff;
inline constexpr std::uint32_t kInterruptEachPiece = 1;  // vector kPieceVector
inline constexpr std::uint32_t kInterruptAtEnd = 2;      // vector kEndVector
inline constexpr std::uint32_t kMaxPiece = 1U << 20;

// BAR2, the memory. It migrates, and what changes in it is known page by page.
inline constexpr RegionIndex kMemory = RegionIndex::Bar2;
inline constexpr std::size_t kMemorySize = 64U << 10;
inline constexpr std::size_t kMemoryPage = 4096;

inline constexpr std::uint8_t kVectors = 2;  // MSI
inline constexpr std::uint32_t kPieceVector = 0;
inline constexpr std::uint32_t kEndVector = 1;

class Card : public Migratable {
 public:
  Card();
  ~Card() override;

  [[nodiscard]] DeviceInfo info() const override;
  void attach(Bus bus) override;
  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override;
  Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) override;
  void reset() override;
  Result<void> start() override;

  [[nodiscard]] StateIdentity identity() const override;
  Result<void> stop_initiating() override;
  Result<void> stop() override { return {}; }  // nothing moves once no DMA is initiated
  Result<void> save(StateWriter& writer) const override;
  Result<void> load(const StateReader& reader) override;
  [[nodiscard]] std::uint64_t state_size() const override { return 128; }
  [[nodiscard]] std::vector<StateMemory> state_memory() override { return {{"memory", memory_}}; }
  [[nodiscard]] bool tracks_dirty() const override { return true; }
  void track_dirty(bool on) override;
  [[nodiscard]] std::vector<DirtyRange> take_dirty(std::size_t) override;
  [[nodiscard]] std::uint64_t dirty_bytes() const override;

  // Returns once another piece is done, or at once when no job is carried out. For defects that need the card to have
  // moved in between.
  void await_piece();

 protected:
  struct Registers {
    std::uint64_t scratch = 0;
    std::uint64_t dma_address = 0;
    std::uint64_t dma_done = 0;
    std::uint32_t dma_length = 0;
    std::uint32_t dma_window = 0;
    std::uint32_t dma_pieces = 0;
    std::uint32_t pattern = 0;
    std::uint32_t pace_us = 0;
    std::uint32_t control = 0;
    std::uint32_t status = kStatusIdle;
    std::uint32_t reserved = 0;
  };

  // Both under the lock: the second lets go of it while the bytes are written.
  [[nodiscard]] bool job_active() const { return registers_.status == kStatusBusy; }
  void carry_out_piece(std::unique_lock<std::mutex>& lock);

  mutable std::mutex mutex_;
  Registers registers_;

 private:
  void run();
  [[nodiscard]] std::uint64_t read_register(std::uint64_t offset) const;
  Result<void> write_register(std::uint64_t offset, std::size_t size, std::uint64_t value);
  Result<void> kick(bool go);

  std::optional<Bus> bus_;
  std::vector<std::byte> memory_;
  std::vector<bool> dirty_;  // of each page
  bool tracking_ = false;

  std::condition_variable changed_;
  bool initiating_ = false;
  bool quit_ = false;
  unsigned in_flight_ = 0;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace gangway::faulty
