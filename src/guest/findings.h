// What went wrong in a workload: counted in guest RAM, described here.
//
// Thread-safety: all.
#pragma once

#include <mutex>
#include <optional>
#include <string>

namespace gangway::guest {

// Keeps the first of each: what was found bad, and why the workload cannot go on.
class Findings {
 public:
  void bad(std::string what);
  void failed(std::string why);

  [[nodiscard]] std::string first_bad() const;  // empty: nothing
  [[nodiscard]] std::string failure() const;    // empty: it goes on

 private:
  mutable std::mutex mutex_;
  std::string first_bad_;
  std::string failure_;
};

}  // namespace gangway::guest
