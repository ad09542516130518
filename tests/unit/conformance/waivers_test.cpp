#include "conformance/waivers.h"

#include <gtest/gtest.h>

namespace gangway::conformance {
namespace {

constexpr std::string_view kToday = "2030-06-15";

TEST(Glob, stars_and_question_marks_match) {
  EXPECT_TRUE(matches_glob("DAT-*", "DAT-SIZE"));
  EXPECT_TRUE(matches_glob("*", ""));
  EXPECT_TRUE(matches_glob("*-*-?TATE", "PRE-INFO-STATE"));
  EXPECT_TRUE(matches_glob("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(matches_glob("DAT-*", "FSM-ARC"));
  EXPECT_FALSE(matches_glob("a?c", "ac"));
  EXPECT_FALSE(matches_glob("", "a"));
}

TEST(Waivers, a_waiver_covers_its_device_and_clause) {
  auto waivers = Waivers::parse("vfio:* DAT-S* 2031-01-01 https://bugs/1 the driver guesses\n", kToday);
  ASSERT_TRUE(waivers.has_value()) << waivers.error().message;
  EXPECT_EQ(waivers->find("vfio-user:/a", "DAT-SIZE"), nullptr);
  EXPECT_EQ(waivers->find("vfio:0000:01:00.0", "FSM-ARC"), nullptr);
  EXPECT_EQ(waivers->unused().size(), 1U);
  const std::string* const reason = waivers->find("vfio:0000:01:00.0", "DAT-SIZE");
  ASSERT_NE(reason, nullptr);
  EXPECT_EQ(*reason, "the driver guesses (until 2031-01-01, https://bugs/1)");
  EXPECT_TRUE(waivers->unused().empty());
}

TEST(Waivers, one_that_expired_waives_nothing_and_is_reported) {
  auto waivers = Waivers::parse("* * 2030-06-14 - long ago\n* FSM-* 2030-06-15 - the last day\n", kToday);
  ASSERT_TRUE(waivers.has_value()) << waivers.error().message;
  EXPECT_EQ(waivers->find("a", "DAT-SIZE"), nullptr);
  EXPECT_NE(waivers->find("a", "FSM-ARC"), nullptr);
  ASSERT_EQ(waivers->unused().size(), 1U);
  EXPECT_NE(waivers->unused()[0].find("expired"), std::string::npos);
}

TEST(Waivers, a_line_that_is_none_is_refused_by_its_number) {
  for (const std::string_view line : {"a b", "a b never -", "a b tomorrow - reason", "a b 2030-6-15 - reason"}) {
    const auto waivers = Waivers::parse("# first\n" + std::string(line) + "\n", kToday);
    ASSERT_FALSE(waivers.has_value()) << line;
    EXPECT_NE(waivers.error().message.find("line 2"), std::string::npos) << waivers.error().message;
  }
}

}  // namespace
}  // namespace gangway::conformance
