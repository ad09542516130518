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
#include "record/call_owners.h"

namespace gangway::record {

class CallActs {
 public:
  // To be told of every call first: a container is often filled before its device is opened.
  void learn(const CallRecord& call) { owners_.learn(call); }
  // nullopt for a call that is no act, as a dup.
  std::optional<Act> act_of(const CallRecord& call);

 private:
  struct Place {
    std::uint32_t region = 0;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  struct DataFile {
    std::int32_t process = 0;
    std::int32_t descriptor = -1;
  };
  [[nodiscard]] std::optional<Doing> doing_of(const CallRecord& call);
  [[nodiscard]] Doing close_of(const CallRecord& call) const;
  [[nodiscard]] Doing feature_act(const CallRecord& call);
  [[nodiscard]] Doing ioctl_of(const CallRecord& call);
  [[nodiscard]] Doing access_of(const CallRecord& call) const;
  void remember(const CallRecord& call, const GetRegion& region);

  CallOwners owners_;
  std::map<std::uint32_t, std::vector<Place>> places_;  // by object
  std::map<std::uint32_t, DataFile> data_files_;        // of the last session, by device
};

}  // namespace gangway::record
