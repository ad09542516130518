// A small migratable device that writes down the calls it gets, and fails those that a test names.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gangway/device.h>
#include <gangway/interrupts.h>
#include <gangway/migration.h>

namespace gangway::test {

struct RecordingOptions {
  StateIdentity identity{.device_type = "recording", .model_version = 3, .compatible_with = 2};
  std::vector<std::size_t> memory_sizes;
  bool tracks_dirty = false;
};

class RecordingDevice : public Migratable {
 public:
  static constexpr std::uint64_t kBlock = 64;  // dirty tracking's granularity

  explicit RecordingDevice(RecordingOptions options = {}) : options_(std::move(options)) {
    for (const std::size_t size : options_.memory_sizes) memories_.emplace_back(size);
    dirty_.resize(memories_.size());
  }

  [[nodiscard]] DeviceInfo info() const override { return {}; }
  void attach(Bus) override {}
  Result<void> read(RegionIndex, std::uint64_t, std::span<std::byte>) override { return {}; }
  Result<void> write(RegionIndex, std::uint64_t, std::span<const std::byte>) override { return {}; }

  void reset() override {
    calls.emplace_back("reset");
    value.clear();
    for (std::vector<std::byte>& memory : memories_) std::ranges::fill(memory, std::byte{0});
  }
  Result<void> start() override { return called("start"); }
  [[nodiscard]] StateIdentity identity() const override { return options_.identity; }
  Result<void> stop_initiating() override { return called("stop_initiating"); }
  Result<void> stop() override { return called("stop"); }
  Result<void> save(StateWriter& writer) const override {
    if (fails.contains("save")) return fail(EIO, "save fails as told");
    writer.section("value", value);
    for (const StateWriter::Section& section : extra_sections) writer.section(section.name, section.bytes);
    return {};
  }
  Result<void> save_requirements(StateWriter& writer) const override {
    if (fails.contains("save_requirements")) return fail(EIO, "save_requirements fails as told");
    for (const StateWriter::Section& section : requirements) writer.section(section.name, section.bytes);
    return {};
  }
  Result<void> check_requirement(std::string_view section, std::span<const std::byte> bytes) const override {
    for (const StateWriter::Section& own : requirements) {
      if (section == own.name && !std::ranges::equal(bytes, own.bytes)) return fail(EINVAL, "another size");
    }
    return {};
  }
  Result<void> load(const StateReader& reader) override {
    if (Result<void> allowed = called("load"); !allowed) return allowed;
    const Result<std::span<const std::byte>> bytes = reader.section("value");
    if (!bytes) return std::unexpected(bytes.error());
    value.assign(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    loaded_version = reader.model_version();
    return {};
  }
  [[nodiscard]] std::uint64_t state_size() const override { return value.size(); }
  [[nodiscard]] std::vector<StateMemory> state_memory() override {
    std::vector<StateMemory> list;
    for (std::size_t i = 0; i < memories_.size(); ++i) list.push_back({"memory" + std::to_string(i), memories_[i]});
    return list;
  }

  [[nodiscard]] bool tracks_dirty() const override { return options_.tracks_dirty; }
  void track_dirty(bool on) override {
    tracking = on;
    for (std::set<std::uint64_t>& blocks : dirty_) blocks.clear();
  }
  [[nodiscard]] std::vector<DirtyRange> take_dirty(std::size_t index) override {
    std::vector<DirtyRange> ranges;
    for (const std::uint64_t block : dirty_[index]) ranges.push_back({block * kBlock, kBlock});
    dirty_[index].clear();
    return ranges;
  }
  [[nodiscard]] std::uint64_t dirty_bytes() const override {
    if (miscounted_dirty_bytes) return *miscounted_dirty_bytes;
    std::uint64_t bytes = 0;
    for (const std::set<std::uint64_t>& blocks : dirty_) bytes += blocks.size() * kBlock;
    return bytes;
  }

  [[nodiscard]] bool take_renewed() override { return std::exchange(renewed, false); }

  // The device writes its own memory, as a running one would.
  void poke(std::size_t memory, std::uint64_t offset, std::uint8_t byte) {
    memories_[memory][offset] = std::byte{byte};
    if (tracking) dirty_[memory].insert(offset / kBlock);
  }
  [[nodiscard]] const std::vector<std::byte>& memory(std::size_t index) const { return memories_[index]; }
  void fill(std::uint8_t seed) {
    for (std::vector<std::byte>& memory : memories_) {
      for (std::size_t i = 0; i < memory.size(); ++i)
        memory[i] = static_cast<std::byte>((i * 7 + i / 251 + seed) & 0xff);
    }
  }

  std::vector<std::string> calls;
  std::function<void(const std::string& call)> on_call;  // in the middle of it
  std::set<std::string> fails;
  std::string value;
  std::vector<StateWriter::Section> extra_sections;
  std::vector<StateWriter::Section> requirements;
  std::uint32_t loaded_version = 0;
  std::optional<std::uint64_t> miscounted_dirty_bytes;
  bool tracking = false;
  bool renewed = false;

 private:
  Result<void> called(const std::string& call) {
    calls.push_back(call);
    if (on_call) on_call(call);
    if (fails.contains(call)) return fail(EIO, call + " fails as told");
    return {};
  }

  RecordingOptions options_;
  std::vector<std::vector<std::byte>> memories_;
  std::vector<std::set<std::uint64_t>> dirty_;
};

// A recording device with its engine, RUNNING.
struct Rig {
  static constexpr MigrationFlags kAll{.p2p = true, .pre_copy = true};

  explicit Rig(RecordingOptions options = {}, MigrationFlags flags = kAll)
      : device(std::move(options)), migration(device, flags, interrupts) {
    if (!migration.reset()) std::abort();
    device.calls.clear();
  }
  Result<void> go(DeviceState state) { return migration.set_state(static_cast<std::uint32_t>(state)); }

  RecordingDevice device;
  Interrupts interrupts{{1, 4, 16, 1, 1}};
  Migration migration;
};

}  // namespace gangway::test
