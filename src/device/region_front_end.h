// Serves the migration region over the engine, for clients of v1 and of region-v2.
//
// It holds what the region has and the engine has not: the chunk of the current iteration, in memory that the client
// may map, and v1's words for states. It decides nothing about states or data.
//
// A deriving one may answer an access differently and forward the rest (src/devices/faulty/).
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

  // The region's memory, which the client may map and cannot shorten under us.
  class Memory {
   public:
    static Result<Memory> make();
    ~Memory();
    Memory(Memory&& other) noexcept;
    Memory& operator=(Memory&&) = delete;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
    [[nodiscard]] int file() const { return file_.get(); }

   private:
    Memory(Fd file, std::span<std::byte> bytes);
    Fd file_;
    std::span<std::byte> bytes_;
  };

  // `revision` is one with a region. Errors: no memory for it.
  template <class T>
  static Result<std::unique_ptr<RegionFrontEnd>> create(Revision revision, Migration& migration) {
    Result<Memory> memory = Memory::make();
    if (!memory) return std::unexpected(std::move(memory.error()));
    return std::make_unique<T>(revision, migration, *std::move(memory));
  }
  RegionFrontEnd(Revision revision, Migration& migration, Memory memory);
  virtual ~RegionFrontEnd() = default;
  RegionFrontEnd(const RegionFrontEnd&) = delete;
  RegionFrontEnd& operator=(const RegionFrontEnd&) = delete;

  [[nodiscard]] Revision revision() const { return revision_; }
  [[nodiscard]] virtual RegionInfo info() const;

  // Within the region. EINVAL for a part of a header field.
  virtual Result<void> read(std::uint64_t offset, std::span<std::byte> out);
  virtual Result<void> write(std::uint64_t offset, std::span<const std::byte> in);

  // The device was reset, by whomever.
  virtual void reset();

 protected:
  [[nodiscard]] Migration& migration() const { return migration_; }

 private:
  // How far the client is with the chunk that was made ready.
  enum class Chunk : std::uint8_t { None, Ready, Staged };

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
  const Memory memory_;  // of the whole region; the header's page is not used
  const std::span<std::byte> data_;
  std::uint32_t kept_bits_ = 0;  // of v1's device_state, that are the client's
  bool idle_pre_copy_ = false;   // v1's pre-copy on a device that has none: RUNNING, with nothing to say
  Chunk chunk_ = Chunk::None;
  std::size_t chunk_size_ = 0;
  std::vector<std::byte> committed_;  // a copy that the client cannot change while it is looked at
};

}  // namespace gangway
