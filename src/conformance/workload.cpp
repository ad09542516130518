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

// The first 64 bytes, which devices made for this may well be read at.
std::vector<Workload::Register> Workload::registers() const {
  std::vector<Register> all;
  for (std::uint64_t offset = 0; offset < 64; offset += 4) all.push_back({offset, 4});
  return all;
}

std::shared_ptr<Workload> make_workload(const Abilities& abilities) {
  for (const Kind& kind : kKinds) {
    if (kind.fits(abilities)) return kind.make();
  }
  return nullptr;
}

}  // namespace gangway::conformance
