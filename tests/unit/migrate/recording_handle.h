// A handle that writes down the calls that matter to the order of things, and fails those that a test names.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gangway/device_handle.h>

namespace gangway::migrate {

class RecordingHandle : public DeviceHandle {
 public:
  using Log = std::vector<std::string>;

  explicit RecordingHandle(std::unique_ptr<DeviceHandle> inner) : inner_(std::move(inner)) {}

  // Shared by the devices of a machine: "a: STOP_COPY", "a: reset", "a: prepared".
  void record_into(std::shared_ptr<Log> log, std::string name) {
    log_ = std::move(log);
    name_ = std::move(name);
  }
  void record(const std::string& what) {
    if (log_) log_->push_back(name_ + ": " + what);
  }
  // The next `times` calls of this kind fail: a state's name, "state", "read_data", "write_data", "settle", "config",
  // "log start", "log report". "late RUNNING" and the like are carried out, and fail nevertheless.
  void fail_next(const std::string& what, int times = 1) { failures_[what] = times; }
  void clear_failures() { failures_.clear(); }

  Result<Info> info() override { return inner_->info(); }
  Result<Region> region(std::uint32_t index) override { return inner_->region(index); }
  Result<IrqInfo> irq(std::uint32_t index) override { return inner_->irq(index); }
  Result<void> read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) override {
    if (region == 7 && fails("config")) return failure("config");
    return inner_->read(region, offset, out);
  }
  Result<void> write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) override {
    if (region == 7) config_writes.push_back(offset);
    return inner_->write(region, offset, in);
  }
  Result<void> set_irqs(IrqSet request) override { return inner_->set_irqs(std::move(request)); }
  Result<void> dma_map(const DmaMap& request) override { return inner_->dma_map(request); }
  Result<void> dma_unmap(IovaRange range) override { return inner_->dma_unmap(range); }
  Result<void> reset() override {
    record("reset");
    return inner_->reset();
  }
  Result<std::vector<std::byte>> feature_get(Feature feature, std::span<const std::byte> data,
                                             std::size_t reply_size) override {
    return inner_->feature_get(feature, data, reply_size);
  }
  Result<std::vector<std::byte>> feature_set(Feature feature, std::span<const std::byte> data) override {
    return inner_->feature_set(feature, data);
  }
  Result<void> feature_probe(Feature feature, bool get, bool set) override {
    return inner_->feature_probe(feature, get, set);
  }
  Result<MigrationFlags> migration_flags() override { return inner_->migration_flags(); }
  Result<DeviceState> state() override {
    if (fails("state")) return failure("state");
    return inner_->state();
  }
  Result<void> set_state(DeviceState state) override {
    const std::string name(contract::name(state));
    record(name);
    if (fails(name)) return failure(name);
    auto set = inner_->set_state(state);
    if (fails("late " + name)) return failure("late " + name);
    return set;
  }
  Result<void> set_state_number(std::uint32_t state) override { return inner_->set_state_number(state); }
  Result<std::uint64_t> data_size() override { return inner_->data_size(); }
  Result<StreamRead> read_data(std::span<std::byte> out) override {
    if (fails("read_data")) return failure("read_data");
    return inner_->read_data(out);
  }
  Result<void> write_data(std::span<const std::byte> in) override {
    if (fails("write_data")) return failure("write_data");
    return inner_->write_data(in);
  }
  Result<void> settle() override {
    if (fails("settle")) return failure("settle");
    return inner_->settle();
  }
  Result<PrecopyInfo> precopy_info() override { return inner_->precopy_info(); }
  Result<std::uint64_t> dma_logging_start(std::span<const IovaRange> ranges, std::uint64_t page_size) override {
    record("log start");
    if (fails("log start")) return failure("log start");
    return inner_->dma_logging_start(ranges, page_size);
  }
  Result<void> dma_logging_stop() override {
    record("log stop");
    return inner_->dma_logging_stop();
  }
  Result<void> dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) override {
    if (fails("log report")) return failure("log report");
    return inner_->dma_logging_report(range, page_size, bitmap);
  }
  [[nodiscard]] std::string target() const override { return inner_->target(); }

  std::vector<std::uint64_t> config_writes;  // offsets

 private:
  bool fails(const std::string& what) {
    const auto found = failures_.find(what);
    return found != failures_.end() && found->second-- > 0;
  }
  static std::unexpected<Error> failure(const std::string& what) { return fail(EIO, what + " fails as told"); }

  std::unique_ptr<DeviceHandle> inner_;
  std::shared_ptr<Log> log_;
  std::string name_;
  std::map<std::string, int> failures_;
};

}  // namespace gangway::migrate
