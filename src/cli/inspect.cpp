#include <fmt/format.h>

#include <gangway/device_handle.h>
#include <gangway/migration_region.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/json_text.h"
#include "base/log.h"
#include "cli/command.h"

namespace gangway::cli {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::string_view, 9> kRegionNames{"BAR0", "BAR1", "BAR2",   "BAR3", "BAR4",
                                                       "BAR5", "ROM",  "config", "VGA"};
constexpr std::array<std::string_view, kIrqTypes> kIrqNames{"INTx", "MSI", "MSI-X", "ERR", "REQ"};
constexpr std::pair<Feature, std::string_view> kFeatures[] = {
    {Feature::Migration, "MIGRATION"},
    {Feature::MigDeviceState, "MIG_DEVICE_STATE"},
    {Feature::DmaLoggingStart, "DMA_LOGGING_START"},
    {Feature::DmaLoggingStop, "DMA_LOGGING_STOP"},
    {Feature::DmaLoggingReport, "DMA_LOGGING_REPORT"},
    {Feature::MigDataSize, "MIG_DATA_SIZE"},
    {Feature::MigPrecopyInfoV2, "MIG_PRECOPY_INFOv2"},
};

std::string hex(std::uint64_t value, int digits) { return fmt::format("0x{:0{}x}", value, digits); }

template <class T>
Result<T> read_config(DeviceHandle& device, std::uint64_t offset) {
  std::array<std::byte, sizeof(T)> bytes{};
  if (auto read = device.read(to_number(RegionIndex::Config), offset, bytes); !read)
    return std::unexpected(read.error());
  return *load_at<T>(bytes);
}

Result<ordered_json> identity(DeviceHandle& device) {
  ordered_json out;
  const std::array<std::pair<const char*, std::uint64_t>, 4> ids{
      {{"vendor", 0x00}, {"device", 0x02}, {"subsystem_vendor", 0x2c}, {"subsystem", 0x2e}}};
  for (const auto& [name, offset] : ids) {
    const auto id = read_config<std::uint16_t>(device, offset);
    if (!id) return std::unexpected(id.error());
    out[name] = hex(*id, 4);
  }
  const auto class_and_revision = read_config<std::uint32_t>(device, 0x08);
  if (!class_and_revision) return std::unexpected(class_and_revision.error());
  out["class"] = hex(*class_and_revision >> 8, 6);
  out["revision"] = *class_and_revision & 0xff;
  return out;
}

Result<ordered_json> regions(DeviceHandle& device, std::uint32_t count) {
  ordered_json out = ordered_json::array();
  for (std::uint32_t index = 0; index < count; ++index) {
    const auto region = device.region(index);
    if (!region) return fail_within(fmt::format("region {}", index), region.error());
    if (region->size == 0) continue;
    ordered_json entry{{"index", index},
                       {"name", index < kRegionNames.size() ? std::string(kRegionNames[index]) : "device-specific"},
                       {"size", region->size},
                       {"read", region->read},
                       {"write", region->write}};
    ordered_json mappable = ordered_json::array();
    for (const MappableArea& area : region->areas) mappable.push_back({{"offset", area.offset}, {"size", area.size}});
    if (region->mmap && region->areas.empty()) mappable.push_back({{"offset", 0}, {"size", region->size}});
    entry["mappable"] = std::move(mappable);
    if (region->type) entry["type"] = {{"type", *region->type}, {"subtype", region->subtype.value_or(0)}};
    out.push_back(std::move(entry));
  }
  return out;
}

Result<ordered_json> interrupts(DeviceHandle& device, std::uint32_t count) {
  ordered_json out = ordered_json::array();
  for (std::uint32_t index = 0; index < count; ++index) {
    const auto irq = device.irq(index);
    if (!irq) return fail_within(fmt::format("interrupt type {}", index), irq.error());
    if (irq->count == 0) continue;
    out.push_back({{"index", index},
                   {"name", index < kIrqNames.size() ? std::string(kIrqNames[index]) : "device-specific"},
                   {"count", irq->count},
                   {"maskable", (irq->flags & kIrqMaskable) != 0},
                   {"automasked", (irq->flags & kIrqAutomasked) != 0},
                   {"noresize", (irq->flags & kIrqNoresize) != 0}});
  }
  return out;
}

ordered_json migration(DeviceHandle& device) {
  const auto flags = device.migration_flags();
  if (!flags) return {{"revision", nullptr}, {"why", flags.error().message}};
  ordered_json names = ordered_json::array({"STOP_COPY"});
  if (flags->p2p) names.push_back("P2P");
  if (flags->pre_copy) names.push_back("PRE_COPY");
  ordered_json out{{"revision", "v2"}, {"flags", flags->bits()}, {"flag_names", std::move(names)}};
  if (const auto state = device.state()) out["state"] = contract::name(*state);
  if (const auto size = device.data_size()) out["data_size"] = *size;
  return out;
}

// The revisions that a client finds by a region; looking drives none (V1-ONE).
ordered_json migration_regions(DeviceHandle& device) {
  ordered_json out = ordered_json::array();
  for (const Revision revision : {Revision::V1, Revision::RegionV2}) {
    auto region = MigrationRegionClient::find(device, revision, {.map = false});
    if (!region || !*region) continue;
    ordered_json entry{{"revision", contract::name(revision)}, {"region", (*region)->region()}};
    if (const auto state = (*region)->state()) entry["state"] = contract::name(*state);
    out.push_back(std::move(entry));
  }
  return out;
}

ordered_json features(DeviceHandle& device) {
  ordered_json out = ordered_json::array();
  for (const auto& [feature, name] : kFeatures) {
    ordered_json methods = ordered_json::array();
    if (device.feature_probe(feature, true, false)) methods.push_back("GET");
    if (device.feature_probe(feature, false, true)) methods.push_back("SET");
    if (!methods.empty()) {
      out.push_back({{"index", static_cast<std::uint16_t>(feature)}, {"name", name}, {"methods", std::move(methods)}});
    }
  }
  return out;
}

Result<ordered_json> describe(DeviceHandle& device) {
  const auto info = device.info();
  if (!info) return std::unexpected(info.error());
  ordered_json out{{"target", device.target()}, {"pci", info->pci}, {"reset", info->reset}};
  auto id = identity(device);
  if (!id) return std::unexpected(id.error());
  out["identity"] = std::move(*id);
  auto all_regions = regions(device, info->regions);
  if (!all_regions) return std::unexpected(all_regions.error());
  out["regions"] = std::move(*all_regions);
  auto irqs = interrupts(device, info->irqs);
  if (!irqs) return std::unexpected(irqs.error());
  out["interrupts"] = std::move(*irqs);
  out["migration"] = migration(device);
  out["migration_regions"] = migration_regions(device);
  out["features"] = features(device);
  return out;
}

std::string joined(const ordered_json& strings) {
  std::string text;
  for (const ordered_json& part : strings) text += (text.empty() ? "" : ", ") + part.get<std::string>();
  return text;
}

void print(const ordered_json& device) {
  const ordered_json& id = device["identity"];
  const auto text = [](const ordered_json& value) { return value.get<std::string>(); };
  fmt::print("{}\n", text(device["target"]));
  fmt::print("  identity    {}:{} subsystem {}:{} class {} revision {}\n", text(id["vendor"]), text(id["device"]),
             text(id["subsystem_vendor"]), text(id["subsystem"]), text(id["class"]), id["revision"].get<int>());
  fmt::print("  reset       {}\n", device["reset"].get<bool>() ? "yes" : "no");
  for (const ordered_json& region : device["regions"]) {
    fmt::print("  region {:<4} {:<16}{:#x} bytes, {}{}", region["index"].get<int>(), text(region["name"]),
               region["size"].get<std::uint64_t>(), region["read"].get<bool>() ? "r" : "-",
               region["write"].get<bool>() ? "w" : "-");
    for (const ordered_json& area : region["mappable"]) {
      fmt::print(", mappable {:#x}+{:#x}", area["offset"].get<std::uint64_t>(), area["size"].get<std::uint64_t>());
    }
    fmt::print("\n");
  }
  for (const ordered_json& irq : device["interrupts"]) {
    fmt::print("  interrupt {:<1} {:<16}{}\n", irq["index"].get<int>(), text(irq["name"]), irq["count"].get<int>());
  }
  const ordered_json& migration = device["migration"];
  if (migration["revision"].is_null()) {
    fmt::print("  migration   none{}: {}\n", device["migration_regions"].empty() ? "" : " by v2",
               text(migration["why"]));
  } else {
    fmt::print("  migration   {}, flags {} ({}), state {}, about {} bytes\n", text(migration["revision"]),
               migration["flags"].get<int>(), joined(migration["flag_names"]), migration.value("state", "unknown"),
               migration.value("data_size", std::uint64_t{0}));
  }
  for (const ordered_json& region : device["migration_regions"]) {
    fmt::print("  migration   {}, region {}, state {}\n", text(region["revision"]), region["region"].get<int>(),
               region.value("state", "unknown"));
  }
  for (const ordered_json& feature : device["features"]) {
    fmt::print("  feature {:<3} {:<20}{}\n", feature["index"].get<int>(), text(feature["name"]),
               joined(feature["methods"]));
  }
}

int inspect(const std::string& target, bool as_json) {
  const auto device = open_device(target);
  if (!device) {
    log::error("{}", device.error().message);
    return kCannotRun;
  }
  const auto description = describe(**device);
  if (!description) {
    log::error("{}: {}", target, description.error().message);
    return kFailure;
  }
  if (as_json) {
    fmt::print("{}\n", json_text(*description, 2));
  } else {
    print(*description);
  }
  return kSuccess;
}

}  // namespace

void add_inspect(CLI::App& app, int& status) {
  CLI::App* command =
      app.add_subcommand("inspect", "Show a device: identity, regions, interrupts, migration, features");
  auto target = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("target", *target, "vfio-user:SOCKET, vfio:ADDRESS, vfio:UUID or /dev/vfio/devices/vfioN")
      ->required();
  command->add_flag("--json", *json, "One JSON object");
  command->footer(
      "A client takes the device for itself: while a guest drives it, inspect waits its turn, or is refused by the "
      "kernel.\n\n"
      "Targets:\n"
      "  vfio-user:SOCKET          a device process\n"
      "  vfio:ADDRESS, vfio:UUID   a device of the kernel, by its IOMMU group: a PCI address, a mediated device's "
      "UUID\n"
      "  /dev/vfio/devices/vfioN   a device of the kernel, by iommufd\n\n"
      "Examples:\n"
      "  gangway inspect vfio-user:/run/nvme.sock\n"
      "  gangway inspect vfio:0000:01:00.0 --json");
  command->callback([target, json, &status] { status = inspect(*target, *json); });
}

}  // namespace gangway::cli
