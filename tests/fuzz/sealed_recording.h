// A recording out of the input of a fuzzer.
//
// The lowest bit of the first byte chooses whether the checksums are made right first, without which hardly any input
// would get past one.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "record/trace_file.h"

namespace gangway::fuzz {

inline void seal(std::span<std::byte> file) {
  using namespace record;
  constexpr std::size_t kHead = sizeof kMagic + sizeof kFormatRevision;
  if (file.size() < kHead) return;
  for (std::span<std::byte> rest = file.subspan(kHead); rest.size() >= sizeof(Frame);) {
    Frame frame = *load_at<Frame>(rest);
    if (frame.size > rest.size() - sizeof frame) return;
    frame.zero = 0;
    frame.checksum = checksum(frame.type, rest.subspan(sizeof frame, frame.size));
    (void)store_at(rest, 0, frame);
    rest = rest.subspan(sizeof frame + frame.size);
  }
}

inline std::vector<std::byte> recording_of(std::span<const std::byte> input) {
  if (input.empty()) return {};
  const auto rest = input.subspan(1);
  std::vector<std::byte> file(rest.begin(), rest.end());
  if ((std::to_integer<unsigned>(input[0]) & 1U) != 0) seal(file);
  return file;
}

}  // namespace gangway::fuzz
