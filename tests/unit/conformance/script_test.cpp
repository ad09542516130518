// The language of scripts, and streams that are spoiled by name.
#include <gtest/gtest.h>

#include "conformance/act.h"
#include "conformance/journal.h"

namespace gangway::conformance {
namespace {

Bytes counted(std::size_t size) {
  Bytes bytes;
  for (std::size_t i = 0; i < size; ++i) bytes.push_back(static_cast<std::byte>(i));
  return bytes;
}

TEST(Script, every_act_is_read_as_it_is_written) {
  for (const std::string_view line : {"open",
                                      "close",
                                      "close data",
                                      "reset",
                                      "set STOP_COPY",
                                      "set 9",
                                      "get",
                                      "size",
                                      "info",
                                      "read 17",
                                      "read all",
                                      "read all by 1",
                                      "keep",
                                      "stream flip 77",
                                      "stream swap 0 512",
                                      "stream good",
                                      "write 3",
                                      "write all",
                                      "write all by 7",
                                      "log start",
                                      "log stop",
                                      "log report",
                                      "config",
                                      "interrupts",
                                      "region read 7 0x4 2",
                                      "region write 0 0x10 01 ff"}) {
    const Result<Act> act = parse_act(line);
    ASSERT_TRUE(act.has_value()) << act.error().message;
    EXPECT_EQ(to_text(*act), line);
  }
}

TEST(Script, what_is_no_act_is_refused) {
  for (const std::string_view line :
       {"", "jump", "set", "set NOWHERE", "read", "read all by 0", "read all of it", "stream", "stream upside 1",
        "region read 1", "region write 0 0 100", "openly", "reset now"}) {
    EXPECT_FALSE(parse_act(line).has_value()) << line;
  }
}

TEST(Script, comments_and_empty_lines_are_passed_over) {
  const auto acts = parse_script("# a comment\n\nopen\n  set   STOP   # EINVAL\n");
  ASSERT_TRUE(acts.has_value()) << acts.error().message;
  EXPECT_EQ(to_text(*acts), "open\nset STOP\n");
  const auto wrong = parse_script("open\nset\n");
  ASSERT_FALSE(wrong.has_value());
  EXPECT_NE(wrong.error().message.find("line 2"), std::string::npos) << wrong.error().message;
}

TEST(Script, a_journal_is_a_script) {
  Journal journal;
  journal.act("open");
  journal.act("set STOP_COPY");
  journal.outcome("EINVAL");
  const auto acts = parse_script(journal.text());
  ASSERT_TRUE(acts.has_value()) << acts.error().message;
  EXPECT_EQ(to_text(*acts), "open\nset STOP_COPY\n");
}

TEST(Script, a_long_journal_keeps_its_beginning_and_its_end) {
  Journal journal;
  for (int i = 0; i < 5000; ++i) journal.act("read " + std::to_string(i + 1));
  const std::string text = journal.text();
  EXPECT_TRUE(text.starts_with("read 1\n"));
  EXPECT_TRUE(text.ends_with("read 5000\n"));
  EXPECT_NE(text.find("4600 acts left out"), std::string::npos);
}

TEST(Stream, variants_are_what_they_say) {
  const Bytes good = counted(8);
  const auto spoiled = [&good](std::string_view text) { return spoil(*parse_variant(text), good); };
  EXPECT_EQ(spoiled("good"), good);
  EXPECT_EQ(spoiled("cut 3"), counted(3));
  EXPECT_EQ(spoiled("cut 99"), good);
  EXPECT_EQ(spoiled("extend 2").size(), 10U);
  EXPECT_EQ(spoiled("flip 9")[1], std::byte{3});
  EXPECT_EQ(spoiled("flip 999"), good);
  EXPECT_EQ(spoiled("swap 0 2"), (Bytes{std::byte{2}, std::byte{3}, std::byte{0}, std::byte{1}, std::byte{4},
                                        std::byte{5}, std::byte{6}, std::byte{7}}));
  EXPECT_EQ(spoiled("omit 2 6"), counted(2));
  EXPECT_NE(spoiled("noise"), good);
  EXPECT_EQ(spoiled("noise").size(), good.size());
  EXPECT_FALSE(parse_variant("cut").has_value());
  EXPECT_FALSE(parse_variant("cut 1 2").has_value());
}

}  // namespace
}  // namespace gangway::conformance
