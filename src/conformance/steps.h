// What tests do on the way to their question, and how they judge the answer.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "conformance/test.h"

namespace gangway::conformance {

// --- steps: Untestable when they fail ---

void step(const Result<void>& done, std::string_view what);
template <class T>
T step(Result<T> done, std::string_view what) {
  if (done) return *std::move(done);
  throw Untestable{std::string(what) + ": " + to_text(done.error())};
}

void go(Subject& subject, DeviceState state);
void reset(Subject& subject);
// From RUNNING: what holds a state over a close is for the tests that run last.
void reopen(Subject& subject);
// To STOP_COPY in one call, the whole stream, kept as the good one. The device stays in STOP_COPY.
void save(Subject& subject);
// Saves, and leaves a RUNNING device and a good stream behind.
void make_stream(Subject& subject);
// The good stream, or a variant, into a device that is taken to RESUMING; it stays there.
void fill(Subject& subject, const Variant& variant = {});
// A workload that is set up.
std::shared_ptr<Workload> set_up_workload(Context& context, Subject& subject);
std::shared_ptr<Workload> set_up_workload(Context& context);

// --- judgement ---

[[noreturn]] void fail_clause(std::string_view clause, std::string expected, std::string came);

void expect_done(std::string_view clause, const Result<void>& done, std::string_view expected);
template <class T>
T expect_answer(std::string_view clause, Result<T> answer, std::string_view expected) {
  if (answer) return *std::move(answer);
  fail_clause(clause, std::string(expected), to_text(answer.error()));
}
// An error, of this code if one is given, from a device that is still there.
void expect_refused(std::string_view clause, Subject& subject, const Result<void>& done, std::string_view expected,
                    int code = 0);
template <class T>
void expect_refused(std::string_view clause, Subject& subject, const Result<T>& done, std::string_view expected,
                    int code = 0) {
  expect_refused(clause, subject, done ? Result<void>{} : Result<void>(std::unexpected(done.error())), expected, code);
}
void expect_state(std::string_view clause, Subject& subject, DeviceState state);
void expect(std::string_view clause, bool holds, std::string_view expected, std::string came);

// Saves and loads; fails the clause if the device does not manage it any more.
void expect_migrates(std::string_view clause, Subject& subject);
// Loads the good stream and starts the device.
void expect_loads(std::string_view clause, Subject& subject, std::string_view expected);

// The states that a device with these flags has, RUNNING first.
[[nodiscard]] std::vector<DeviceState> states_of(MigrationFlags flags);

}  // namespace gangway::conformance
