// The open files of traced processes that have to do with VFIO: which descriptor of which process leads to which.
//
// A descriptor is looked up by what /proc says of it, so one that was inherited, or came by SCM_RIGHTS, or by a
// duplicate, is found when it is first used; that two descriptors are one open file the kernel tells (kcmp).
//
// Thread-safety: one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "record/record.h"

namespace gangway::record {

struct VfioObject {
  std::uint32_t number = 0;
  CallRecord::Role role{};
  std::uint32_t parent = 0;                    // as CallRecord::parent
  std::string path;                            // what /proc says of its descriptors
  std::vector<std::pair<pid_t, int>> holders;  // process and descriptor
};

class VfioObjects {
 public:
  // `folder` is where the devices are: /dev/vfio.
  explicit VfioObjects(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // nullptr for a descriptor of something else. Valid until the next call.
  [[nodiscard]] VfioObject* find(pid_t process, int descriptor);
  // A descriptor whose role is known by where it came from.
  VfioObject& add(pid_t process, int descriptor, CallRecord::Role role, std::uint32_t parent = 0);

  void forked(pid_t parent, pid_t child);
  // A descriptor was closed; when it was closed for good, which object that was.
  void closed(pid_t process, int descriptor);
  // What a process no longer has of what it had: after it has executed a program, or ended.
  struct Lost {
    std::uint32_t number;
    CallRecord::Role role;
    std::uint32_t parent;
    int descriptor;
  };
  std::vector<Lost> lost(pid_t process);

 private:
  [[nodiscard]] CallRecord::Role role_of(std::string_view path) const;
  static std::string path_of(pid_t process, int descriptor);

  const std::filesystem::path folder_;
  std::vector<VfioObject> objects_;
  std::uint32_t last_ = 0;
};

}  // namespace gangway::record
