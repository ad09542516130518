// A stream that a released version saved, in tests/golden: NAME.stream as it was read, and NAME.json, which says of
// what device and version it is and what the device's registers read once it is loaded.
//
// Thread-safety: values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "integration/golden/golden_device.h"

namespace gangway::golden {

struct GoldenStream {
  std::string device;
  std::string release;  // of gangway
  Bytes stream;
  std::vector<Register> registers;
  std::vector<Bytes> values;

  // Errors: a file is missing or is not understood.
  static Result<GoldenStream> read(const std::filesystem::path& json);
  // As DEVICE-RELEASE.stream and .json into `folder`. EEXIST: there are such; what is kept is never written again.
  Result<void> write(const std::filesystem::path& folder) const;
};

}  // namespace gangway::golden
