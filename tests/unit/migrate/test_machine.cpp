#include "test_machine.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace gangway::migrate {
namespace {

#if defined(__clang__)
#define GANGWAY_BY_A_CPU __attribute__((no_sanitize("thread"), noinline))
#else
#define GANGWAY_BY_A_CPU
#endif

// What a guest's CPU writes is no access of this program: its memory is read while it is written, which is what live
// migration is about, and a page that was caught half written is dirty and sent again. So TSan does not look.
GANGWAY_BY_A_CPU void store(volatile std::byte* to, std::span<const std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) to[i] = bytes[i];
}

}  // namespace

MarkingTracker::MarkingTracker(std::span<const BlockSpec> blocks) {
  for (const BlockSpec& block : blocks) marks_.emplace_back((block.pages + 63) / 64);
}

Result<void> MarkingTracker::start() {
  for (auto& block : marks_) {
    for (auto& word : block) word = 0;
  }
  started_ = true;
  collections_ = 0;
  return {};
}

Result<void> MarkingTracker::collect(std::size_t block, std::span<std::uint64_t> bitmap) {
  if (!started_) return fail(EINVAL, "the tracker was not started");
  if (block == 0) {
    ++collections_;
    if (on_collect) on_collect(collections_);
  }
  for (std::size_t i = 0; i < bitmap.size(); ++i) bitmap[i] |= marks_[block][i].exchange(0);
  return {};
}

Result<void> MarkingTracker::stop() {
  started_ = false;
  return {};
}

void MarkingTracker::mark(std::size_t block, std::uint64_t page) {
  marks_[block][page / 64].fetch_or(std::uint64_t{1} << (page % 64));
}

TestMachine::TestMachine(std::vector<BlockSpec> blocks) : specs_(std::move(blocks)), tracker_(specs_) {
  for (const BlockSpec& spec : specs_) {
    const std::uint64_t size = spec.pages * kPageSize;
    Fd file(::memfd_create(spec.name.c_str(), MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(size)), 0);
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    memory_.push_back({.name = spec.name,
                       .iova = {.start = {spec.iova}, .size = size},
                       .bytes = {static_cast<std::byte*>(at), size},
                       .file = file.get()});
    files_.push_back(std::move(file));
  }
}

TestMachine::~TestMachine() {
  stop_writer();
  for (const MemoryBlock& block : memory_) ::munmap(block.bytes.data(), block.bytes.size());
}

Result<void> TestMachine::pause() {
  pause_wanted_ = true;
  const std::scoped_lock lock(cpu_);
  pause_wanted_ = false;
  paused_ = true;
  running_ = false;
  return {};
}

Result<void> TestMachine::resume() {
  if (on_resume) {
    if (auto result = on_resume(); !result) return result;
  }
  running_ = true;
  let_go();
  return {};
}

void TestMachine::let_go() {
  const std::scoped_lock lock(cpu_);
  paused_ = false;
  resumed_.notify_all();
}

Result<std::vector<std::byte>> TestMachine::save_cpus() {
  if (on_save_cpus) {
    if (auto result = on_save_cpus(); !result) return std::unexpected(result.error());
  }
  const auto bytes = std::as_bytes(std::span(cpus));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

Result<void> TestMachine::load_cpus(std::span<const std::byte> state) {
  if (on_load_cpus) {
    if (auto result = on_load_cpus(); !result) return result;
  }
  cpus.assign(reinterpret_cast<const char*>(state.data()), state.size());
  return {};
}

Result<void> TestMachine::prepare_device(std::size_t index) {
  if (on_prepare) return on_prepare(index);
  return {};
}

void TestMachine::write(std::size_t block, std::uint64_t offset, std::span<const std::byte> bytes) {
  store(memory_[block].bytes.data() + offset, bytes);
  for (std::uint64_t page = offset / kPageSize; page <= (offset + bytes.size() - 1) / kPageSize; ++page) {
    tracker_.mark(block, page);
  }
}

void TestMachine::fill(std::uint64_t seed, std::uint64_t zero_every) {
  std::mt19937_64 random(seed);
  for (std::size_t block = 0; block < memory_.size(); ++block) {
    for (std::uint64_t page = 0; page < memory_[block].pages(); ++page) {
      if (zero_every != 0 && page % zero_every == 0) continue;
      const std::uint64_t word = random() | 1;
      write(block, page * kPageSize + (word % 500) * 8, std::as_bytes(std::span(&word, 1)));
    }
  }
}

void TestMachine::run_writer(std::uint64_t seed) {
  writer_ = std::jthread([this, seed](const std::stop_token& stop) { writer_loop(stop, seed); });
}

void TestMachine::stop_writer() {
  if (!writer_.joinable()) return;
  writer_.request_stop();
  let_go();
  writer_.join();
}

void TestMachine::writer_loop(const std::stop_token& stop, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  while (!stop.stop_requested()) {
    if (pause_wanted_) {
      std::this_thread::yield();
      continue;
    }
    std::unique_lock lock(cpu_);
    resumed_.wait(lock, [this] { return !paused_; });
    if (!running_) return;
    const std::size_t block = random() % memory_.size();
    const std::uint64_t word = random() % 8 == 0 ? 0 : random();
    const std::uint64_t offset = random() % (memory_[block].bytes.size() / 8) * 8;
    write(block, offset, std::as_bytes(std::span(&word, 1)));
  }
}

std::string difference(const Machine& a, const Machine& b) {
  for (std::size_t block = 0; block < a.memory().size(); ++block) {
    const auto left = a.memory()[block].bytes;
    const auto right = b.memory()[block].bytes;
    for (std::uint64_t page = 0; page < a.memory()[block].pages(); ++page) {
      if (std::memcmp(left.data() + page * kPageSize, right.data() + page * kPageSize, kPageSize) != 0) {
        return fmt::format("page {} of block {} differs", page, a.memory()[block].name);
      }
    }
  }
  return {};
}

}  // namespace gangway::migrate
