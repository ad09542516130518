#include <gangway/endpoint.h>

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "device/endpoint_regions.h"
#include "device/msix_table.h"
#include "device/region_front_end.h"

namespace gangway {
namespace {

std::array<std::uint32_t, kIrqTypes> irq_counts(const DeviceInfo& info) {
  std::array<std::uint32_t, kIrqTypes> counts{};
  counts[to_number(IrqType::Intx)] = info.pci.intx ? 1 : 0;
  counts[to_number(IrqType::Msi)] = info.pci.msi ? info.pci.msi->vectors : 0;
  counts[to_number(IrqType::Msix)] = info.pci.msix ? info.pci.msix->vectors : 0;
  counts[to_number(IrqType::Err)] = info.err_irq ? 1 : 0;
  counts[to_number(IrqType::Req)] = info.req_irq ? 1 : 0;
  return counts;
}

std::string describe(std::string_view direction, std::uint32_t region, std::uint64_t offset, std::size_t size) {
  return fmt::format("region {}: {} of {} bytes at {:#x}", region, direction, size, offset);
}

}  // namespace

Endpoint::Endpoint(std::unique_ptr<DmaLog> log, std::size_t max_dma_maps)
    : log_(std::move(log)), dma_(*log_, max_dma_maps) {}

Endpoint::~Endpoint() = default;

Result<std::unique_ptr<Endpoint>> Endpoint::create(std::unique_ptr<Device> device, EndpointOptions options) {
  std::unique_ptr<Endpoint> endpoint(new Endpoint(std::make_unique<DmaLog>(), options.max_dma_maps));
  if (auto taken = endpoint->take_up(std::move(device), options); !taken) return std::unexpected(taken.error());
  return endpoint;
}

Result<void> Endpoint::take_up(std::unique_ptr<Device> device, const EndpointOptions& options) {
  info_ = device->info();
  auto config = ConfigSpace::create(info_.pci);
  if (!config) return std::unexpected(std::move(config.error()));
  config_ = std::move(*config);
  auto regions = describe_regions(info_);
  if (!regions) return std::unexpected(std::move(regions.error()));
  regions_ = std::move(*regions);
  interrupts_ = std::make_unique<Interrupts>(irq_counts(info_));
  if (info_.pci.msix) msix_ = std::make_unique<MsixTable>(*info_.pci.msix, *interrupts_);

  device_ = std::move(device);
  device_->attach({dma_, *interrupts_});
  auto* const migratable = dynamic_cast<Migratable*>(device_.get());
  if (migratable != nullptr && !options.revisions.none()) {
    migration_ = make_migration(*migratable, options.flags, *interrupts_);
    revisions_ = options.revisions;
    if (auto added = add_front_ends(); !added) return added;
  }
  return reset();  // FSM-INITIAL
}

std::unique_ptr<Migration> Endpoint::make_migration(Migratable& device, MigrationFlags flags, Interrupts& interrupts) {
  return std::make_unique<Migration>(device, flags, interrupts);
}

std::uint32_t Endpoint::region_count() const { return static_cast<std::uint32_t>(regions_.size()); }

std::uint32_t Endpoint::irq_count() const { return kIrqTypes; }

std::optional<RegionInfo> Endpoint::region(std::uint32_t index) const {
  if (index >= regions_.size()) return std::nullopt;
  return regions_[index];
}

std::span<const IoEventfd> Endpoint::io_eventfds(std::uint32_t region) const {
  const auto found = info_.io_eventfds.find(static_cast<RegionIndex>(region));
  if (found == info_.io_eventfds.end()) return {};
  return found->second;
}

Result<void> Endpoint::check_access(Direction direction, std::uint32_t region, std::uint64_t offset,
                                    std::size_t size) const {
  const std::string_view verb = direction == Direction::Read ? "read" : "write";
  if (region >= regions_.size()) {
    return fail(EINVAL, describe(verb, region, offset, size) + ": no such region");
  }
  const RegionInfo& info = regions_[region];
  if (offset > info.size || size > info.size - offset) {
    return fail(EINVAL,
                fmt::format("{} crosses the end (size {:#x})", describe(verb, region, offset, size), info.size));
  }
  if (!(direction == Direction::Read ? info.read : info.write)) {
    return fail(EPERM, describe(verb, region, offset, size) + ": the region does not allow it");
  }
  return {};
}

template <class Access>
Result<void> Endpoint::with_device(Access&& access) {
  if (migration_) return migration_->with_state(std::forward<Access>(access));
  return access(false);
}

template <class DeviceAccess, class MsixAccess>
Result<void> Endpoint::split(RegionIndex region, std::uint64_t offset, std::size_t size, DeviceAccess&& device,
                             MsixAccess&& msix) {
  for (std::size_t done = 0; done < size;) {
    const auto stretch =
        msix_ ? msix_->stretch_at(region, offset + done, size - done) : MsixTable::Stretch{size - done, false};
    auto answered = stretch.msix ? msix(done, stretch.size) : device(done, stretch.size);
    if (!answered) return answered;
    done += stretch.size;
  }
  return {};
}

Result<void> Endpoint::read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) {
  if (auto checked = check_access(Direction::Read, region, offset, out.size()); !checked) return checked;
  const auto index = static_cast<RegionIndex>(region);
  if (RegionFrontEnd* const migration = front_end(region)) return read_front_end(*migration, offset, out);
  if (index == RegionIndex::Config) {  // STP-CONFIG: in every state
    config_->set_intx_status(interrupts_->intx_asserted());
    config_->read(offset, out);
    return {};
  }
  return with_device([&](bool stopped) { return read_region(index, offset, out, stopped); });
}

