// A data session of the saving group: produces a device's state stream, cut at any size with equal result (DAT-STREAM).
//
// In pre-copy the stream is the preamble, which says whose state it is, what the device requires of a destination, and
// copies of its memory while it runs. Once the device is stopped the rest follows: memory from where it lies, the
// device's own sections, the end. What is produced lies in SavePieces until it is read, so a stay in pre-copy may end
// at any byte (DAT-EARLY).
//
// Thread-safety: under the engine's mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <gangway/device.h>
#include <gangway/error.h>
#include <gangway/migration.h>
#include <gangway/state_stream.h>

#include "device/save_memory.h"
#include "device/save_pieces.h"
#include "device/state_checksum.h"
#include "device/state_frame.h"

namespace gangway {

class SaveSession {
 public:
  // EINVAL when the device's names cannot be framed, an error of its save_requirements(). `memories` outlives the
  // session.
  static Result<std::shared_ptr<SaveSession>> open(Migratable& device, std::span<const StateMemory> memories);

  // About the bytes of a whole stream (DAT-SIZE).
  [[nodiscard]] static std::uint64_t estimate(const Migratable& device, std::span<const StateMemory> memories);

  // The device runs: its memory is sent from now on, and what changes is sent again, if the device can tell.
  void enter_pre_copy();

  // The device is stopped: what is left follows, then the end. An error leaves the session as it was.
  Result<void> complete(std::vector<std::byte> interrupts);

  // The stay in the saving group is over; nothing is read any more.
  void close() { plan_.stop_tracking(); }

  // As Migration::read_view.
  StreamView read_view(std::size_t max);
  PrecopyInfo precopy_info();
  // In pre-copy. Whether the device has initial data anew; if so, all that is unread counts as such (PRE-INFO-V2).
  bool renew_initial();
  [[nodiscard]] std::uint64_t bytes_left() const;

 private:
  enum class Stage { Opened, PreCopy, Complete, Ended };

  SaveSession(Migratable& device, std::span<const StateMemory> memories);

  void produce(std::uint64_t wanted);
  bool produce_some();
  bool produce_pre_copy();
  bool produce_complete();

  void write_preamble(const StateIdentity& identity);
  void write_structured_copy(std::string_view name, std::span<const std::byte> payload);
  void write_structured(std::string_view name, std::span<const std::byte> payload);
  void copy_memory(const SaveMemory::Part& part);
  void begin_memory(const SaveMemory::Part& part);
  void continue_memory();
  void write_end();

  frame::SectionHead next_head(frame::Kind kind, std::string_view name, std::uint64_t length, std::uint64_t offset = 0);
  void write(std::span<const std::byte> bytes);
  void write_checksum();

  Migratable& device_;
  std::span<const StateMemory> memories_;
  SaveMemory plan_;
  SavePieces pieces_;
  StateChecksum checksum_;
  frame::Totals totals_{};
  Stage stage_ = Stage::Opened;
  std::uint64_t initial_end_ = 0;            // where the initial part of the stream ends, as far as it was produced
  std::span<const std::byte> section_rest_;  // of the memory section being sent; its checksum is due when it is empty
  bool in_memory_section_ = false;
  std::vector<std::byte> interrupts_;
  StateWriter requirements_;
  StateWriter device_state_;
  std::size_t next_structured_ = 0;  // 0 is interrupts_, then the sections of device_state_
};

}  // namespace gangway
