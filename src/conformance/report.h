// What a run found, by clause; and the formats it is written in.
//
// Thread-safety: values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/contract.h>
#include <gangway/error.h>

namespace gangway::conformance {

enum class Verdict : std::uint8_t { Pass, Fail, NotSupported, NotTested, Waived };
inline constexpr std::size_t kVerdicts = 5;
// "pass", "fail", "not_supported", "not_tested", "waived"
[[nodiscard]] std::string_view to_text(Verdict verdict);

// One test, as far as it is about one clause.
struct TestResult {
  std::string_view name;
  Verdict verdict = Verdict::NotTested;
  double seconds = 0;
  std::string message;   // what was expected and what came; why it was not tested; a warning
  std::string script;    // the acts that show it
  std::string expected;  // of a failure
  std::string came;
  bool warning = false;        // a SHOULD that is not met, where it need not be
  bool device_failed = false;  // not tested because the device failed on the way
};

struct ClauseResult {
  const contract::Clause* clause = nullptr;
  Verdict verdict = Verdict::NotTested;
  std::vector<TestResult> tests;
};

// A state or an arc that was gone over, for the diagram.
struct Coverage {
  // [from][to]: how often a SET succeeded and failed.
  std::array<std::array<std::uint32_t, kDeviceStates>, kDeviceStates> done{};
  std::array<std::array<std::uint32_t, kDeviceStates>, kDeviceStates> failed{};
  // How often a clause failed with a SET from one to the other, and by another act in a state.
  std::array<std::array<std::uint32_t, kDeviceStates>, kDeviceStates> broken{};
  std::array<std::uint32_t, kDeviceStates> broken_in{};

  // What a failure's script ends with.
  void count_failure(std::string_view script);
};

struct Report {
  std::string target;
  std::optional<MigrationFlags> flags;
  std::string note;  // of the whole run: "the device does not migrate: ..."
  std::vector<ClauseResult> clauses;
  std::vector<std::string> unused_waivers;
  Coverage coverage;
  double seconds = 0;

  [[nodiscard]] std::size_t count(Verdict verdict) const;
  // 0 all passed, 1 a failure.
  [[nodiscard]] int exit_status() const;
};

enum class Format : std::uint8_t { Text, Tap, Junit, Json, Html };
[[nodiscard]] std::optional<Format> parse_format(std::string_view name);

[[nodiscard]] std::string to_text(const Report& report);
[[nodiscard]] std::string to_tap(const Report& report);
[[nodiscard]] std::string to_junit(const Report& report);
[[nodiscard]] std::string to_json(const Report& report);
[[nodiscard]] std::string to_html(const Report& report);
[[nodiscard]] std::string write(const Report& report, Format format);

// "a & b" as it stands in XML and HTML text and attributes; what XML cannot hold becomes '?'.
[[nodiscard]] std::string escape_markup(std::string_view text);

}  // namespace gangway::conformance
