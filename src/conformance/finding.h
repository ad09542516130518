// How a test ends other than by passing. Tests throw these, the runner catches them; none leaves the room.
#pragma once

#include <string>
#include <string_view>

namespace gangway::conformance {

// The device breaks a clause.
struct Finding {
  std::string_view clause;
  std::string expected;
  std::string came;
  std::string script;  // the acts that show it; the journal of the test if empty
};

// A step on the way to the question failed, so the question could not be asked. Which clause the step breaks is for the
// test of that clause to say.
struct Untestable {
  std::string reason;
  // The device failed on the way, as opposed to something that the suite was not given.
  bool device_failed = true;
};

// The device does not have what the test is about.
struct Unsupported {
  std::string missing;
};

}  // namespace gangway::conformance
