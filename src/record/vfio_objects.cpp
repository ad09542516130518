#include "record/vfio_objects.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace gangway::record {
namespace {

using Role = CallRecord::Role;

bool same_file(std::pair<pid_t, int> a, std::pair<pid_t, int> b) {
  return a == b || ::syscall(SYS_kcmp, a.first, b.first, KCMP_FILE, a.second, b.second) == 0;
}

}  // namespace

std::string VfioObjects::path_of(pid_t process, int descriptor) {
  std::array<char, 4096> link{};
  const ssize_t size = ::readlink(fmt::format("/proc/{}/fd/{}", process, descriptor).c_str(), link.data(), link.size());
  return {link.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
}

Role VfioObjects::role_of(std::string_view path) const {
  if (path == "anon_inode:[vfio-device]") return Role::Device;
  if (path == "/dev/iommu") return Role::Iommufd;
  const std::string& folder = folder_.native();
  if (!path.starts_with(folder) || path.size() <= folder.size() + 1 || path[folder.size()] != '/') return Role::Unknown;
  const std::string_view name = path.substr(folder.size() + 1);
  if (name == "vfio") return Role::Container;
  if (name == "iommu") return Role::Iommufd;
  if (name.starts_with("devices/")) return Role::Device;
  return name.find('/') == name.npos ? Role::Group : Role::Unknown;
}

VfioObject* VfioObjects::find(pid_t process, int descriptor) {
  const std::string path = path_of(process, descriptor);
  if (path.empty()) return nullptr;
  const std::pair holder{process, descriptor};
  for (VfioObject& object : objects_) {
    if (object.path != path) continue;
    const auto other = std::ranges::find_if(object.holders, [&](const auto& one) { return same_file(one, holder); });
    if (other == object.holders.end()) continue;
    if (std::ranges::find(object.holders, holder) == object.holders.end()) object.holders.push_back(holder);
    return &object;
  }
  const Role role = role_of(path);
  return role == Role::Unknown ? nullptr : &add(process, descriptor, role);
}

VfioObject& VfioObjects::add(pid_t process, int descriptor, Role role, std::uint32_t parent) {
  closed(process, descriptor);
  return objects_.emplace_back(VfioObject{.number = ++last_,
                                          .role = role,
                                          .parent = parent,
                                          .path = path_of(process, descriptor),
                                          .holders = {{process, descriptor}}});
}

void VfioObjects::forked(pid_t parent, pid_t child) {
  for (VfioObject& object : objects_) {
    std::vector<std::pair<pid_t, int>> inherited;
    for (const auto& [process, descriptor] : object.holders) {
      if (process == parent) inherited.emplace_back(child, descriptor);
    }
    object.holders.insert(object.holders.end(), inherited.begin(), inherited.end());
  }
}

void VfioObjects::closed(pid_t process, int descriptor) {
  for (VfioObject& object : objects_) std::erase(object.holders, std::pair(process, descriptor));
  std::erase_if(objects_, [](const VfioObject& object) { return object.holders.empty(); });
}

std::vector<VfioObjects::Lost> VfioObjects::lost(pid_t process) {
  std::vector<Lost> lost;
  for (const VfioObject& object : objects_) {
    for (const auto& [holder, descriptor] : object.holders) {
      if (holder == process && path_of(process, descriptor) != object.path) {
        lost.push_back({object.number, object.role, object.parent, descriptor});
      }
    }
  }
  for (const Lost& one : lost) closed(process, one.descriptor);
  return lost;
}

}  // namespace gangway::record
