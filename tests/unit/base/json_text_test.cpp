#include "base/json_text.h"

#include <gtest/gtest.h>

namespace gangway {
namespace {

using nlohmann::ordered_json;

TEST(JsonText, bytes_that_are_no_utf8_are_replaced) {
  EXPECT_EQ(json_text(ordered_json{{"path", "/tmp/\xff.img"}}), "{\"path\":\"/tmp/\xef\xbf\xbd.img\"}");
  EXPECT_EQ(json_text(ordered_json{{"k\xc3", 1}}), "{\"k\xef\xbf\xbd\":1}") << "in names, too";
}

TEST(JsonText, is_on_one_line_or_indented) {
  EXPECT_EQ(json_text(ordered_json{{"a", {1, 2}}}), R"({"a":[1,2]})");
  EXPECT_EQ(json_text(ordered_json{{"a", 1}}, 2), "{\n  \"a\": 1\n}");
}

}  // namespace
}  // namespace gangway
