// Which devices a call of the kernel is about.
//
// A program works on a device by several opened files: the device itself, its group, a container or an iommufd that
// other devices share, and a descriptor for each session of migration data. Who belongs to whom is known only when the
// whole recording was seen: a container is often filled before its device is opened.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "record/record.h"

namespace gangway::record {

class CallOwners {
 public:
  // To be told of every call of the recording.
  void learn(const CallRecord& call);

  // The numbers of the opened devices, ascending. Empty when nothing is known of any; 64 at most.
  [[nodiscard]] std::vector<std::uint32_t> devices_of(const CallRecord& call) const;

 private:
  using Numbers = std::set<std::uint32_t>;
  using PageTable = std::pair<std::uint32_t, std::uint32_t>;  // an iommufd, and the number there of an IOAS or a HWPT

  void learn_page_table(const CallRecord& call);
  [[nodiscard]] const Numbers* attached_to(const CallRecord& call) const;

  Numbers devices_;
  std::map<std::uint32_t, Numbers> children_;  // by what they belong to
  std::map<PageTable, Numbers> attached_;      // devices, by the IOAS that translates for them
  std::map<PageTable, std::uint32_t> ioas_;    // of a HWPT
};

}  // namespace gangway::record
