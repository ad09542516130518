// What calls of the kernel mean.
//
// A read of a device is one of a region by its offset, and where regions lie the device says; so what it answered is
// remembered.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "record/act.h"

namespace gangway::record {

class CallActs {
 public:
  // nullopt for a call that is no act, as a dup.
  std::optional<Act> act_of(const CallRecord& call);

 private:
  struct Place {
    std::uint32_t region = 0;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  [[nodiscard]] std::optional<Doing> doing_of(const CallRecord& call);
  [[nodiscard]] Doing ioctl_of(const CallRecord& call);
  [[nodiscard]] Doing access_of(const CallRecord& call) const;
  void remember(const CallRecord& call, const GetRegion& region);

  std::map<std::uint32_t, std::vector<Place>> places_;  // by object
};

}  // namespace gangway::record