Result<void> Endpoint::write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) {
  if (auto checked = check_access(Direction::Write, region, offset, in.size()); !checked) return checked;
  const auto index = static_cast<RegionIndex>(region);
  if (RegionFrontEnd* const migration = front_end(region)) return write_front_end(*migration, offset, in);
  if (index == RegionIndex::Config) return write_config(offset, in);
  return with_device([&](bool stopped) { return write_region(index, offset, in, stopped); });
}

Result<void> Endpoint::write_config(std::uint64_t offset, std::span<const std::byte> in) {
  if (config_->write(offset, in) == ConfigSpace::Effect::FunctionLevelReset) return reset();
  return {};
}

Result<void> Endpoint::read_region(RegionIndex region, std::uint64_t offset, std::span<std::byte> out, bool stopped) {
  const auto spec = info_.regions.find(region);
  const bool changes_device = spec != info_.regions.end() && spec->second.reads_change_state;
  return split(
      region, offset, out.size(),
      [&](std::size_t at, std::size_t size) -> Result<void> {
        const auto target = out.subspan(at, size);
        if (!stopped || !changes_device) return device_->read(region, offset + at, target);
        std::ranges::fill(target, std::byte{0xff});  // STP-QUIET: the read must not change the device
        return {};
      },
      [&](std::size_t at, std::size_t size) -> Result<void> {
        msix_->read(region, offset + at, out.subspan(at, size));
        return {};
      });
}

Result<void> Endpoint::write_region(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in,
                                    bool stopped) {
  const auto refuse_stopped = [&](std::size_t at, std::size_t size) -> Result<void> {
    if (!stopped) return {};
    return fail(EBUSY, describe("write", to_number(region), offset + at, size) + ": the device is stopped",
                "STP-ACCESS");
  };
  const auto nothing = [](std::size_t, std::size_t) -> Result<void> { return {}; };
  // Before anything is written, so that a refused access changes nothing.
  if (auto allowed = split(region, offset, in.size(), refuse_stopped, nothing); !allowed) return allowed;
  return split(
      region, offset, in.size(),
      [&](std::size_t at, std::size_t size) { return device_->write(region, offset + at, in.subspan(at, size)); },
      [&](std::size_t at, std::size_t size) -> Result<void> {
        msix_->write(region, offset + at, in.subspan(at, size));
        return {};
      });
}

Result<void> Endpoint::reset() {
  return dma_.during_reset([this] { return reset_all(); });
}

Result<void> Endpoint::reset_all() {
  config_->reset();
  if (msix_) msix_->reset();
  for (const auto& migration : front_ends_) migration->reset();
  if (migration_) return migration_->reset();
  device_->reset();
  interrupts_->reset();
  return device_->start();
}

Result<void> Endpoint::client_gone() {
  auto running = reset();
  dma_.unmap_all();
  dma_.release_share();
  interrupts_->clear();
  std::ignore = log_->stop();  // an error says that it was not started
  driven_.reset();
  return running;
}

}  // namespace gangway
