// Derives a profile from arbitrary bytes as a recording. What comes of it is a profile.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "profile/derive.h"
#include "record/act_reader.h"
#include "sealed_recording.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gangway;
  const std::vector<std::byte> file = fuzz::recording_of(std::as_bytes(std::span(data, size)));
  auto reader = record::TraceReader::read(file);
  if (!reader) return 0;
  record::ActReader acts(*std::move(reader));
  const auto all = acts.rest();
  if (!all) return 0;
  const auto derived = profile::derive_profile("fuzzed", acts.meta(), *all);
  if (derived && !profile::parse_profile(profile::to_text(*derived))) std::abort();
  return 0;
}
