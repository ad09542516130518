// How many mappings a process may have, shared among its devices so that no client takes what another one was promised.
//
// The kernel counts mappings by process (vm.max_map_count), while the clients of a process's devices do not know of
// each other. So every device has a share. It is fixed when the device's client comes, which is told it as
// max_dma_maps, and holds until that client is gone. A device whose client has not come yet keeps its part of what is
// left, and one that is made later finds something too.
//
// Source: Linux Documentation/admin-guide/sysctl/vm.rst, max_map_count.
// Thread-safety: everything here may be called from any thread.
#pragma once

#include <cstddef>
#include <mutex>

namespace gangway::detail {

class MapBudget {
 public:
  // `total` mappings for all devices together.
  explicit MapBudget(std::size_t total) : total_(total) {}
  MapBudget(const MapBudget&) = delete;
  MapBudget& operator=(const MapBudget&) = delete;

  // That of this process, which leaves the kernel's limit room for everything but clients' memory: stacks, libraries,
  // and what a program that has the devices in it maps itself.
  static MapBudget& of_process();

  [[nodiscard]] std::size_t total() const { return total_; }

 private:
  friend class MapShare;

  const std::size_t total_;
  std::mutex mutex_;
  std::size_t taken_ = 0;    // mappings, by the shares that are fixed
  std::size_t waiting_ = 0;  // shares that are not
};

// One device's share. The budget outlives it.
class MapShare {
 public:
  // `wanted` is the most that it ever takes.
  MapShare(MapBudget& budget, std::size_t wanted);
  ~MapShare();
  MapShare(const MapShare&) = delete;
  MapShare& operator=(const MapShare&) = delete;

  // How many mappings the device may have; the same until it is given back.
  [[nodiscard]] std::size_t size();
  // The client is gone, and its mappings are. The next one's share may be another.
  void give_back();
  [[nodiscard]] std::size_t wanted() const { return wanted_; }

 private:
  void free();

  MapBudget& budget_;
  const std::size_t wanted_;
  // With the budget's mutex.
  bool fixed_ = false;
  std::size_t size_ = 0;
};

}  // namespace gangway::detail
