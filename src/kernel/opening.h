// The two ways to a device of the kernel: by its node and iommufd, or by its IOMMU group and a container.
//
// Thread-safety: functions without state.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "kernel/dma_mapper.h"

namespace gangway::kernel {

// Where the kernel shows its devices.
struct Folders {
  std::filesystem::path dev = "/dev";
  std::filesystem::path sys = "/sys";
};

// An open device. It is closed before its mapper, and that before the group.
struct Opened {
  Fd group;
  std::unique_ptr<DmaMapper> mapper;
  std::shared_ptr<const Fd> device;
};

// "/dev/vfio/devices/vfio0". Errors say what is missing: the node, iommufd, a permission.
Result<Opened> open_by_node(const std::filesystem::path& node, const Folders& folders = {});

// "0000:01:00.0", or a UUID. A group without an IOMMU is refused: its device could reach any memory.
Result<Opened> open_by_group(std::string_view name, const Folders& folders = {});

}  // namespace gangway::kernel
