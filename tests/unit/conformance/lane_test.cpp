#include "conformance/lane.h"

#include <gtest/gtest.h>

#include <future>

namespace gangway::conformance {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;

TEST(Lane, work_is_done_in_order) {
  Lane lane;
  std::vector<int> done;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(lane.run([&done, i] { done.push_back(i); }, minutes(5)));
  EXPECT_EQ(done, (std::vector{0, 1, 2}));
}

TEST(Lane, work_that_hangs_is_left_behind_and_the_lane_goes_on) {
  Lane lane;
  auto release = std::make_shared<std::promise<void>>();
  auto ended = std::make_shared<std::promise<void>>();
  EXPECT_FALSE(lane.run(
      [release, ended] {
        release->get_future().wait();
        ended->set_value();
      },
      milliseconds(1)));
  bool done = false;
  EXPECT_TRUE(lane.run([&done] { done = true; }, minutes(5)));
  EXPECT_TRUE(done);
  release->set_value();
  ended->get_future().wait();
}

TEST(Lane, what_work_owns_is_let_go_when_it_is_done) {
  Lane lane;
  auto owned = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = owned;
  EXPECT_TRUE(lane.run([owned = std::move(owned)] {}, minutes(5)));
  EXPECT_TRUE(lane.run([] {}, minutes(5)));
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace gangway::conformance
