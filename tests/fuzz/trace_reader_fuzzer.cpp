// Feeds arbitrary bytes to the reader of recordings, and what it reads to all that interprets it.
//
// The lowest bit of the first byte chooses whether the checksums are made right first, without which hardly any input
// would get past one.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "record/act_reader.h"
#include "record/fields.h"

namespace {

using namespace gangway;
using namespace gangway::record;

void seal(std::span<std::byte> file) {
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::vector<std::byte> file(size - 1);
  if (!file.empty()) std::memcpy(file.data(), data + 1, file.size());
  if ((data[0] & 1U) != 0) seal(file);
  auto reader = TraceReader::read(file);
  if (!reader) return 0;
  ActReader acts(std::move(*reader));
  for (;;) {
    const auto act = acts.next();
    if (!act || !*act) return 0;
    for (const Field& field : fields(**act)) (void)text(field);
    if (name((*act)->doing).empty()) std::abort();
  }
}
