#include "guest/ext4_image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include <gangway/fd.h>

#include "guest/child_process.h"

namespace gangway::guest {
namespace {

class Ext4Image : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "gangway-image-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    image_ = directory_ / "disk.img";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_;
  std::filesystem::path image_;
};

TEST_F(Ext4Image, overwriting_the_extents_leaves_the_file_system_clean) {
  const auto made = make_ext4_image(image_, 32U << 20, 8U << 20);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const auto extents = find_workload_file(image_);
  ASSERT_TRUE(extents.has_value()) << extents.error().message;
  const Fd file(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
  std::uint64_t total = 0;
  for (const Extent& extent : *extents) {
    std::vector<char> bytes(extent.size);
    ASSERT_EQ(::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(extent.offset)),
              static_cast<ssize_t>(bytes.size()));
    EXPECT_EQ(bytes, std::vector<char>(extent.size, '\xa5'));  // it is the file, all of it
    bytes.assign(extent.size, 'x');
    ASSERT_EQ(::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(extent.offset)),
              static_cast<ssize_t>(bytes.size()));
    total += extent.size;
  }
  EXPECT_EQ(total, 8U << 20);
  const auto check = check_ext4(image_);
  ASSERT_TRUE(check.has_value()) << check.error().message;
  EXPECT_TRUE(check->clean) << check->output;
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1) << "something was left beside it";
}

TEST_F(Ext4Image, nothing_beside_it_is_touched) {
  const auto neighbour = std::filesystem::path(image_.string() + ".staging") / "precious";
  std::filesystem::create_directories(neighbour.parent_path());
  std::ofstream(neighbour) << "kept";
  const auto made = make_ext4_image(image_, 32U << 20, 1U << 20);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_TRUE(std::filesystem::exists(neighbour));
}

TEST_F(Ext4Image, a_damaged_file_system_is_not_clean) {
  ASSERT_TRUE(make_ext4_image(image_, 32U << 20, 1U << 20).has_value());
  const Fd file(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
  const std::vector<char> bytes(4096, 'x');
  ASSERT_EQ(::pwrite(file.get(), bytes.data(), bytes.size(), 4096), 4096);  // the group descriptors
  const auto check = check_ext4(image_);
  ASSERT_TRUE(check.has_value()) << check.error().message;
  EXPECT_FALSE(check->clean);
}

TEST_F(Ext4Image, a_file_can_be_put_into_an_image_that_has_none) {
  const auto made = run_tool("mkfs.ext4", {"-q", "-F", image_, "32M"});
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const auto missing = find_workload_file(image_);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ENOENT);
  const auto added = add_workload_file(image_, 4U << 20);
  ASSERT_TRUE(added.has_value()) << added.error().message;
  const auto extents = find_workload_file(image_);
  ASSERT_TRUE(extents.has_value()) << extents.error().message;
  const auto check = check_ext4(image_);
  ASSERT_TRUE(check.has_value()) << check.error().message;
  EXPECT_TRUE(check->clean) << check->output;
}

TEST_F(Ext4Image, a_file_that_does_not_fit_is_refused_and_leaves_nothing) {
  ASSERT_TRUE(run_tool("mkfs.ext4", {"-q", "-F", image_, "16M"}).has_value());
  const auto added = add_workload_file(image_, 64U << 20);
  ASSERT_FALSE(added.has_value());
  EXPECT_EQ(added.error().code, ENOSPC);
  EXPECT_FALSE(find_workload_file(image_).has_value());
  EXPECT_TRUE(check_ext4(image_)->clean);
}

TEST_F(Ext4Image, what_has_no_file_system_is_told) {
  std::ofstream(image_) << std::string(4096, 'x');
  EXPECT_EQ(is_ext4(image_).value_or(true), false);
  EXPECT_FALSE(find_workload_file(image_).has_value());
  EXPECT_FALSE(is_ext4(directory_ / "none").has_value());
}

TEST(Ext4Extents, several_levels_are_read_and_sorted) {
  const auto extents = parse_extents(
      "Level Entries       Logical      Physical Length Flags\n"
      " 1/ 1   2/ 2  2048 -  4095  1000 -  3047   2048 \n"
      " 1/ 1   1/ 2     0 -  2047  8000 - 10047   2048 \n",
      4096);
  ASSERT_TRUE(extents.has_value()) << extents.error().message;
  EXPECT_EQ(*extents, (std::vector<Extent>{{4096000, 8388608}, {32768000, 8388608}}));
}

TEST(Ext4Extents, pages_cut_by_smaller_blocks_are_left_out) {
  const auto extents = parse_extents(
      " 0/ 0   1/  2     0 -     9   101 -    110     10\n"
      " 0/ 0   2/  2    10 -    11   201 -    202      2\n",
      1024);
  ASSERT_TRUE(extents.has_value()) << extents.error().message;
  EXPECT_EQ(*extents, (std::vector<Extent>{{104 * 1024, 4096}}));
}

TEST(Ext4Extents, unwritten_blocks_are_refused) {
  const auto extents = parse_extents(" 0/ 0   1/  1     0 -  5119  2065 -  7184   5120 Uninit\n", 4096);
  ASSERT_FALSE(extents.has_value());
  EXPECT_NE(extents.error().message.find("Uninit"), std::string::npos);
  EXPECT_FALSE(parse_extents("", 4096).has_value());
}

TEST(RunTool, a_missing_program_is_named) {
  const auto result = run_tool("no-such-tool-anywhere", {});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ENOENT);
  EXPECT_EQ(result.error().message, "no-such-tool-anywhere: not found in PATH or the sbin directories");
}

TEST(RunTool, status_and_output_are_returned) {
  const auto result = run_tool("sh", {"-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(result->status, 3);
  EXPECT_EQ(result->output, "out\nerr\n");
}

}  // namespace
}  // namespace gangway::guest
