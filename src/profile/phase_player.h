// Plays one phase on one device.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "conformance/finding.h"
#include "conformance/journal.h"
#include "conformance/model.h"
#include "conformance/subject.h"
#include "profile/profile.h"
#include "profile/region_acts.h"
#include "profile/report.h"
#include "profile/saved.h"

namespace gangway::profile {

class PhasePlayer {
 public:
  struct Setting {
    std::optional<Revision> interface = Revision::V2;
    Features features;
    std::optional<MigrationRegion> region;  // of v1 and region-v2
    const Saved* saved = nullptr;           // what is loaded
  };
  PhasePlayer(conformance::Subject& subject, conformance::Journal& journal, const Setting& setting);

  // From a device just opened. Ends at the first act that breaks a clause.
  PhaseResult play(const Phase& phase);
  // What the phase read to its end while the device was stopped; empty if it did not.
  [[nodiscard]] const Saved& saved() const { return saved_; }

 private:
  using Finding = conformance::Finding;
  // What came of an act that scripts do not have.
  struct OwnOutcome {
    std::optional<Error> error;
    std::string text;
    std::optional<Finding> finding;
  };

  bool play_steps(const std::vector<Step>& steps);  // false: over
  bool play_step(const Step& step);
  bool play_act(const Step& step, const conformance::Act& act, std::string_view clause);
  conformance::Outcome act_by_region(const conformance::Act& act);
  std::optional<DeviceState> state_now();
  bool recover(const Step& step);
  bool play_own(const Step& step);
  bool play_repeat(const Step& step);
  bool play_until_end(const Step& step);
  bool play_thread(const Step& step);
  bool check_expectation(const Step& step);
  bool check_end();
  bool check_v1_end();

  OwnOutcome carry_out(const OwnAct& own, std::string_view line);
  OwnOutcome keep_command();
  OwnOutcome clear_command();
  OwnOutcome enable_command();
  OwnOutcome restore_command();
  OwnOutcome check_command();
  Result<std::uint16_t> read_command();
  OwnOutcome arm_interrupts(std::string_view line);
  OwnOutcome start_all_logging(std::string_view line);
  OwnOutcome set_bits(std::uint32_t bits, std::string_view line);
  OwnOutcome read_pending(std::string_view line);
  OwnOutcome read_chunk(std::size_t access, std::string_view line);
  OwnOutcome load_chunks(std::size_t access, std::string_view line);

  bool note(const Step& step, std::string text, std::string_view clause, std::string outcome,
            const std::optional<Finding>& finding);

  conformance::Subject& subject_;
  conformance::Journal& journal_;
  const Setting setting_;
  conformance::Model model_;
  PhaseResult result_;
  Saved saved_;
  Saved reading_;

  std::optional<Error> last_error_;  // of the last act
  bool met_end_ = false;             // a read did
  std::uint64_t read_ = 0;           // bytes, altogether
  std::uint16_t command_ = 0;
  std::optional<std::uint32_t> bits_;  // that v1's device_state must have
};

}  // namespace gangway::profile
