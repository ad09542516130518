#include "conformance/data_bound.h"

#include <gtest/gtest.h>

namespace gangway::conformance {
namespace {

constexpr std::size_t kMemory = std::size_t{1} << 40;

// What the device says, and how often it was asked.
struct Device {
  Result<std::uint64_t> size;
  int asked = 0;
  DataBound::AskSize ask() {
    return [this] {
      ++asked;
      return size;
    };
  }
};

int code_of(const Result<void>& result) { return result ? 0 : result.error().code; }

TEST(DataBound, a_usual_stream_is_read_without_a_question) {
  Device device{.size = 0};
  DataBound bound(0, kMemory);
  EXPECT_TRUE(bound.admit(DataBound::kUsual, device.ask()));
  EXPECT_EQ(device.asked, 0);
}

TEST(DataBound, a_long_stream_that_is_announced_is_read_and_the_question_asked_once) {
  Device device{.size = std::uint64_t{20} << 30};
  DataBound bound(0, kMemory);
  for (const std::size_t gib : {1U, 8U, 20U, 40U})
    EXPECT_TRUE(bound.admit(std::size_t{gib} << 30, device.ask())) << gib;
  EXPECT_EQ(device.asked, 1);
}

TEST(DataBound, a_stream_far_beyond_what_is_announced_has_no_end) {
  Device device{.size = 100'000};
  DataBound bound(0, kMemory);
  const auto admitted = bound.admit(DataBound::kUsual + 1, device.ask());
  EXPECT_EQ(code_of(admitted), ENOSPC);
  EXPECT_NE(admitted.error().message.find("MIG_DATA_SIZE says 100000"), std::string::npos) << admitted.error().message;
}

TEST(DataBound, of_a_device_that_says_nothing_the_stream_before_is_the_measure) {
  Device device{.size = fail(ENOTTY, "not supported")};
  EXPECT_EQ(code_of(DataBound(4096, kMemory).admit(DataBound::kUsual + 1, device.ask())), ENOSPC);
  EXPECT_TRUE(DataBound(DataBound::kUsual, kMemory).admit(2 * DataBound::kUsual, device.ask()));
  DataBound unknown(0, kMemory);
  EXPECT_TRUE(unknown.admit(DataBound::kUnannounced, device.ask()));
  EXPECT_EQ(code_of(unknown.admit(DataBound::kUnannounced + 1, device.ask())), ENOSPC);
}

TEST(DataBound, a_stream_that_fits_no_memory_is_told_apart) {
  Device device{.size = UINT64_MAX};
  DataBound bound(0, std::size_t{1} << 30);
  EXPECT_TRUE(bound.admit(std::size_t{1} << 30, device.ask()));
  EXPECT_EQ(code_of(bound.admit((std::size_t{1} << 30) + 1, device.ask())), EFBIG);
}

}  // namespace
}  // namespace gangway::conformance
