#include "kernel/opening.h"

#include <algorithm>

#include <fmt/format.h>

#include "kernel/node.h"
#include "kernel/sysfs.h"
#include "kernel/uapi.h"

namespace gangway::kernel {
namespace {

namespace fs = std::filesystem;

// The other way to the device behind a node, as far as it is known.
std::string way_by_group(const Sysfs& sysfs, const std::string& node) {
  const std::string name = sysfs.device_of(node);
  return fmt::format("use vfio:{}", name.empty() ? "ADDRESS" : name);
}

// What to do so that VFIO serves the group of a device.
std::string how_to_bind(const std::string& name, const IommuGroup& group) {
  return fmt::format(
      "VFIO does not serve IOMMU group {0}: bind {1} to a VFIO driver, as root: modprobe vfio-pci; echo vfio-pci "
      "> /sys/bus/pci/devices/{1}/driver_override; echo {1} > /sys/bus/pci/devices/{1}/driver/unbind; echo {1} "
      "> /sys/bus/pci/drivers_probe",
      group.number, name);
}

std::string members_of(const IommuGroup& group, const std::string& but) {
  std::string text;
  for (const GroupMember& member : group.members) {
    if (member.name == but || member.driver.starts_with("vfio")) continue;
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", member.name,
                        member.driver.empty() ? "no driver" : member.driver);
  }
  return text.empty() ? "some of its devices" : text;
}

Result<Fd> open_container(const Folders& folders) {
  Result<Fd> container = open_node(folders.dev / "vfio" / "vfio",
                                   "VFIO is not loaded, or was built without groups and "
                                   "containers: modprobe vfio vfio_iommu_type1");
  if (!container) return container;
  const int version = call(container->get(), Call::GetApiVersion);
  if (version != kApiVersion) {
    return fail(EPROTO, fmt::format("{}: VFIO of version {}, not {}", (folders.dev / "vfio" / "vfio").native(), version,
                                    kApiVersion));
  }
  if (call(container->get(), Call::CheckExtension, kType1v2) <= 0) {
    return fail(ENODEV, "this kernel's containers have no type1v2 IOMMU: modprobe vfio_iommu_type1");
  }
  return container;
}

Result<Fd> open_group(const std::string& name, const IommuGroup& group, const Folders& folders) {
  const fs::path node = folders.dev / "vfio" / std::to_string(group.number);
  Result<Fd> opened = open_node(node, how_to_bind(name, group));
  if (!opened) return opened;
  GroupStatus status{.argsz = sizeof status};
  if (call(opened->get(), Call::GroupGetStatus, &status) != 0) return fail_errno(fmt::format("{}", node.native()));
  if ((status.flags & kGroupViable) == 0) {
    return fail(EBUSY, fmt::format("vfio:{}: its IOMMU group {} is not VFIO's alone: unbind {} from what drives it",
                                   name, group.number, members_of(group, name)));
  }
  return opened;
}

}  // namespace

Result<Opened> open_by_node(const fs::path& node, const Folders& folders) {
  const Sysfs sysfs(folders.sys);
  const std::string name = node.filename();
  if (name.starts_with("noiommu-")) {
    return fail(EPERM,
                fmt::format("{}: nothing would keep the device from any memory: it needs an IOMMU", node.native()));
  }
  const fs::path iommufd_node = folders.dev / "iommu";
  Result<Fd> iommufd =
      open_node(iommufd_node, fmt::format("this kernel has no iommufd: {}", way_by_group(sysfs, name)));
  if (!iommufd) return std::unexpected(iommufd.error());
  Result<Fd> device = open_node(node, "no VFIO driver serves such a device: ls /dev/vfio/devices");
  if (!device) return std::unexpected(device.error());
  Opened opened;
  opened.device = std::make_shared<const Fd>(*std::move(device));
  BindIommufd asked{.argsz = sizeof asked, .iommufd = iommufd->get()};
  if (call(opened.device->get(), Call::DeviceBindIommufd, &asked) != 0) {
    if (errno == EBUSY || errno == EINVAL) {
      return fail(errno, fmt::format("{}: the device is in use, or its IOMMU group is", node.native()));
    }
    return fail_errno(fmt::format("{}: bind to iommufd", node.native()));
  }
  opened.mapper = std::make_unique<IoasMapper>(*std::move(iommufd), opened.device);
  return opened;
}

Result<Opened> open_by_group(std::string_view name, const Folders& folders) {
  const Sysfs sysfs(folders.sys);
  const Result<std::string> whole = sysfs.find(name);
  if (!whole) return std::unexpected(whole.error());
  const Result<IommuGroup> group = sysfs.group_of(*whole);
  if (!group) return std::unexpected(group.error());
  // Such a group's node has a name of its own; a mediated device's has not, though sysfs calls both vfio-noiommu.
  std::error_code error;
  if (fs::exists(folders.dev / "vfio" / fmt::format("noiommu-{}", group->number), error)) {
    return fail(EPERM,
                fmt::format("vfio:{}: its group has no IOMMU, and nothing would keep the device from any memory: "
                            "boot with intel_iommu=on, or amd_iommu=on",
                            *whole));
  }
  Result<Fd> container = open_container(folders);
  if (!container) return std::unexpected(container.error());
  Opened opened;
  Result<Fd> group_fd = open_group(*whole, *group, folders);
  if (!group_fd) return std::unexpected(group_fd.error());
  opened.group = *std::move(group_fd);
  int container_fd = container->get();
  if (call(opened.group.get(), Call::GroupSetContainer, &container_fd) != 0) {
    return fail_errno(fmt::format("vfio:{}: put its IOMMU group {} into a container", *whole, group->number));
  }
  if (call(container->get(), Call::SetIommu, kType1v2) != 0) {
    if (errno == EPERM) {
      return fail(EPERM,
                  fmt::format("vfio:{}: its IOMMU remaps no interrupts, so that the device could raise any: if you "
                              "trust it, as root: echo 1 > /sys/module/vfio_iommu_type1/parameters/"
                              "allow_unsafe_interrupts",
                              *whole));
    }
    return fail_errno(fmt::format("vfio:{}: give its IOMMU group {} a type1v2 IOMMU", *whole, group->number));
  }
  opened.mapper = std::make_unique<ContainerMapper>(*std::move(container));
  const int device = call(opened.group.get(), Call::GroupGetDeviceFd, const_cast<char*>(whole->c_str()));
  if (device < 0) return fail_errno(fmt::format("vfio:{}: open the device", *whole));
  opened.device = std::make_shared<const Fd>(device);
  return opened;
}

}  // namespace gangway::kernel
