#include "base/printable.h"

#include <gtest/gtest.h>

namespace gangway {
namespace {

// By all that a byte may be.
TEST(Printable, what_prints_stays_and_every_other_byte_is_a_question_mark) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text{'a', static_cast<char>(byte), 'z'};
    const bool prints = byte >= 0x20 && byte < 0x7f;
    EXPECT_EQ(printable(text), prints ? text : "a?z") << byte;
  }
  EXPECT_EQ(printable("\x1b]0;owned\x07\xc3\xa4\n"), "?]0;owned????");
  EXPECT_EQ(printable(""), "");
}

TEST(Printable, no_more_than_is_wanted) {
  EXPECT_EQ(printable("serial", 3), "ser");
  EXPECT_EQ(printable("serial", 6), "serial");
  EXPECT_EQ(printable("serial", 60), "serial");
  EXPECT_EQ(printable("serial", 0), "");
}

}  // namespace
}  // namespace gangway
