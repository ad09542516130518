// What a device process takes of the limits that it was started with.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

TEST(ServeLimits, all_descriptors_that_the_process_may_have) {
  Site site;
  rlimit normal{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &normal), 0);
  const rlimit tight{.rlim_cur = 64, .rlim_max = normal.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  site.run("device", {"serve", "faulty", "--defect", "none", "--socket", site.file("device.sock")});
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &normal), 0);
  site.until_there("device.sock");
  rlimit served{};
  ASSERT_EQ(::prlimit(site.process("device").pid(), RLIMIT_NOFILE, nullptr, &served), 0);
  EXPECT_EQ(served.rlim_cur, normal.rlim_max);
}

}  // namespace
}  // namespace gangway::integration
