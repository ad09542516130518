// What of a message is written down as it is, and what only by size and hash (docs/trace.md, "What is payload").
//
// A region of migration data is known by what the server says of it, so the rule listens.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>

#include "vfio_user/protocol.h"

namespace gangway::record {

class PayloadRule {
 public:
  // How many bytes of the body are structure. `body` has its first 16 bytes, or as many as there are in all.
  [[nodiscard]] std::size_t structure_size(const vfio_user::Header& header, std::span<const std::byte> body) const;
  // To be told of each whole message.
  void learn(const vfio_user::Header& header, std::span<const std::byte> structure);

 private:
  [[nodiscard]] std::size_t region_access(std::span<const std::byte> body) const;

  std::set<std::uint32_t> migration_regions_;
};

}  // namespace gangway::record
