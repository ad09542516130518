// Feeds arbitrary bytes, in pieces, to a load session of a small device.
//
// The first byte chooses how: its lowest bit whether the checksums are made right first, without which hardly any input
// would get past one, the others the size of the pieces.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "device/load_session.h"
#include "device/state_checksum.h"
#include "device/state_frame.h"

namespace {

using namespace gangway;

// Writes the right checksum behind each part, for as far as the lengths of the parts lie within the bytes.
void seal(std::span<std::byte> stream) {
  StateChecksum checksum;
  const auto preamble = load_at<frame::PreambleHead>(stream);
  if (!preamble) return;
  std::uint64_t size = sizeof(frame::PreambleHead) + std::uint64_t{preamble->type_length};
  while (size <= stream.size() && stream.size() - size >= frame::kChecksumSize) {
    checksum.update(stream.first(size));
    const std::uint64_t value = checksum.seal();
    std::memcpy(stream.data() + size, &value, sizeof(value));
    stream = stream.subspan(size + frame::kChecksumSize);
    const auto head = load_at<frame::SectionHead>(stream);
    if (!head || head->length > stream.size()) return;
    size = sizeof(frame::SectionHead) + head->name_length + head->length;
  }
}

void check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::vector<std::byte> stream(size - 1);
  if (!stream.empty()) std::memcpy(stream.data(), data + 1, stream.size());
  if ((data[0] & 1U) != 0) seal(stream);
  const std::size_t piece = std::size_t{1} + (data[0] >> 1U);

  std::vector<std::byte> first(64);
  std::array<StateMemory, 2> memories{{{"first", first}, {"none", {}}}};
  LoadSession load({.device_type = "fuzzed", .model_version = 3, .compatible_with = 1}, memories);
  bool refused = false;
  for (std::span<const std::byte> rest = stream; !rest.empty();) {
    std::span<const std::byte> next = rest.first(std::min(piece, rest.size()));
    const std::span<std::byte> place = load.landing(next.size());
    if (!place.empty() && piece % 2 == 0) {
      next = next.first(place.size());
      std::ranges::copy(next, place.begin());
      refused |= !load.landed(next.size());
    } else {
      const bool written = load.write(next).has_value();
      check(!written || !refused);  // a refusal is for good
      refused |= !written;
    }
    rest = rest.subspan(next.size());
  }
  const bool loaded = load.finish().has_value();
  check(!loaded || !refused);
  return 0;
}
