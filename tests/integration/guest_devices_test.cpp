// `gangway guest` with devices of several kinds.
#include <gtest/gtest.h>

#include <algorithm>

#include "guest/migration_request.h"
#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

// Guests with a disk and a serial card.
class GuestDevices : public testing::Test {
 protected:
  void serve(const std::string& side) {
    site_.serve("disk-" + side);
    site_.run("card-" + side, {"serve", "serial", "--socket", site_.file("card-" + side + ".sock")});
  }
  [[nodiscard]] std::string card(const std::string& side) const {
    return "serial0=vfio-user:" + site_.file("card-" + side + ".sock").string();
  }
  [[nodiscard]] std::string disk(const std::string& side) const {
    return "nvme0=vfio-user:" + site_.file("disk-" + side + ".sock").string();
  }

  Site site_;
};

TEST_F(GuestDevices, a_machine_with_a_disk_and_a_serial_card_moves_with_both) {
  serve("a");
  serve("b");
  site_.boot("a", "disk-a", {"--device", card("a")});
  const ordered_json devices = site_.let_work("a")["devices"];
  const ordered_json expected{{{"id", "nvme0"}, {"class", "0x010802"}, {"driven", true}},
                              {{"id", "serial0"}, {"class", "0x070002"}, {"driven", false}}};
  EXPECT_EQ(devices, expected) << devices.dump();

  // Without the card, or with another device in its place, nothing arrives, and the source goes on.
  site_.serve("disk-c");
  site_.serve("disk-d");
  const std::string other = "serial0=vfio-user:" + site_.file("disk-d.sock").string();
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{}, {"--device", other}}) {
    const std::string address = site_.wait_for_machine("wrong", "disk-c", wrong);
    const auto refused = guest::request_migration(site_.control("a"), {{"to", address}}, [](const ordered_json&) {});
    ASSERT_TRUE(refused.has_value()) << refused.error().message;
    EXPECT_EQ(refused->value("event", ""), "failed") << refused->dump();
    site_.let_work("a");
    site_.kill("wrong");
  }

  const std::string address = site_.wait_for_machine("b", "disk-b", {"--device", card("b")});
  const auto outcome = guest::request_migration(site_.control("a"), {{"to", address}}, [](const ordered_json&) {});
  ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
  ASSERT_EQ(outcome->value("event", ""), "completed") << outcome->dump() << site_.log_of("b");
  EXPECT_EQ(site_.let_work("b")["devices"], expected);
  site_.stop_verified("b");
  EXPECT_TRUE(guest::request_stop(site_.control("a")).has_value());
  site_.kill("disk-a");
  site_.kill("disk-b");
  site_.expect_clean_file_system();
}

TEST_F(GuestDevices, a_guest_without_a_disk_runs_and_moves) {
  serve("a");
  serve("b");
  const auto arguments = [&](const std::string& side) {
    return std::vector<std::string>{"guest",     "--memory",         "32", "--device", card(side),
                                    "--control", site_.control(side)};
  };
  site_.run("a", arguments("a"));
  const auto runs = [](const ordered_json& status) {
    return status.value("state", "") == "running" && status.value("pages_written", 0) > 0;
  };
  site_.eventually("a", runs);
  auto waits = arguments("b");
  waits.insert(waits.end(), {"--incoming", "tcp:127.0.0.1:0"});
  site_.run("b", waits);
  const std::string address =
      site_.eventually("b", [](const ordered_json& status) { return status.contains("incoming"); })
          .value("incoming", "");
  const auto outcome = guest::request_migration(site_.control("a"), {{"to", address}}, [](const ordered_json&) {});
  ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
  ASSERT_EQ(outcome->value("event", ""), "completed") << outcome->dump() << site_.log_of("b");
  site_.eventually("b", runs);
  const auto stopped = guest::request_stop(site_.control("b"));
  ASSERT_TRUE(stopped.has_value()) << stopped.error().message;
  EXPECT_TRUE(stopped->value("verified", false)) << stopped->dump(2);
}

TEST_F(GuestDevices, what_may_be_written_has_to_be_said_of_disks_alone) {
  serve("a");
  const auto refusal = [](const std::vector<std::string>& arguments) {
    const auto result = guest::run_tool(program(), arguments);
    EXPECT_TRUE(result.has_value() && result->status == 2) << (result ? result->output : result.error().message);
    return result ? result->output : std::string();
  };
  const std::string of_disk = refusal({"guest", "--memory", "32", "--device", disk("a")});
  EXPECT_NE(of_disk.find("nvme0: nothing says what of the disk may be written; --region"), std::string::npos)
      << of_disk;
  const std::string of_card = refusal({"guest", "--memory", "32", "--device", card("a"), "--region", "serial0=0+4096"});
  EXPECT_NE(of_card.find("serial0: no stretch of it can be written"), std::string::npos) << of_card;
}

}  // namespace
}  // namespace gangway::integration
