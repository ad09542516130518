#include "conformance/foundations.h"

namespace gangway::conformance {

const std::vector<Foundation>& foundations() {
  static const std::vector<Foundation> all{
      // What GET says, and that a SET comes back, is asked by every test.
      {"FSM-COMPLETE", {"*"}},
      // A reply that no client can take ends the connection in the middle of whatever is asked.
      {"WIR-REPLY", {"*"}},
      {"WIR-GONE", {"LOG-START", "LOG-REPORT"}},
      // Who cannot leave pre-copy is refused other SETs there for the same reason.
      {"DAT-EARLY", {"FSM-REPEAT", "FSM-INVALID"}},
      // Whoever loads on the way enters RESUMING.
      {"RST-NOT-REQUIRED",
       {"FSM-INITIAL", "FSM-BLOCKED", "FSM-INVALID", "FSM-REPEAT", "FSM-FAIL", "RST-CLEARS", "RST-CONCURRENT",
        "DAT-SESSION", "DAT-STREAM"}},
      {"FSM-REPEAT",
       {"FSM-INITIAL", "FSM-BLOCKED", "FSM-INVALID", "FSM-FAIL", "RST-CONCURRENT", "DAT-SESSION", "DAT-STREAM"}},
      {"RST-ALLOWED", {"FSM-FAIL", "RST-ABORTS", "RST-CONCURRENT"}},
      {"DAT-EOS-PRECOPY", {"DAT-SESSION"}},
      {"DAT-EOS-STOP", {"FSM-INITIAL", "FSM-INVALID", "FSM-FAIL", "RST-CONCURRENT", "DAT-STREAM", "STP-ACCESS"}},
      // A stream that does not survive being cut loads nowhere.
      {"DAT-STREAM",
       {"FSM-ARC", "FSM-BLOCKED", "FSM-INITIAL", "RST-CLEARS", "RST-CONCURRENT", "DAT-SESSION", "DAT-EARLY",
        "DAT-DIRECTION", "DAT-IDENTITY", "STP-ACCESS"}},
      {"DAT-SESSION", {"DAT-EARLY"}},
      {"RST-CLEARS", {"RST-CONCURRENT"}},
      {"FSM-INVALID", {"FSM-BLOCKED"}},
      // A region of another revision is no region of v1.
      {"R2-FOUND", {"V1-*", "R2-*"}},
      {"R2-LAYOUT", {"R2-STATES"}},
      {"R2-STATES", {"R2-DATA"}},
      {"V1-STATES", {"V1-SAVE", "V1-LOAD", "V1-CHANGE"}},
      // What is saved is judged by whether it loads.
      {"V1-LOAD", {"V1-SAVE", "V1-CHANGE"}},
      {"V1-SAVE", {"V1-CHANGE"}},
  };
  return all;
}

}  // namespace gangway::conformance
