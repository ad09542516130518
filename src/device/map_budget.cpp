#include "device/map_budget.h"

#include <algorithm>
#include <fstream>

#include "device/sigbus_guard.h"

namespace gangway::detail {
namespace {

// Of the kernel's limit, for what is no client's memory; and never more than a quarter, should somebody have lowered
// it.
constexpr std::size_t kOwn = 4096;
constexpr std::size_t kOwnPart = 4;
// Of the budget, for devices that are made when all others have their clients.
constexpr std::size_t kLatePart = 64;

std::size_t limit_of_kernel() {
  constexpr std::size_t kDefault = 65'530;  // DEFAULT_MAX_MAP_COUNT
  std::size_t limit = 0;
  std::ifstream("/proc/sys/vm/max_map_count") >> limit;
  return limit == 0 ? kDefault : limit;
}

}  // namespace

MapBudget& MapBudget::of_process() {
  static MapBudget budget = [] {
    const std::size_t limit = limit_of_kernel();
    return MapBudget(std::min(limit - std::min(kOwn, limit / kOwnPart), SigbusGuard::kMaxRanges));
  }();
  return budget;
}

MapShare::MapShare(MapBudget& budget, std::size_t wanted) : budget_(budget), wanted_(wanted) {
  const std::scoped_lock lock(budget_.mutex_);
  ++budget_.waiting_;
}

MapShare::~MapShare() {
  const std::scoped_lock lock(budget_.mutex_);
  free();
  --budget_.waiting_;
}

std::size_t MapShare::size() {
  const std::scoped_lock lock(budget_.mutex_);
  if (fixed_) return size_;
  // As much as for each of those that wait, this one among them; what is kept for later is shared when nothing else is.
  const std::size_t left = budget_.total_ - budget_.taken_;
  const std::size_t late = budget_.total_ / kLatePart;
  const std::size_t even = left > late ? (left - late) / budget_.waiting_ : 0;
  size_ = std::min(wanted_, std::max(even, left / (budget_.waiting_ + 1)));
  fixed_ = true;
  budget_.taken_ += size_;
  --budget_.waiting_;
  return size_;
}

void MapShare::give_back() {
  const std::scoped_lock lock(budget_.mutex_);
  free();
}

void MapShare::free() {
  if (!fixed_) return;
  fixed_ = false;
  budget_.taken_ -= size_;
  ++budget_.waiting_;
}

}  // namespace gangway::detail
