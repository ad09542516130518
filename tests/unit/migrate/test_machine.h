// A machine for tests: memory in memfds, a "CPU" thread that writes it and tells the tracker, devices if given.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gangway/fd.h>

#include "migrate/machine.h"

namespace gangway::migrate {

struct BlockSpec {
  std::string name;
  std::uint64_t iova = 0;
  std::uint64_t pages = 0;
};

// Knows what was written because the writers say so, before and after: a page is always marked after it was written,
// and again if the mark was taken in between.
class MarkingTracker : public DirtyTracker {
 public:
  explicit MarkingTracker(std::span<const BlockSpec> blocks);
  Result<void> start() override;
  Result<void> collect(std::size_t block, std::span<std::uint64_t> bitmap) override;
  Result<void> stop() override;
  [[nodiscard]] std::string_view method() const override { return "marks"; }

  void mark(std::size_t block, std::uint64_t page);
  [[nodiscard]] bool started() const { return started_; }
  [[nodiscard]] int collections() const { return collections_; }

  // Called at the begin of every collect() of block 0, with its number from 1.
  std::function<void(int)> on_collect;

 private:
  std::vector<std::vector<std::atomic<std::uint64_t>>> marks_;
  std::atomic<bool> started_{false};
  std::atomic<int> collections_{0};
};

class TestMachine : public Machine {
 public:
  explicit TestMachine(std::vector<BlockSpec> blocks = {{"ram0", 0, 256}});
  ~TestMachine() override;

  [[nodiscard]] std::span<const MemoryBlock> memory() const override { return memory_; }
  [[nodiscard]] DirtyTracker& dirty_tracker() override { return tracker_; }
  [[nodiscard]] std::span<const MachineDevice> devices() const override { return devices_; }
  Result<void> pause() override;
  Result<void> resume() override;
  Result<std::vector<std::byte>> save_cpus() override;
  Result<void> load_cpus(std::span<const std::byte> state) override;
  Result<void> prepare_device(std::size_t index) override;

  // As a CPU does it.
  void write(std::size_t block, std::uint64_t offset, std::span<const std::byte> bytes);
  // Every page whose number is not a multiple of `zero_every` gets bytes of its own; 0: all.
  void fill(std::uint64_t seed, std::uint64_t zero_every = 0);

  // A thread that writes random pages until the machine is paused; writing a page is one step.
  void run_writer(std::uint64_t seed);
  void stop_writer();

  [[nodiscard]] MarkingTracker& tracker() { return tracker_; }
  [[nodiscard]] bool running() const { return running_; }
  [[nodiscard]] std::span<std::byte> bytes(std::size_t block) { return memory_[block].bytes; }
  [[nodiscard]] int file(std::size_t block) const { return memory_[block].file; }
  void set_running(bool running) { running_ = running; }

  std::vector<MachineDevice> devices_;
  std::string cpus = "cpu state";
  std::function<Result<void>(std::size_t)> on_prepare;
  std::function<Result<void>()> on_resume;
  std::function<Result<void>()> on_save_cpus;
  std::function<Result<void>()> on_load_cpus;

 private:
  void let_go();
  void writer_loop(const std::stop_token& stop, std::uint64_t seed);

  std::vector<BlockSpec> specs_;
  std::vector<Fd> files_;
  std::vector<MemoryBlock> memory_;
  MarkingTracker tracker_;
  std::mutex cpu_;  // held while a CPU works
  std::condition_variable resumed_;
  bool paused_ = false;
  std::atomic<bool> running_{true};
  std::atomic<bool> pause_wanted_{false};  // the writer leaves the CPU to who pauses
  std::jthread writer_;
};

// The first page that differs, as a sentence; empty when all are equal.
std::string difference(const Machine& a, const Machine& b);

}  // namespace gangway::migrate
