// What a migration tells about itself while it goes on and afterwards.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace gangway::migrate {

struct Phase {
  std::string name;  // "setup", "pre-copy", "switchover: stop devices", ...
  std::chrono::nanoseconds took{0};
};

struct Progress {
  std::string phase;
  int round = 0;                         // of memory, from 1; 0 before the first
  std::uint64_t memory_bytes_sent = 0;   // page data; zero pages count nothing
  std::uint64_t memory_bytes_dirty = 0;  // still to be sent, as known now
  std::uint64_t device_bytes_sent = 0;
  double bytes_per_second = 0;  // memory and devices, since the start
};

}  // namespace gangway::migrate
