// A faulty device, or the good one, behind a real server, and a client that says what is wrong with it.
//
// Thread-safety: one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/device_handle.h>
#include <gangway/server.h>

#include "conformance/wire_peer.h"
#include "devices/faulty/defect.h"
#include "faulty_wire/faulty_wire.h"

namespace gangway::faulty {

using Bytes = std::vector<std::byte>;

// Thrown by an act: the device is not as the contract has it.
struct Wrong {
  std::string what;
};

template <class T>
T need(Result<T> result, std::string_view doing) {
  if (!result) throw Wrong{std::string(doing) + ": " + result.error().message};
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}
template <class T>
void refused(const Result<T>& result, std::string_view doing) {
  if (result) throw Wrong{std::string(doing) + ": not refused"};
}
inline void right(bool holds, std::string_view what) {
  if (!holds) throw Wrong{std::string(what)};
}

class Bench {
 public:
  static constexpr std::uint64_t kBase = 0x100000;  // IOVA of the memory
  static constexpr std::size_t kPages = 64;
  static constexpr std::size_t kPage = 4096;
  static constexpr IovaRange kRange{{kBase}, kPages* kPage};

  struct Options {
    MigrationFlags flags;
    Revisions revisions;
    std::chrono::milliseconds timeout;
  };
  Bench(const Defect* defect, const Options& options);
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  [[nodiscard]] DeviceHandle& device() { return *device_; }
  void reopen();  // as another client
  // Instead of device(): a client that writes its own messages, and says no more of itself than it must.
  conformance::WirePeer connect_by_hand(std::uint32_t max_data_xfer_size = 1U << 20);

  void go(DeviceState state) { need(device_->set_state(state), contract::name(state)); }
  [[nodiscard]] bool is_in(DeviceState state) { return need(device_->state(), "get the state") == state; }

  // To an end, in reads of `piece` bytes.
  Bytes read_all(std::size_t piece = 64U << 10);
  StreamRead read_once(std::size_t size = kPage);
  Bytes save();  // by STOP_COPY, where the device is left
  void write(std::span<const std::byte> stream, std::size_t piece = 64U << 10);
  void load(std::span<const std::byte> stream);  // by RESUMING, to STOP

  [[nodiscard]] std::uint32_t get32(std::uint64_t reg) { return get<std::uint32_t>(kRegisters, reg); }
  [[nodiscard]] std::uint64_t get64(std::uint64_t reg) { return get<std::uint64_t>(kRegisters, reg); }
  void set32(std::uint64_t reg, std::uint32_t value) { set(kRegisters, reg, value); }
  void set64(std::uint64_t reg, std::uint64_t value) { set(kRegisters, reg, value); }
  template <class T>
  T get(RegionIndex region, std::uint64_t offset) {
    T value{};
    need(device_->read(to_number(region), offset, std::as_writable_bytes(std::span(&value, 1))), "read a region");
    return value;
  }
  template <class T>
  void set(RegionIndex region, std::uint64_t offset, T value) {
    need(device_->write(to_number(region), offset, std::as_bytes(std::span(&value, 1))), "write a region");
  }

  void map();
  void unmap() { need(device_->dma_unmap(kRange), "unmap"); }
  // Pieces of a page from page `first` on; maps and kicks. 0 pieces: without end, over one page.
  void start_job(std::uint32_t first, std::uint32_t pieces, std::uint32_t pace_us = 0);
  void await_pieces(std::uint64_t count);
  void run_job(std::uint32_t first, std::uint32_t pieces);  // to its end
  // Whether the first word of the memory changes over many round trips.
  [[nodiscard]] bool memory_moves();

  void log_start() { need(device_->dma_logging_start(std::span(&kRange, 1), kPage), "start the log"); }
  // One bit a page of the range.
  [[nodiscard]] std::uint64_t log_report(IovaRange range = kRange, std::uint64_t page_size = kPage);

  void connect_interrupts();
  [[nodiscard]] bool interrupted(std::size_t vector);

 private:
  std::filesystem::path directory_;
  std::unique_ptr<FaultyEndpoint> endpoint_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<FaultyWire> wire_;  // instead of it, for defects of the wire
  OpenOptions options_;
  Fd file_;
  std::span<std::byte> memory_;
  std::vector<Fd> events_;
  std::unique_ptr<DeviceHandle> device_;
};

}  // namespace gangway::faulty
