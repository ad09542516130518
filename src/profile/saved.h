// What a source left for a destination.
//
// Thread-safety: values.
#pragma once

#include <vector>

#include "conformance/stream.h"

namespace gangway::profile {

struct Saved {
  conformance::Bytes bytes;
  std::vector<conformance::Bytes> chunks;  // of a migration region, as they came; together they are the bytes

  [[nodiscard]] bool empty() const { return bytes.empty(); }
};

}  // namespace gangway::profile
