#include "device/endpoint_regions.h"

#include <linux/pci_regs.h>

#include <algorithm>
#include <string>

#include <fmt/format.h>

namespace gangway {
namespace {

constexpr std::uint64_t kPageSize = 4096;
constexpr std::uint32_t kMaxRegions = 256;

std::unexpected<Error> refuse(RegionIndex region, std::string_view why) {
  return fail(EINVAL, fmt::format("region {}: {}", to_number(region), why));
}

bool within(std::uint64_t offset, std::uint64_t size, std::uint64_t end) {
  return offset <= end && size <= end - offset;
}

bool is_bar(RegionIndex region) { return to_number(region) <= to_number(RegionIndex::Bar5); }

Result<void> check_msix(const DeviceInfo& info, const MsixExtent& extent, std::string_view what) {
  if (!is_bar(extent.region)) return refuse(extent.region, fmt::format("the {} must lie in a BAR", what));
  const BarSpec& bar = info.pci.bars[to_number(extent.region)];
  if (bar.kind == BarSpec::Kind::Io || !within(extent.offset, extent.size, bar.size)) {
    return refuse(extent.region, fmt::format("the {} of {:#x} bytes at {:#x} does not fit a memory BAR of {:#x}", what,
                                             extent.size, extent.offset, bar.size));
  }
  return {};
}

Result<void> check_msix(const DeviceInfo& info) {
  if (!info.pci.msix) return {};
  const MsixExtent table = table_extent(*info.pci.msix);
  const MsixExtent pba = pba_extent(*info.pci.msix);
  if (auto fits = check_msix(info, table, "MSI-X table"); !fits) return fits;
  if (auto fits = check_msix(info, pba, "PBA"); !fits) return fits;
  if (table.overlaps(pba.region, pba.offset, pba.size))
    return refuse(pba.region, "the MSI-X table and the PBA overlap");
  return {};
}

Result<void> check_mappable(const DeviceInfo& info, RegionIndex region, const RegionSpec& spec, std::uint64_t size) {
  if (spec.mappable.empty()) return {};
  if (spec.file == nullptr || !*spec.file) return refuse(region, "a part may be mapped, but there is no file");
  std::uint64_t end = 0;
  for (const MappableArea& area : spec.mappable) {
    const std::string name = fmt::format("the mappable area of {:#x} bytes at {:#x}", area.size, area.offset);
    if (area.size == 0 || (area.offset | area.size | spec.file_offset) % kPageSize != 0) {
      return refuse(region, name + " is empty or not aligned to a page");
    }
    if (!within(area.offset, area.size, size)) return refuse(region, name + " crosses the end");
    if (area.offset < end) return refuse(region, name + " overlaps or precedes another");
    end = area.offset + area.size;
    if (!info.pci.msix) continue;
    for (const MsixExtent& extent : {table_extent(*info.pci.msix), pba_extent(*info.pci.msix)}) {
      if (extent.overlaps(region, area.offset, area.size)) return refuse(region, name + " covers an MSI-X structure");
    }
  }
  return {};
}

Result<std::uint64_t> region_size(const DeviceInfo& info, RegionIndex region, const RegionSpec& spec) {
  if (region == RegionIndex::Config) return refuse(region, "config space is described by the PCI spec alone");
  if (region == RegionIndex::Rom) return refuse(region, "an expansion ROM is not supported");
  if (!is_bar(region)) return spec.size;
  const std::uint64_t size = info.pci.bars[to_number(region)].size;
  if (spec.size != 0 && spec.size != size) {
    return refuse(region, fmt::format("size {:#x} differs from the BAR's, {:#x}", spec.size, size));
  }
  return size;
}

Result<void> check_io_eventfds(const DeviceInfo& info, const std::vector<RegionInfo>& regions) {
  for (const auto& [region, eventfds] : info.io_eventfds) {
    for (const IoEventfd& eventfd : eventfds) {
      const std::uint64_t size = to_number(region) < regions.size() ? regions[to_number(region)].size : 0;
      if (eventfd.eventfd == nullptr || eventfd.offset >= size || !within(eventfd.offset, eventfd.size, size)) {
        return refuse(region, fmt::format("an I/O eventfd at {:#x} lies outside or has no descriptor", eventfd.offset));
      }
    }
  }
  return {};
}

}  // namespace

MsixExtent table_extent(const MsixSpec& spec) {
  return {spec.table_bar, spec.table_offset, std::uint64_t{spec.vectors} * PCI_MSIX_ENTRY_SIZE};
}

MsixExtent pba_extent(const MsixSpec& spec) {
  return {spec.pba_bar, spec.pba_offset, (std::uint64_t{spec.vectors} + 63) / 64 * 8};
}

Result<std::vector<RegionInfo>> describe_regions(const DeviceInfo& info) {
  if (auto checked = check_msix(info); !checked) return std::unexpected(std::move(checked.error()));
  std::vector<RegionInfo> regions(to_number(RegionIndex::FirstDeviceSpecific));
  for (std::size_t i = 0; i < info.pci.bars.size(); ++i) {
    const std::uint64_t size = info.pci.bars[i].size;
    regions[i] = {.size = size, .read = size != 0, .write = size != 0};
  }
  regions[to_number(RegionIndex::Config)] = {.size = ConfigSpace::kSize, .read = true, .write = true};

  for (const auto& [region, spec] : info.regions) {
    if (to_number(region) >= kMaxRegions) return refuse(region, fmt::format("there may be {} regions", kMaxRegions));
    const auto size = region_size(info, region, spec);
    if (!size) return std::unexpected(size.error());
    if (auto checked = check_mappable(info, region, spec, *size); !checked) {
      return std::unexpected(std::move(checked.error()));
    }
    if (to_number(region) >= regions.size()) regions.resize(to_number(region) + 1);
    RegionInfo& described = regions[to_number(region)];
    described.size = *size;
    described.read = spec.read && *size != 0;
    described.write = spec.write && *size != 0;
    described.mappable = spec.mappable;
    if (!spec.mappable.empty()) {
      described.file = spec.file->get();
      described.file_offset = spec.file_offset;
    }
  }
  if (auto checked = check_io_eventfds(info, regions); !checked) return std::unexpected(std::move(checked.error()));
  return regions;
}

}  // namespace gangway
