// Finds what the kernel says of a device under /sys: its name, its IOMMU group, and who else is in it.
//
// Thread-safety: values.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/error.h>

namespace gangway::kernel {

struct GroupMember {
  std::string name;
  std::string driver;  // empty: none
};

struct IommuGroup {
  unsigned number = 0;
  std::vector<GroupMember> members;
};

class Sysfs {
 public:
  explicit Sysfs(std::filesystem::path root = "/sys") : root_(std::move(root)) {}

  // The whole name of a device on any bus: "0000:01:00.0" of "01:00.0", a UUID of a mediated device.
  [[nodiscard]] Result<std::string> find(std::string_view name) const;
  // Of a device that find() named.
  [[nodiscard]] Result<IommuGroup> group_of(const std::string& name) const;
  // The node in /dev/vfio/devices of such a device, "vfio0"; empty if it has none.
  [[nodiscard]] std::string node_of(const std::string& name) const;
  // The other way round; empty if there is no such node.
  [[nodiscard]] std::string device_of(const std::string& node) const;

 private:
  [[nodiscard]] std::filesystem::path folder_of(const std::string& name) const;

  std::filesystem::path root_;
};

}  // namespace gangway::kernel
