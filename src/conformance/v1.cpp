// V1: the migration region of older kernels, which is retired.
#include <fmt/core.h>

#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

// VFIO_REGION_TYPE_MIGRATION and VFIO_REGION_SUBTYPE_MIGRATION as Linux 5.8 to 5.17 had them.
constexpr std::uint32_t kMigrationType = 3;
constexpr std::uint32_t kV1Subtype = 1;

void no_v1_region_exists(Context& c) {
  const std::uint32_t regions = c.abilities.info.regions;
  for (std::uint32_t index = 0; index < regions; ++index) {
    using Region = DeviceHandle::Region;
    const Result<Region> region = c.device.ask<Region>(fmt::format("region info {}", index),
                                                       [index](DeviceHandle& device) { return device.region(index); });
    if (c.device.lost()) throw Untestable{c.device.why_lost()};
    if (!region) continue;  // the VGA region may be refused
    expect("V1-HIDDEN", region->type != kMigrationType || region->subtype != kV1Subtype,
           "no region of the retired migration interface (type 3, sub-type 1)", fmt::format("region {} is one", index));
  }
}

}  // namespace

std::vector<Test> v1_tests() { return {{"no_v1_region_exists", {"V1-HIDDEN"}, 0, no_v1_region_exists}}; }

}  // namespace gangway::conformance
