// A region's description as a kernel or a server gives it: capabilities that may lead anywhere.
//
// The input is the structure, then what follows it.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "base/bytes.h"
#include "handle/region_capabilities.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gangway;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto info = load_at<vfio::RegionInfo>(bytes);
  if (!info) return 0;
  const auto region = vfio::to_region(*info, bytes.subspan(sizeof *info), nullptr);
  if (!region) return 0;
  for (const MappableArea& area : region->areas) {
    if (area.offset > region->size || area.size > region->size - area.offset) std::abort();
  }
  return 0;
}
