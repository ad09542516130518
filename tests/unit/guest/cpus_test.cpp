#include "guest/cpus.h"

#include <gtest/gtest.h>

#include <atomic>

namespace gangway::guest {
namespace {

// Counts up until told to finish. What it counts is plain memory: pausing must make it safe to read.
class Counter : public CpuProgram {
 public:
  Step step() override {
    if (finish.load()) return Step::Finished;
    ++steps;
    progress.store(steps);
    progress.notify_all();
    return Step::Worked;
  }
  void wait_for_progress() {
    const auto before = progress.load();
    progress.wait(before);
  }
  std::uint64_t steps = 0;
  std::atomic<std::uint64_t> progress{0};
  std::atomic<bool> finish{false};
};

TEST(Cpus, nothing_runs_before_the_first_resume) {
  Counter counter;
  Cpus cpus;
  cpus.start({&counter});
  cpus.pause();
  EXPECT_EQ(counter.steps, 0U);
  EXPECT_TRUE(cpus.paused());
}

TEST(Cpus, a_pause_stops_every_program_between_steps) {
  Counter first;
  Counter second;
  Cpus cpus;
  cpus.start({&first, &second});
  for (int round = 0; round < 20; ++round) {
    cpus.resume();
    first.wait_for_progress();
    second.wait_for_progress();
    cpus.pause();
    const std::uint64_t steps = first.steps + second.steps;
    EXPECT_EQ(first.progress.load() + second.progress.load(), steps);
  }
}

TEST(Cpus, finished_programs_are_asked_again_after_a_kick) {
  Counter counter;
  counter.finish.store(true);
  Cpus cpus;
  cpus.start({&counter});
  cpus.resume();
  cpus.wait_finished();
  counter.finish.store(false);
  cpus.kick();
  counter.wait_for_progress();
  counter.finish.store(true);
  cpus.wait_finished();
  EXPECT_GT(counter.steps, 0U);
}

TEST(Cpus, a_finished_program_can_be_paused_and_ended) {
  Counter counter;
  counter.finish.store(true);
  Cpus cpus;
  cpus.start({&counter});
  cpus.resume();
  cpus.wait_finished();
  cpus.pause();
  cpus.resume();
  cpus.wait_finished();
  EXPECT_EQ(counter.steps, 0U);
}

}  // namespace
}  // namespace gangway::guest
