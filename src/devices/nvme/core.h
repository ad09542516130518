// The controller as its I/O thread runs it: takes doorbells, fetches, executes, completes; is enabled and disabled,
// started and stopped.
//
// Two things decide whether commands are taken: the host enabled the controller (CC.EN), and the framework lets it run.
// What the host asks for while it may not run waits for start().
// Source: NVM Express 1.4, 7.2 (command submission and completion), 7.3 (resets), 7.6 (initialization and shutdown).
//
// Thread-safety: the I/O thread's own, except what notes something for it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include <gangway/error.h>

#include "devices/nvme/admin_commands.h"
#include "devices/nvme/backend.h"
#include "devices/nvme/controller_state.h"
#include "devices/nvme/io_commands.h"

namespace gangway::nvme {

class Core {
 public:
  Core(ControllerState& state, Backend& backend);

  // --- the I/O thread's loop ---

  // Does what there is to do; false when there was nothing.
  bool poll();
  // Before the thread sleeps: asks the host to ring, and looks once more. True when there is something for poll().
  bool arm();
  // The host may have work for us without sending a message: its doorbells are mapped.
  [[nodiscard]] bool expects_doorbells() const {
    return running_ && phase_ == Phase::Enabled && !state_.registers.fatal();
  }

  // I/O commands that the host has submitted and not taken the completions of, as far as its doorbells say.
  [[nodiscard]] std::size_t outstanding() const;

  // --- noted by other threads, which do not wait ---

  // CC was written, and is in its register. That a value disabled the controller is kept though another may have
  // followed it: what the host set up before is not to be used again.
  void note_configuration(Cc written) {
    noted_.fetch_or(written.enable() ? kNotedConfiguration : kNotedConfiguration | kNotedDisable);
  }
  // A write beyond the last doorbell.
  void note_stray_doorbell() { stray_doorbell_.store(true); }

  // --- asked for by other threads, carried out on the I/O thread ---

  // EBUSY when an image of an enabled controller is in use elsewhere.
  Result<void> start();
  void stop_initiating();
  void stop();
  void reset();
  // After the state was loaded.
  void adopt_state();

 private:
  enum class Phase : std::uint8_t { Disabled, Enabled, Disabling };

  static constexpr std::uint32_t kNotedConfiguration = 1U << 0;
  static constexpr std::uint32_t kNotedDisable = 1U << 1;

  bool take_configuration();
  void carry_out_configuration();
  void apply(Cc cc);
  void enable();
  [[nodiscard]] Result<void> check_configuration() const;
  void create_admin_queues();
  void begin_disable();
  void finish_disable();
  void begin_shutdown();
  void finish_shutdown(const IoTask& task);

  Result<void> lock_images();
  void unlock_images();
  void drain();
  void fail(const Error& error);

  bool take_doorbells();
  bool take_words(std::span<const std::uint32_t> words, std::uint16_t first_queue, bool registers);
  bool report_doorbell(std::uint8_t information);
  bool fetch();
  void execute(SubmissionQueue& queue, const Command& command);
  bool collect();
  void complete(std::uint16_t sq_id, const Command& command, Outcome outcome);
  void finish_deletion(const SubmissionQueue& queue);
  void log_error(std::uint16_t sq_id, const Command& command, Status status);
  void deliver_events();
  void flush();

  ControllerState& state_;
  Backend& backend_;
  AdminCommands admin_;
  IoCommands io_;
  Phase phase_ = Phase::Disabled;
  bool running_ = false;
  bool took_ = false;  // arm() took doorbells that poll() has not acted on
  std::atomic<std::uint32_t> noted_{0};
  std::atomic<bool> stray_doorbell_{false};
  std::array<ImageRequest*, 64> finished_{};
  std::array<std::uint32_t, kShadowWords> words_{};
};

}  // namespace gangway::nvme
