// Both ends of a migration in one process.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "migrate/destination.h"
#include "migrate/source.h"

namespace gangway::migrate {

struct Outcome {
  Result<SourceReport> source = fail(EINVAL, "not run");
  Result<DestinationReport> destination = fail(EINVAL, "not run");
};

// Moves `from` to `to`; `via` is the address the source is given, the listener's own unless set.
inline Outcome migrate_pair(Machine& from, Machine& to, Listener& listener, const SourceOptions& out = {},
                            const DestinationOptions& in = {}, const std::string& via = {}) {
  Outcome outcome;
  std::jthread destination([&] { outcome.destination = listener.migrate_in(to, in); });
  outcome.source = migrate_out(from, via.empty() ? listener.address() : via, out);
  destination.join();
  return outcome;
}

inline std::string text(const Result<SourceReport>& result) { return result ? "success" : result.error().message; }
inline std::string text(const Result<DestinationReport>& result) { return result ? "success" : result.error().message; }

}  // namespace gangway::migrate
