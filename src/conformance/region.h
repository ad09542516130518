// The migration region of a subject: header fields by whole accesses, each a line of the journal; data by accesses of 8
// bytes, by large ones, or by the mapped part.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <gangway/migration_region.h>

#include "conformance/test.h"

namespace gangway::conformance {

class MigrationRegion {
 public:
  // How data is moved.
  enum class Way : std::uint8_t { Words, Accesses, Map };

  // As it was saved: v1 wants each chunk loaded whole.
  using Chunks = std::vector<Bytes>;

  MigrationRegion(Context& context, Revision revision);

  [[nodiscard]] Revision revision() const { return revision_; }

  // device_state as it is.
  Result<std::uint32_t> state();
  Result<void> set(std::uint32_t value);
  // The same as a state's value in this revision.
  [[nodiscard]] std::uint32_t value_of(DeviceState state) const;
  Result<void> set(DeviceState state) { return set(value_of(state)); }
  // Any access to the header.
  Result<void> write(std::uint64_t offset, std::span<const std::byte> in);
  Result<std::uint64_t> field(std::uint64_t offset);

  // The current iteration, whose pending_bytes was read.
  struct Chunk {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  Result<Chunk> stage();
  Result<Bytes> read_data(const Chunk& chunk, Way way);

  // Iterations to the end that there is now. `asks` times pending_bytes is read in each.
  Result<Chunks> drain(Way way = Way::Accesses, unsigned asks = 1);
  Result<void> load(const Chunks& chunks, Way way = Way::Accesses);
  // Writes data without saying so.
  Result<void> write_data(const Bytes& data);

  [[nodiscard]] bool mapped() const { return mapped_; }

 private:
  Subject& subject_;
  const Revision revision_;
  const std::uint32_t region_;
  const std::uint64_t size_;
  const bool mapped_;
};

// Without a reset only a whole stream leads out of RESUMING, and a state must not be held over a close.
[[nodiscard]] bool can_leave_an_unfinished_load(const Context& context);

// What both revisions ask of a region that is in stop-and-copy.
void expect_iterations_agree(std::string_view clause, MigrationRegion& region);
void expect_end_for_ever(std::string_view clause, MigrationRegion& region);

[[nodiscard]] std::string_view to_text(MigrationRegion::Way way);
[[nodiscard]] Bytes join(const MigrationRegion::Chunks& chunks);
// Of pieces of `size` bytes.
[[nodiscard]] MigrationRegion::Chunks cut(const Bytes& stream, std::size_t size);

}  // namespace gangway::conformance
