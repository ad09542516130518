// Serves the migration region over the engine, for clients of v1 and of region-v2.
//
// It holds what the region has and the engine has not: the chunk of the current iteration, in memory that the client
// may map, and v1's words for states. It decides nothing about states or data.
//
// Thread-safety: one call at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <gangway/endpoint.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/migration.h>

namespace gangway {

class RegionFrontEnd {
 public:
  static constexpr std::uint64_t kDataStart = 4096;
  static constexpr std::uint64_t kDataCapacity = 1U << 20;
  static constexpr std::uint64_t kSize = kDataStart + kDataCapacity;

  // `revision` is one with a region.
  static Result<std::unique_ptr<RegionFrontEnd>> create(Revision revision, Migration& migration);
  ~RegionFrontEnd();
  RegionFrontEnd(const RegionFrontEnd&) = delete;
  RegionFrontEnd& operator=(const RegionFrontEnd&) = delete;

  [[nodiscard]] Revision revision() const { return revision_; }
  [[nodiscard]] RegionInfo info() const;

  // Within the region. EINVAL for a part of a header field.
  Result<void> read(std::uint64_t offset, std::span<std::byte> out);
  Result<void> write(std::uint64_t offset, std::span<const std::byte> in);

  // The device was reset, by whomever.
  void reset();

 private:
  // How far the client is with the chunk that was made ready.
  enum class Chunk : std::uint8_t { None, Ready, Staged };

  RegionFrontEnd(Revision revision, Migration& migration, Fd file, std::span<std::byte> memory);
  Result<void> read_header(std::uint64_t offset, std::span<std::byte> out);
  Result<void> write_header(std::uint64_t offset, std::span<const std::byte> in);
  [[nodiscard]] std::uint32_t device_state() const;
  Result<void> set_device_state(std::uint32_t value);
  Result<void> set_v1_state(std::uint32_t bits);
  Result<void> set_state(std::uint32_t number);
  Result<std::uint64_t> pending_bytes();
  Result<void> prepare_chunk();
  Result<void> commit(std::uint64_t size);
  void drop_chunk();
  void change_session();

  const Revision revision_;
  Migration& migration_;
  const Fd file_;
  const std::span<std::byte> memory_;  // the whole region; the header's page is not used
  const std::span<std::byte> data_;
  std::uint32_t kept_bits_ = 0;  // of v1's device_state, that are the client's
  bool idle_pre_copy_ = false;   // v1's pre-copy on a device that has none: RUNNING, with nothing to say
  Chunk chunk_ = Chunk::None;
  std::size_t chunk_size_ = 0;
  std::vector<std::byte> committed_;  // a copy that the client cannot change while it is looked at
};

}  // namespace gangway
