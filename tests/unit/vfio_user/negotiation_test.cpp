#include "vfio_user/negotiation.h"

#include <gtest/gtest.h>

#include "unit/vfio_user/raw_peer.h"

namespace gangway::vfio_user {
namespace {

using test::text;

TEST(Negotiation, silence_means_the_defaults) {
  for (const std::string_view json :
       {"", "{}", R"({"capabilities":{}})", R"({"else":[1,2],"capabilities":{"x":{}}})"}) {
    const auto said = parse_capabilities(text(json));
    ASSERT_TRUE(said) << json;
    EXPECT_EQ(*said, Capabilities{}) << json;
  }
  EXPECT_EQ(Capabilities{}.max_msg_fds, 1U);
  EXPECT_EQ(Capabilities{}.max_data_xfer_size, 1U << 20);
}

TEST(Negotiation, the_closing_nul_may_be_missing) {
  for (const std::string_view json : {std::string_view(R"({"capabilities":{"max_msg_fds":5}})"),
                                      std::string_view("{\"capabilities\":{\"max_msg_fds\":5}}\0", 35)}) {
    const auto said = parse_capabilities(text(json));
    ASSERT_TRUE(said);
    EXPECT_EQ(said->max_msg_fds, 5U);
  }
}

TEST(Negotiation, known_keys_of_a_wrong_type_are_refused) {
  for (const std::string_view json :
       {"[]", "7", "{", R"({"capabilities":7})", R"({"capabilities":{"max_msg_fds":"8"}})",
        R"({"capabilities":{"max_msg_fds":-1}})", R"({"capabilities":{"max_data_xfer_size":1.5}})",
        R"({"capabilities":{"max_dma_maps":null}})", R"({"capabilities":{"pgsizes":[]}})",
        R"({"capabilities":{"write_multiple":1}})", R"({"capabilities":{"twin_socket":true}})",
        R"({"capabilities":{"twin_socket":{"supported":1}}})", R"({"capabilities":{"gangway":1}})",
        R"({"capabilities":{"gangway":{"enomsg":1}}})", R"({"capabilities":{"gangway":{"shared_data":{}}}})"}) {
    const auto said = parse_capabilities(text(json));
    ASSERT_FALSE(said) << json;
    EXPECT_EQ(said.error().code, EINVAL) << json;
  }
}

TEST(Negotiation, json_without_bounds_does_no_harm) {
  std::string deep(60'000, '[');
  EXPECT_FALSE(parse_capabilities(text(deep)));
  deep = R"({"capabilities":{"x":)" + std::string(20'000, '[') + std::string(20'000, ']') + "}}";
  EXPECT_TRUE(parse_capabilities(text(deep)));
  EXPECT_FALSE(parse_capabilities(text(std::string(kMaxVersionJson + 1, ' '))));
  const auto great = parse_capabilities(
      text(R"({"capabilities":{"max_msg_fds":18446744073709551615,"max_data_xfer_size":18446744073709551615}})"));
  ASSERT_TRUE(great);
  EXPECT_EQ(great->max_msg_fds, 253U);
  EXPECT_EQ(great->max_data_xfer_size, kLargestDataXferSize);
}

TEST(Negotiation, what_is_said_is_understood) {
  const Capabilities all{.max_msg_fds = 7,
                         .max_data_xfer_size = 65536,
                         .max_dma_maps = 99,
                         .page_sizes = 8192,
                         .write_multiple = true,
                         .twin_socket = true,
                         .twin_fd_index = 3,
                         .enomsg = true,
                         .precopy_info = true,
                         .named_dma_limits = true,
                         .named_transfer_limits = true,
                         .shared_data = true};
  const auto understood = parse_capabilities(text(to_json(all)));
  ASSERT_TRUE(understood);
  EXPECT_EQ(*understood, all);
}

TEST(Negotiation, the_sample_client_of_libvfio_user_is_known_by_what_it_leaves_out) {
  const auto is_sample = [](std::string_view json) {
    return is_libvfio_user_client(parse_capabilities(text(std::string(json))).value());
  };
  EXPECT_TRUE(is_sample(R"({"capabilities":{"max_msg_fds":32,"max_data_xfer_size":1024}})"));
  EXPECT_TRUE(
      is_sample(R"({"capabilities":{"max_msg_fds":32,"max_data_xfer_size":1024,"twin_socket":{"supported":true}}})"));
  EXPECT_TRUE(
      is_sample(R"({"capabilities":{"max_msg_fds":32,"max_data_xfer_size":1024,"migration":{"pgsize":4096}}})"));
  EXPECT_FALSE(is_sample("{}"));
  EXPECT_FALSE(is_sample(R"({"capabilities":{"max_msg_fds":8}})"));
  EXPECT_FALSE(is_sample(R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1024,"pgsizes":4096}})"));
  EXPECT_FALSE(is_sample(R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1024,"write_multiple":true}})"));
  EXPECT_FALSE(is_sample(R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1024,"gangway":{"enomsg":true}}})"));
}

TEST(Negotiation, abilities_hold_when_both_have_them) {
  const Capabilities own{.max_msg_fds = 8, .write_multiple = true, .enomsg = true};
  const Capabilities peer{.max_msg_fds = 2, .write_multiple = true, .twin_socket = true};
  EXPECT_EQ(common(own, peer), (Capabilities{.max_msg_fds = 8, .write_multiple = true}));
}

}  // namespace
}  // namespace gangway::vfio_user
