// A migration's progress and timeline for people.
#pragma once

#include <cstdio>
#include <string>

#include <nlohmann/json.hpp>

namespace gangway::guest {

// "round 2, 118.0 MiB sent, 3.1 MiB to go, 912 MiB/s" of a progress event.
[[nodiscard]] std::string describe_progress(const nlohmann::ordered_json& progress);

// Phases with times and bars, bytes, rounds, downtime, of an event "completed". Ends with a line end.
[[nodiscard]] std::string describe_timeline(const nlohmann::ordered_json& completed);

// One line that is shown anew in place on a terminal, and line by line elsewhere when it has something new to say.
class ProgressLine {
 public:
  explicit ProgressLine(std::FILE* out);
  void show(const std::string& text);
  void show_on_terminal(const std::string& text);  // there alone
  void end();                                      // leaves the last text standing
  void clear();                                    // leaves nothing

 private:
  std::FILE* out_;
  bool terminal_;
  std::string shown_;
};

}  // namespace gangway::guest
