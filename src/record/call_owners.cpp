#include "record/call_owners.h"

#include "kernel/uapi.h"
#include "record/ioctls.h"
#include "record/structures.h"

namespace gangway::record {
namespace {

using Role = CallRecord::Role;

// A recording may claim anything; a machine has fewer devices at one container.
constexpr std::size_t kMostSharing = 64;

// Of the two ioctls that map and unmap there.
std::uint32_t ioas_of(const CallRecord& call, Ioctl ioctl) {
  if (ioctl == Ioctl::IoasMap) return structure<kernel::IoasMap>(call.argument).ioas;
  return structure<kernel::IoasUnmap>(call.argument).ioas;
}

void add_limited(std::set<std::uint32_t>& numbers, std::uint32_t number) {
  if (numbers.size() < kMostSharing) numbers.insert(number);
}

}  // namespace

void CallOwners::learn(const CallRecord& call) {
  if (call.role == Role::Device) devices_.insert(call.object);
  if (call.parent != 0) add_limited(children_[call.parent], call.object);
  if (call.call == CallRecord::Call::Ioctl && call.result >= 0) learn_page_table(call);
}

void CallOwners::learn_page_table(const CallRecord& call) {
  const auto ioas = [this](std::uint32_t iommufd, std::uint32_t page_table) {
    const auto found = ioas_.find({iommufd, page_table});
    return found == ioas_.end() ? page_table : found->second;
  };
  const Ioctl ioctl = ioctl_kind(call.role, call.request).ioctl;
  if (ioctl == Ioctl::HwptAlloc) {
    const auto made = structure<kernel::HwptAlloc>(call.answer);
    ioas_[{call.object, made.hwpt}] = ioas(call.object, made.ioas);
  } else if (ioctl == Ioctl::Attach && call.parent != 0) {
    const std::uint32_t given = structure<kernel::AttachIommufd>(call.argument).ioas;
    add_limited(attached_[{call.parent, ioas(call.parent, given)}], call.object);
  }
}

const CallOwners::Numbers* CallOwners::attached_to(const CallRecord& call) const {
  const Ioctl ioctl = ioctl_kind(call.role, call.request).ioctl;
  if (call.call != CallRecord::Call::Ioctl || (ioctl != Ioctl::IoasMap && ioctl != Ioctl::IoasUnmap)) return nullptr;
  const auto found = attached_.find({call.object, ioas_of(call, ioctl)});
  return found == attached_.end() ? nullptr : &found->second;
}

std::vector<std::uint32_t> CallOwners::devices_of(const CallRecord& call) const {
  if (call.role == Role::Device) return {call.object};
  if (call.role == Role::MigrationData && devices_.contains(call.parent)) return {call.parent};
  if (const Numbers* const attached = attached_to(call)) return {attached->begin(), attached->end()};
  // A container has groups, and these have devices; an iommufd has devices.
  Numbers below;
  const auto collect = [&](std::uint32_t parent, const auto& self, int levels) -> void {
    const auto found = children_.find(parent);
    if (found == children_.end()) return;
    for (const std::uint32_t child : found->second) {
      if (devices_.contains(child)) add_limited(below, child);
      if (levels > 1 && below.size() < kMostSharing) self(child, self, levels - 1);
    }
  };
  collect(call.object, collect, 2);
  return {below.begin(), below.end()};
}

}  // namespace gangway::record
