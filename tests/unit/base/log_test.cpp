#include "base/log.h"

#include <gtest/gtest.h>

#include <string>

namespace gangway::log {
namespace {

// What an embedding program prints on standard output is its own, set up or not.
TEST(Log, messages_go_to_standard_error_before_it_is_set_up) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  warn("the {} is loose", "cable");
  debug("nobody asked");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "gangway: warning: the cable is loose\n");
}

TEST(Log, a_program_that_sets_it_up_chooses_name_and_level) {
  testing::internal::CaptureStderr();
  set_up("keeper", Level::Error);
  warn("not shown");
  error("shown");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "keeper: error: shown\n");
  set_up("gangway", Level::Info);
}

}  // namespace
}  // namespace gangway::log
