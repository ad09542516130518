// Folders that look like /sys and /dev of a machine with VFIO devices, as far as names and links go.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "kernel/opening.h"

namespace gangway::kernel {

class MadeUpMachine {
 public:
  MadeUpMachine() {
    std::string name = testing::TempDir() + "gangway-machine-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    root_ = name;
    std::filesystem::create_directories(root_ / "sys/bus");
    std::filesystem::create_directories(root_ / "dev");
  }
  ~MadeUpMachine() { std::filesystem::remove_all(root_); }
  MadeUpMachine(const MadeUpMachine&) = delete;
  MadeUpMachine& operator=(const MadeUpMachine&) = delete;

  [[nodiscard]] std::filesystem::path sys() const { return root_ / "sys"; }
  [[nodiscard]] Folders folders() const { return {.dev = root_ / "dev", .sys = root_ / "sys"}; }

  MadeUpMachine& device(const std::string& bus, const std::string& name, const std::string& driver = {}) {
    const auto folder = sys() / "devices" / name;
    std::filesystem::create_directories(folder);
    std::filesystem::create_directories(sys() / "bus" / bus / "devices");
    std::filesystem::create_symlink("../../../devices/" + name, sys() / "bus" / bus / "devices" / name);
    if (!driver.empty()) {
      std::filesystem::create_directories(sys() / "bus" / bus / "drivers" / driver);
      std::filesystem::create_symlink("../../bus/" + bus + "/drivers/" + driver, folder / "driver");
    }
    return *this;
  }
  MadeUpMachine& in_group(const std::string& name, int group) {
    const auto folder = sys() / "kernel/iommu_groups" / std::to_string(group);
    std::filesystem::create_directories(folder / "devices");
    std::filesystem::create_symlink("../../../../devices/" + name, folder / "devices" / name);
    std::filesystem::create_symlink("../../kernel/iommu_groups/" + std::to_string(group),
                                    sys() / "devices" / name / "iommu_group");
    return *this;
  }
  MadeUpMachine& with_node(const std::string& name, const std::string& node) {
    std::filesystem::create_directories(sys() / "devices" / name / "vfio-dev" / node);
    std::filesystem::create_directories(sys() / "class/vfio-dev" / node);
    std::filesystem::create_symlink("../../../devices/" + name, sys() / "class/vfio-dev" / node / "device");
    return *this;
  }
  // A file in /dev. It is no node of VFIO, so every call on it is refused.
  MadeUpMachine& file(const std::string& name) {
    std::filesystem::create_directories((root_ / "dev" / name).parent_path());
    std::ofstream(root_ / "dev" / name) << "";
    return *this;
  }

 private:
  std::filesystem::path root_;
};

}  // namespace gangway::kernel
