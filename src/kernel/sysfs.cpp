#include "kernel/sysfs.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace gangway::kernel {
namespace {

namespace fs = std::filesystem;

// Where a link leads, by its last name; empty if it is none.
std::string end_of_link(const fs::path& link) {
  std::error_code error;
  const fs::path leads_to = fs::read_symlink(link, error);
  return error ? std::string() : leads_to.filename().string();
}

// What lies in a folder; nothing if it is none.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    entries.push_back(entry->path());
  }
  std::ranges::sort(entries);
  return entries;
}

std::optional<unsigned> number_in(const std::string& text) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

fs::path Sysfs::folder_of(const std::string& name) const {
  for (const fs::path& bus : entries_of(root_ / "bus")) {
    std::error_code error;
    fs::path folder = bus / "devices" / name;
    if (fs::exists(folder, error)) return folder;
  }
  return {};
}

Result<std::string> Sysfs::find(std::string_view name) const {
  // A name that leads elsewhere is none.
  if (!name.empty() && name.find('/') == std::string_view::npos && !name.starts_with('.')) {
    for (const std::string& whole : {std::string(name), fmt::format("0000:{}", name)}) {
      if (!folder_of(whole).empty()) return whole;
    }
  }
  return fail(ENODEV, fmt::format("vfio:{}: no bus has a device of that name: say a PCI address, such as 0000:01:00.0 "
                                  "(lspci -D lists them), or a mediated device's UUID",
                                  name));
}

Result<IommuGroup> Sysfs::group_of(const std::string& name) const {
  const std::string number = end_of_link(folder_of(name) / "iommu_group");
  IommuGroup group;
  if (const std::optional<unsigned> found = number_in(number)) {
    group.number = *found;
  } else if (const std::string node = node_of(name); !node.empty()) {
    return fail(ENODEV, fmt::format("vfio:{}: this kernel has no VFIO groups: use /dev/vfio/devices/{}", name, node));
  } else {
    return fail(ENODEV, fmt::format("vfio:{}: it is in no IOMMU group: the machine has no IOMMU, or it is off "
                                    "(boot with intel_iommu=on, or amd_iommu=on)",
                                    name));
  }
  for (const fs::path& member : entries_of(root_ / "kernel" / "iommu_groups" / number / "devices")) {
    group.members.push_back({member.filename().string(), end_of_link(member / "driver")});
  }
  return group;
}

std::string Sysfs::node_of(const std::string& name) const {
  const std::vector<fs::path> nodes = entries_of(folder_of(name) / "vfio-dev");
  return nodes.empty() ? std::string() : nodes.front().filename().string();
}

std::string Sysfs::device_of(const std::string& node) const {
  return end_of_link(root_ / "class" / "vfio-dev" / node / "device");
}

}  // namespace gangway::kernel
