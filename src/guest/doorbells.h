// An NVMe controller's doorbells: written through a mapping where the device offers one, by region writes elsewhere.
//
// Thread-safety: ring() from several threads.
#pragma once

#include <cstdint>

#include <gangway/device_handle.h>
#include <gangway/error.h>

#include "guest/mapping.h"

namespace gangway::guest {

class Doorbells {
 public:
  // Those of `queues` queue pairs, the admin one included, `stride` bytes apart.
  static Result<Doorbells> find(DeviceHandle& device, std::uint32_t queues, std::uint32_t stride);

  Result<void> ring_submission(std::uint32_t queue, std::uint32_t tail) { return ring(2 * queue, tail); }
  Result<void> ring_completion(std::uint32_t queue, std::uint32_t head) { return ring(2 * queue + 1, head); }

  [[nodiscard]] bool mapped() const { return !mapping_.bytes().empty(); }

 private:
  Doorbells(DeviceHandle& device, std::uint32_t stride) : device_(&device), stride_(stride) {}
  Result<void> ring(std::uint32_t number, std::uint32_t value);

  DeviceHandle* device_;
  std::uint32_t stride_;
  Mapping mapping_;                 // empty: none offered
  std::uint64_t into_mapping_ = 0;  // where the first doorbell lies
};

}  // namespace gangway::guest
