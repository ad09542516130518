// What the accesses of a recorded client to a migration region came to: a state that was written, a chunk that was
// saved or loaded. The single accesses are layout (V1-SAVE, V1-LOAD); of the data only its size is known, and where it
// went through the part that may be mapped not even an access.
//
// Thread-safety: values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include <gangway/contract.h>

#include "record/act.h"

namespace gangway::profile {

struct RegionDeed {
  enum class Kind : std::uint8_t {
    ReadState,   // value: device_state as it is
    WriteState,  // likewise
    Pending,     // value: pending_bytes
    Chunk,       // one was saved; value: its size. Told where data_size is read
    Load,        // one was loaded; value: its size. Told where data_size is written
    Part,        // of a chunk that is told elsewhere
    Access,      // none of these, or refused
  };
  Kind kind = Kind::Access;
  Revision revision = Revision::V1;
  std::uint64_t value = 0;
  std::uint64_t access = 0;  // Chunk, Load: bytes of the largest access to its data; 0: it was mapped
  bool last = false;         // Load: no other follows before the state changes
};

// The migration regions that a recording tells of, by index: of v1 and region-v2.
using MigrationRegions = std::map<std::uint32_t, Revision>;
[[nodiscard]] MigrationRegions migration_regions(std::span<const record::Act> acts);

// Of one connection.
class RecordedRegion {
 public:
  // `acts` in their order; they must outlive it.
  RecordedRegion(std::span<const record::Act* const> acts, const MigrationRegions& regions);

  // Null if the act is no access to a migration region.
  [[nodiscard]] const RegionDeed* at(const record::Act& act) const;
  // The revision whose states were written first, if any were.
  [[nodiscard]] std::optional<Revision> driven() const { return driven_; }

 private:
  RegionDeed read(const record::ReadRegion& read);
  RegionDeed write(const record::WriteRegion& write);
  void end_iteration();

  std::map<const record::Act*, RegionDeed> deeds_;
  std::optional<Revision> driven_;
  RegionDeed* chunk_ = nullptr;     // of this iteration
  RegionDeed* loaded_ = nullptr;    // the last one since the state changed
  std::uint64_t load_access_ = 0;   // of the chunk that is being written
  std::uint64_t chunk_access_ = 0;  // of data that was read before its size
};

}  // namespace gangway::profile
