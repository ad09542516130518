#include <gtest/gtest.h>

#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

struct NvmeIo : testing::Test {};

TEST(NvmeIo, what_is_written_is_read_back) {
  Rig rig;
  ASSERT_EQ(rig.driver.enable(), kCstsReady);
  ASSERT_EQ(rig.driver.create_pair(1), Status::Success);
  const Iova data = rig.ram.allocate(8192);
  const auto bytes = pattern(8192, 7);
  std::ranges::copy(bytes, rig.ram.at(data, 8192).begin());
  EXPECT_EQ(status_of(rig.driver.run(1, io_command(IoOpcode::Write, 10, 16, data))), Status::Success);
  EXPECT_EQ(rig.image->read(10 * 512, 8192), bytes);
  rig.ram.fill(data, 8192, std::byte{0});
  EXPECT_EQ(status_of(rig.driver.run(1, io_command(IoOpcode::Read, 10, 16, data))), Status::Success);
  EXPECT_TRUE(std::ranges::equal(rig.ram.at(data, 8192), bytes));
}

}  // namespace
}  // namespace gangway::nvme::test
