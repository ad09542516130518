#include "scribe_device.h"

#include <cstring>

#include "base/bytes.h"

namespace gangway::migrate {

DeviceInfo ScribeDevice::info() const {
  DeviceInfo info;
  info.pci.identity = {.vendor = 0x1b36, .device = options_.pci_device, .class_code = 0x088000};
  info.pci.bars[0] = {.size = 4096};
  info.pci.bars[1] = {.size = 4096};
  info.pci.pcie = PcieSpec{};
  info.pci.msix = MsixSpec{.vectors = options_.msix_vectors,
                           .table_bar = RegionIndex::Bar1,
                           .pba_bar = RegionIndex::Bar1,
                           .pba_offset = 2048};
  return info;
}

Result<void> ScribeDevice::read(RegionIndex, std::uint64_t offset, std::span<std::byte> out) {
  const std::scoped_lock lock(mutex_);
  const auto bytes = std::as_bytes(std::span(registers_));
  if (offset + out.size() > bytes.size()) return fail(EINVAL, "no register there");
  std::memcpy(out.data(), bytes.data() + offset, out.size());
  return {};
}

Result<void> ScribeDevice::write(RegionIndex, std::uint64_t offset, std::span<const std::byte> in) {
  if (in.size() != 8 || offset % 8 != 0 || offset / 8 >= kCount) return fail(EINVAL, "no register there");
  {
    const std::scoped_lock lock(mutex_);
    std::memcpy(&registers_[offset / 8], in.data(), 8);
  }
  halt();
  if (started_) go();
  return {};
}

void ScribeDevice::reset() {
  halt();
  const std::scoped_lock lock(mutex_);
  registers_ = {};
  started_ = false;
  std::ranges::fill(memory_, std::byte{0});
}

Result<void> ScribeDevice::start() {
  started_ = true;
  go();
  return {};
}

Result<void> ScribeDevice::stop_initiating() {
  halt();
  started_ = false;
  return {};
}

StateIdentity ScribeDevice::identity() const {
  return {.device_type = "scribe", .model_version = options_.model_version, .compatible_with = options_.model_version};
}

Result<void> ScribeDevice::save(StateWriter& writer) const {
  const std::scoped_lock lock(mutex_);
  writer.section("registers", std::as_bytes(std::span(registers_)));
  return {};
}

Result<void> ScribeDevice::load(const StateReader& reader) {
  const auto saved = reader.section("registers");
  if (!saved) return std::unexpected(saved.error());
  const std::scoped_lock lock(mutex_);
  if (saved->size() != sizeof registers_) return fail(EINVAL, "section 'registers' has the wrong size");
  std::memcpy(registers_.data(), saved->data(), sizeof registers_);
  return {};
}

void ScribeDevice::go() {
  if (thread_.joinable() || registers_[kEnable] == 0 || registers_[kSize] < 4096) return;
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void ScribeDevice::halt() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void ScribeDevice::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::uint64_t count = 0;
    Iova target;
    {
      const std::scoped_lock lock(mutex_);
      count = ++registers_[kCount];
      const std::uint64_t page = count * 37 % (registers_[kSize] / 4096);
      target = {registers_[kIova] + page * 4096 + 16};
      std::memcpy(memory_.data() + count * 8 % (memory_.size() / 8 * 8 - 8), &count, sizeof count);
    }
    if (!bus_->dma.write(target, bytes_of(count))) return;
    std::this_thread::yield();
  }
}

}  // namespace gangway::migrate
