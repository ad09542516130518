#include "kernel/node.h"

#include <gmock/gmock.h>

#include <tuple>

namespace gangway::kernel {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Node, what_keeps_it_closed_is_said_with_what_to_do) {
  const std::tuple<int, std::string_view> kSays[] = {
      {ENOENT, "load the module"},
      {EACCES, "chown USER /dev/vfio/12"},
      {EPERM, "chown USER /dev/vfio/12"},
      {EBUSY, "it is in use"},
      {ENODEV, "no driver"},
      {EMFILE, "Too many open files"},
  };
  for (const auto& [code, says] : kSays) {
    const Error error = why_not_opened("/dev/vfio/12", code, "load the module");
    EXPECT_EQ(error.code, code);
    EXPECT_THAT(error.message, AllOf(StartsWith("/dev/vfio/12: "), HasSubstr(std::string(says))));
  }
}

TEST(Node, one_that_is_not_there_is_not_opened) {
  const auto node = open_node("/dev/gangway/none", "there is none");
  ASSERT_FALSE(node);
  EXPECT_EQ(node.error().code, ENOENT);
  EXPECT_EQ(node.error().message, "/dev/gangway/none: there is none");
}

TEST(Node, what_can_be_opened_is) { EXPECT_TRUE(open_node("/dev/null", "there is none")); }

}  // namespace
}  // namespace gangway::kernel
