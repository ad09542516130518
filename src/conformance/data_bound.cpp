#include "conformance/data_bound.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/core.h>

namespace gangway::conformance {
namespace {

// DAT-SIZE has its own test, of a smaller factor. What is beyond this one is no estimate of this stream.
constexpr std::size_t kSpare = 16;

std::size_t times_spare(std::uint64_t bytes) {
  std::size_t product = 0;
  return __builtin_mul_overflow(bytes, kSpare, &product) ? SIZE_MAX : product;
}

}  // namespace

// It is kept in several copies.
std::size_t DataBound::memory_for_a_stream() {
  constexpr std::size_t kCopies = 8;
  return static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) /
         kCopies;
}

Result<void> DataBound::admit(std::size_t bytes, const AskSize& ask) {
  if (bytes <= std::min(bound_, most_kept_)) return {};
  if (said_.empty()) {
    const Result<std::uint64_t> estimate = ask();
    const std::size_t unannounced = known_ == 0 ? kUnannounced : times_spare(known_);
    bound_ = std::max({bound_, times_spare(known_), estimate ? times_spare(*estimate) : unannounced});
    said_ = estimate ? fmt::format("MIG_DATA_SIZE says {}", *estimate) : "the device does not say how much there is";
  }
  if (bytes > bound_) return fail(ENOSPC, fmt::format("{} bytes of migration data and no end; {}", bytes, said_));
  if (bytes > most_kept_) {
    return fail(EFBIG, fmt::format("more than {} bytes of migration data; this machine has no memory to keep them in",
                                   most_kept_));
  }
  return {};
}

}  // namespace gangway::conformance
