// The acts of a test as they happened, in the language of scripts: an act a line, what came of it behind a '#'. What is
// no act of that language (a workload, two things at once) is a comment.
//
// Thread-safety: any thread.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace gangway::conformance {

class Journal {
 public:
  void act(std::string_view line);
  // What came of the last act.
  void outcome(std::string_view text);
  void clear();
  [[nodiscard]] std::string text() const;

 private:
  struct Line {
    std::string act;
    std::string outcome;
  };
  mutable std::mutex mutex_;
  std::vector<Line> lines_;
  std::size_t dropped_ = 0;
};

}  // namespace gangway::conformance
