// Feeds arbitrary bytes to the reader of recordings, and what it reads to all that interprets it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "record/act_reader.h"
#include "record/fields.h"
#include "sealed_recording.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gangway::record;
  const std::vector<std::byte> file = gangway::fuzz::recording_of(std::as_bytes(std::span(data, size)));
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
