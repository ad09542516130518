#include "devices/nvme/registers.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"

namespace gangway::nvme {
namespace {

constexpr std::uint32_t kAqaWritable = 0x0fff'0fff;
constexpr std::uint64_t kQueueBaseWritable = ~std::uint64_t{0xfff};

std::uint64_t with_half(std::uint64_t value, bool upper, std::uint32_t half) {
  const unsigned shift = upper ? 32 : 0;
  return (value & ~(std::uint64_t{0xffff'ffff} << shift)) | (std::uint64_t{half} << shift);
}

}  // namespace

void Registers::clear() {
  cc = 0;
  csts = 0;
  aqa = 0;
  asq = 0;
  acq = 0;
}

void Registers::read(std::uint64_t offset, std::span<std::byte> out, std::uint32_t intms) const {
  std::array<std::byte, kRegistersEnd> image{};
  const auto put = [&image](std::uint64_t at, auto value) { (void)store_at(image, at, value); };
  put(kRegisterCap, kCapabilities);
  put(kRegisterVs, kVersion14);
  put(kRegisterIntms, intms);
  put(kRegisterIntmc, intms);
  put(kRegisterCc, cc.load());
  put(kRegisterCsts, csts.load());
  put(kRegisterAqa, aqa.load());
  put(kRegisterAsq, asq.load());
  put(kRegisterAcq, acq.load());

  std::ranges::fill(out, std::byte{0});
  if (offset >= image.size()) return;
  const std::size_t length = std::min<std::size_t>(out.size(), image.size() - offset);
  std::memcpy(out.data(), image.data() + offset, length);
}

bool Registers::write_queue_register(std::uint64_t offset, std::uint32_t value) {
  switch (offset) {
    case kRegisterAqa:
      aqa = value & kAqaWritable;
      return true;
    case kRegisterAsq:
    case kRegisterAsq + 4:
      asq = with_half(asq, offset != kRegisterAsq, value) & kQueueBaseWritable;
      return true;
    case kRegisterAcq:
    case kRegisterAcq + 4:
      acq = with_half(acq, offset != kRegisterAcq, value) & kQueueBaseWritable;
      return true;
    default:
      return false;
  }
}

}  // namespace gangway::nvme
