// Failures that are known and accepted for a time, from a file.
//
// A line a waiver: device glob, clause glob, expiry (YYYY-MM-DD or "never"), a link ("-" for none), and the reason,
// which may have spaces. '#' begins a comment. A waiver that has expired waives nothing.
//
// Thread-safety: one thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <gangway/error.h>

namespace gangway::conformance {

// '*' is any text, '?' any character.
[[nodiscard]] bool matches_glob(std::string_view glob, std::string_view text);

class Waivers {
 public:
  // `today` is "YYYY-MM-DD". Errors name the line.
  static Result<Waivers> parse(std::string_view text, std::string_view today);
  static Result<Waivers> load(const std::string& file);

  // Why a failure of the clause is accepted; null if it is not.
  [[nodiscard]] const std::string* find(std::string_view device, std::string_view clause);
  // Those that waived nothing, and why.
  [[nodiscard]] std::vector<std::string> unused() const;

 private:
  struct Waiver {
    std::string device;
    std::string clause;
    std::string reason;  // with link and expiry
    std::string line;
    bool expired = false;
    bool used = false;
  };
  std::vector<Waiver> waivers_;
};

}  // namespace gangway::conformance
