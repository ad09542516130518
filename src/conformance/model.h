// What the contract says an act may lead to, given the acts before it: the reference that sequences, walks and scripts
// are judged by. Where it allows several outcomes, all are right.
//
// Thread-safety: one thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "conformance/act.h"
#include "conformance/finding.h"

namespace gangway::conformance {

class Model {
 public:
  // `stream`: bytes of the good stream.
  Model(MigrationFlags flags, std::size_t stream) : flags_(flags), stream_(stream), sending_(stream) {}

  // Whether the act makes sense now.
  [[nodiscard]] bool is_legal(const Act& act) const;
  // What is known to crash some kernels: a SET of one of the refused pairs, and a close of a device that does not run.
  [[nodiscard]] bool is_refused_pair(const Act& act) const;
  [[nodiscard]] bool holds_state(const Act& act) const;

  // Takes the outcome in. What it breaks, if anything; then the model knows nothing any more.
  std::optional<Finding> judge(const Act& act, const Outcome& outcome);

  [[nodiscard]] DeviceState state() const { return state_; }
  // In RESUMING: the whole good stream was written.
  [[nodiscard]] bool whole() const { return !spoiled_ && sent_ >= stream_ && !write_failed_; }

 private:
  using Verdict = std::optional<Finding>;
  Verdict judge_open(const Outcome& outcome);
  Verdict judge_reset(const Outcome& outcome);
  Verdict judge_set(std::uint64_t number, const Outcome& outcome);
  Verdict judge_load(DeviceState target, const Outcome& outcome);
  Verdict judge_read(const Act& act, const Outcome& outcome);
  Verdict judge_write(const Act& act, const Outcome& outcome);
  Verdict judge_log(const Act& act, const Outcome& outcome);
  Verdict judge_setup(const Act& act, const Outcome& outcome);
  Verdict unchanged(std::string_view clause, const Outcome& outcome) const;
  [[nodiscard]] std::string_view clause_of(DeviceState target) const;
  [[nodiscard]] std::string_view clause_of_load() const;
  void enter(DeviceState state);
  void begin();

  MigrationFlags flags_;
  std::size_t stream_;   // bytes of the good one
  std::size_t sending_;  // bytes of what is sent
  DeviceState state_ = DeviceState::Running;

  // The data session.
  bool at_end_ = false;   // everything was read in STOP_COPY
  bool closed_ = false;   // its descriptor was
  std::size_t sent_ = 0;  // of the stream
  bool spoiled_ = false;  // what is sent is not the good stream
  bool write_failed_ = false;
  bool refused_ = false;

  enum class Log : std::uint8_t { Off, On, Unknown };
  Log log_ = Log::Off;
  std::optional<std::uint32_t> identity_;

  // What came before, which says what a failure is about.
  bool saved_before_ = false;
  bool loaded_before_ = false;
  bool refused_before_ = false;
  bool set_since_log_ = false;
};

// What a play may do of what is known to crash some kernels. An act that it may not do is left out: a sequence that is
// made shorter must not come upon one that it did not have.
struct Risks {
  bool refused_pairs = false;
  bool held_states = false;

  [[nodiscard]] bool allow(const Act& act, const Model& model) const {
    return (refused_pairs || !model.is_refused_pair(act)) && (held_states || !model.holds_state(act));
  }
};

}  // namespace gangway::conformance
