// The migration region: the interface of clients that reach a device's regions and not its features.
//
// Two revisions have one layout and one way of moving data, and differ in what device_state holds: v1 the three bits of
// Linux 5.8 to 5.17, region-v2 a state number of v2 under the rules of v2. A region of type 3 is found by its
// region-type capability; the sub-type tells the revision, so that a client of one never mistakes the other for it
// (R2-FOUND).
//
// A header of 32 bytes at offset 0, little-endian, each field read or written whole:
//   0  u32 device_state   rw
//   8  u64 pending_bytes  ro   0: the end, in pre-copy for now. Starts an iteration, and says that the last chunk was
//                              taken.
//  16  u64 data_offset    ro   where the data lies; saving, it stages the iteration's chunk
//  24  u64 data_size      rw   saving: bytes of the chunk; loading: a write commits so many bytes at data_offset
// Then the data, in a part of the region that may be mapped.
//
// Source: Linux 5.8-5.17 include/uapi/linux/vfio.h, struct vfio_device_migration_info; clauses V1-* and R2-*.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <gangway/contract.h>
#include <gangway/error.h>

namespace gangway {

class DeviceHandle;

namespace migration_region {

inline constexpr std::uint32_t kType = 3;  // VFIO_REGION_TYPE_MIGRATION

// The sub-type of a revision; 0 for v2, which has no region.
[[nodiscard]] constexpr std::uint32_t subtype(Revision revision) {
  return revision == Revision::V1 ? 1U : revision == Revision::RegionV2 ? 2U : 0U;
}

inline constexpr std::uint64_t kDeviceState = 0;
inline constexpr std::uint64_t kPendingBytes = 8;
inline constexpr std::uint64_t kDataOffset = 16;
inline constexpr std::uint64_t kDataSize = 24;
inline constexpr std::uint64_t kHeaderSize = 32;

// The bits of v1's device_state; the others are the client's to keep (V1-STATES).
inline constexpr std::uint32_t kRunning = 1;
inline constexpr std::uint32_t kSaving = 2;
inline constexpr std::uint32_t kResuming = 4;
inline constexpr std::uint32_t kStateBits = 7;

// How v1 calls a state. It knows no P2P; its error is SAVING and RESUMING at once.
[[nodiscard]] constexpr std::uint32_t v1_bits(DeviceState state) {
  switch (state) {
    case DeviceState::Stop:
      return 0;
    case DeviceState::Running:
    case DeviceState::RunningP2p:
      return kRunning;
    case DeviceState::StopCopy:
      return kSaving;
    case DeviceState::PreCopy:
    case DeviceState::PreCopyP2p:
      return kSaving | kRunning;
    case DeviceState::Resuming:
      return kResuming;
    case DeviceState::Error:
      break;
  }
  return kSaving | kResuming;
}

// The state that a client asks for; nullopt for a combination of bits that no client may write.
[[nodiscard]] constexpr std::optional<DeviceState> v1_state(std::uint32_t bits) {
  switch (bits & kStateBits) {
    case 0:
      return DeviceState::Stop;
    case kRunning:
      return DeviceState::Running;
    case kSaving:
      return DeviceState::StopCopy;
    case kSaving | kRunning:
      return DeviceState::PreCopy;
    case kResuming:
      return DeviceState::Resuming;
    default:
      return std::nullopt;
  }
}

}  // namespace migration_region

// Drives a migration region through a DeviceHandle.
//
// Thread-safety: one thread at a time.
class MigrationRegionClient {
 public:
  struct Options {
    bool map = true;                    // the data by its mapped part where there is one whose file cannot be
                                        // shortened under us; otherwise by accesses
    std::size_t access_size = 1 << 16;  // bytes of one access to the data, at most; 8 is what some clients do
  };

  // nullopt: the device has no region of that revision. `device` must outlive the client.
  static Result<std::optional<MigrationRegionClient>> find(DeviceHandle& device, Revision revision,
                                                           const Options& options);
  static Result<std::optional<MigrationRegionClient>> find(DeviceHandle& device, Revision revision) {
    return find(device, revision, Options{});
  }
  ~MigrationRegionClient();
  MigrationRegionClient(MigrationRegionClient&&) noexcept;
  MigrationRegionClient& operator=(MigrationRegionClient&&) noexcept;

  [[nodiscard]] Revision revision() const { return revision_; }
  [[nodiscard]] std::uint32_t region() const { return region_; }

  // device_state as it is: bits of v1 or a state number.
  Result<std::uint32_t> device_state();
  Result<void> set_device_state(std::uint32_t value);

  // The same in words of v2. For v1 the bits that are not the state's are kept; EPROTO for bits that mean no state.
  Result<DeviceState> state();
  Result<void> set_state(DeviceState state);

  Result<std::uint64_t> pending_bytes();
  // One iteration: the next chunk, empty at the end (in pre-copy: for now). It is acknowledged by the next one. EPROTO
  // for one that does not lie in the region, or of more than 256 MiB.
  Result<std::vector<std::byte>> next_chunk();
  // Loads a piece of the stream, of any size.
  Result<void> load(std::span<const std::byte> data);

 private:
  class Mapping;
  MigrationRegionClient(DeviceHandle& device, Revision revision, std::uint32_t region, std::uint64_t size,
                        std::size_t access_size);
  template <class T>
  Result<T> get(std::uint64_t offset);
  template <class T>
  Result<void> put(std::uint64_t offset, T value);
  Result<std::uint64_t> data_offset();
  Result<void> read_data(std::uint64_t offset, std::span<std::byte> out);
  Result<void> write_data(std::uint64_t offset, std::span<const std::byte> in);

  DeviceHandle* device_;
  Revision revision_;
  std::uint32_t region_;
  std::uint64_t size_;
  std::size_t access_size_;
  std::unique_ptr<Mapping> mapping_;
};

}  // namespace gangway
