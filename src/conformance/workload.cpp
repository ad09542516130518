#include "conformance/workload.h"

#include <array>

#include "conformance/card_workload.h"
#include "conformance/nvme_workload.h"
#include "conformance/serial_workload.h"

namespace gangway::conformance {
namespace {

struct Kind {
  bool (*fits)(const Abilities&);
  std::shared_ptr<Workload> (*make)();
};
constexpr std::array kKinds{
    Kind{NvmeWorkload::fits, [] { return std::shared_ptr<Workload>(std::make_shared<NvmeWorkload>()); }},
    Kind{CardWorkload::fits, [] { return std::shared_ptr<Workload>(std::make_shared<CardWorkload>()); }},
    Kind{SerialWorkload::fits, [] { return std::shared_ptr<Workload>(std::make_shared<SerialWorkload>()); }},
};

}  // namespace

Result<void> Workload::change(DeviceHandle& device, unsigned) {
  return fail(ENOTSUP, device.target() + ": this workload changes no memory of the device");
}

std::shared_ptr<Workload> make_workload(const Abilities& abilities) {
  for (const Kind& kind : kKinds) {
    if (kind.fits(abilities)) return kind.make();
  }
  return nullptr;
}

}  // namespace gangway::conformance
