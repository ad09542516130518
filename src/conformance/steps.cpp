#include "conformance/steps.h"

#include <fmt/core.h>

namespace gangway::conformance {

using enum DeviceState;

// --- steps ---

void step(const Result<void>& done, std::string_view what) {
  if (!done) throw Untestable{fmt::format("{}: {}", what, to_text(done.error()))};
}

// The two refused pairs have a way around by STOP.
void go(Subject& subject, DeviceState state) {
  if (subject.last_state() == StopCopy && contract::is_pre_copy(state)) step(subject.set(Stop), "set STOP");
  step(subject.set(state), fmt::format("set {}", contract::name(state)));
}

void reset(Subject& subject) { step(subject.reset(), "reset"); }

void reopen(Subject& subject) {
  step(subject.rest(), "leave the device RUNNING");
  step(subject.open(), "open the device again");
}

void save(Subject& subject) {
  go(subject, StopCopy);
  const Result<StreamRead> done = subject.read_all();
  if (!done && done.error().code == EFBIG) throw Untestable{done.error().message, false};
  const StreamRead read = step(done, "read all migration data");
  if (subject.received().empty()) throw Untestable{"a save yields no data"};
  if (read.end != StreamEnd::Final) throw Untestable{"migration data in STOP_COPY does not end"};
  subject.keep();
}

void make_stream(Subject& subject) {
  save(subject);
  go(subject, Running);
}

void fill(Subject& subject, const Variant& variant) {
  if (subject.last_state() != Resuming) go(subject, Resuming);
  subject.choose(variant);
  step(subject.write_all(), "write migration data");
}

std::shared_ptr<Workload> set_up_workload(Context& context, Subject& subject) {
  std::shared_ptr<Workload> workload = make_workload(context.abilities);
  if (!workload) throw Untestable{"the suite knows no workload for this device", false};
  step(subject.perform("work set-up", [workload](DeviceHandle& device) { return workload->set_up(device); }),
       "set up the workload");
  return workload;
}

std::shared_ptr<Workload> set_up_workload(Context& context) { return set_up_workload(context, context.device); }

// --- judgement ---

void fail_clause(std::string_view clause, std::string expected, std::string came) {
  throw Finding{clause, std::move(expected), std::move(came), {}};
}

void expect_done(std::string_view clause, const Result<void>& done, std::string_view expected) {
  if (!done) fail_clause(clause, std::string(expected), to_text(done.error()));
}

void expect_refused(std::string_view clause, Subject& subject, const Result<void>& done, std::string_view expected,
                    int code) {
  if (done) fail_clause(clause, std::string(expected), "success");
  if (subject.lost()) fail_clause(clause, std::string(expected), subject.why_lost());
  if (code != 0 && done.error().code != code) fail_clause(clause, std::string(expected), to_text(done.error()));
}

void expect_state(std::string_view clause, Subject& subject, DeviceState state) {
  const Result<DeviceState> now = subject.get();
  const std::string expected = fmt::format("the device is in {}", contract::name(state));
  if (!now) fail_clause(clause, expected, to_text(now.error()));
  if (*now != state) fail_clause(clause, expected, fmt::format("it is in {}", contract::name(*now)));
}

void expect(std::string_view clause, bool holds, std::string_view expected, std::string came) {
  if (!holds) fail_clause(clause, std::string(expected), std::move(came));
}

void expect_migrates(std::string_view clause, Subject& subject) {
  expect_done(clause, subject.set(StopCopy), "the device still saves: STOP_COPY");
  const StreamRead read = expect_answer(clause, subject.read_all(), "the device still saves: its data is read");
  expect(clause, read.end == StreamEnd::Final && !subject.received().empty(),
         "the device still saves: data with an end", fmt::format("{} bytes without an end", read.size));
  subject.keep();
  expect_done(clause, subject.set(Running), "the device runs after a save");
  expect_loads(clause, subject, "the device still loads its own state");
}

void expect_loads(std::string_view clause, Subject& subject, std::string_view expected) {
  if (subject.last_state() != Resuming) expect_done(clause, subject.set(Resuming), expected);
  subject.choose({});
  expect_done(clause, subject.write_all(), expected);
  expect_done(clause, subject.set(Running), expected);
  expect_state(clause, subject, Running);
}

std::vector<DeviceState> states_of(MigrationFlags flags) {
  std::vector<DeviceState> states;
  for (const DeviceState state : {Running, RunningP2p, Stop, StopCopy, Resuming, PreCopy, PreCopyP2p}) {
    if (contract::advertised(state, flags)) states.push_back(state);
  }
  return states;
}

}  // namespace gangway::conformance
