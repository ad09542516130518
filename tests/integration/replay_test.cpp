// A guest's migration, recorded, replayed and made into a profile.
#include <gtest/gtest.h>

#include <signal.h>

#include <filesystem>
#include <fstream>

#include "guest/migration_request.h"
#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

// A guest that moves from one device to another; both of its connections recorded.
class RecordedMigration : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* side : {"a", "b"}) {
      site_.serve("device-" + std::string(side));
      site_.until_there("device-" + std::string(side) + ".sock");
      site_.run(side_of(side),
                {"record", "--listen", site_.file(side_of(side) + ".sock"), "--to",
                 "vfio-user:" + site_.file("device-" + std::string(side) + ".sock").string(), "--out", trace(side)});
      site_.until_there(side_of(side) + ".sock");
    }
    site_.boot("guest-a", side_of("a"));
    site_.let_work("guest-a");
    const std::string address = site_.wait_for_machine("guest-b", side_of("b"));
    const auto result = guest::run_tool(program(), {"migrate", site_.control("guest-a"), address});
    ASSERT_TRUE(result.has_value()) << result.error().message;
    ASSERT_EQ(result->status, 0) << result->output;
    site_.let_work("guest-b");
    site_.stop_verified("guest-b");
    EXPECT_TRUE(guest::request_stop(site_.control("guest-a")).has_value());
    EXPECT_EQ(site_.process("guest-a").wait(), 0) << site_.log_of("guest-a");
    for (const char* side : {"a", "b"}) {
      site_.process(side_of(side)).signal(SIGTERM);
      EXPECT_EQ(site_.process(side_of(side)).wait(), 0) << site_.log_of(side_of(side));
      site_.kill("device-" + std::string(side));
    }
  }

  static std::string side_of(const std::string& side) { return "recorder-" + side; }
  void serve_faulty(const std::string& name, const std::string& defect) {
    std::filesystem::remove(site_.file(name + ".sock"));
    site_.run(name, {"serve", "faulty", "--defect", defect, "--socket", site_.file(name + ".sock")});
    site_.until_there(name + ".sock");
  }
  [[nodiscard]] std::string trace(const std::string& side) const { return site_.file(side_of(side) + ".trace"); }

  static guest::ToolResult run(const std::vector<std::string>& words) {
    auto result = guest::run_tool(program(), words);
    EXPECT_TRUE(result.has_value()) << result.error().message;
    return result.value_or(guest::ToolResult{});
  }
  guest::ToolResult replay(const std::string& side, const std::string& device, bool migration_only = false) {
    std::vector<std::string> words{"replay", trace(side), "vfio-user:" + site_.file(device + ".sock").string(),
                                   "--json"};
    if (migration_only) words.insert(words.end(), {"--only", "migration"});
    return run(words);
  }

  Site site_;
};

TEST_F(RecordedMigration, passes_on_the_same_device_and_fails_on_faulty_ones_where_it_should) {
  site_.serve("again");
  site_.until_there("again.sock");
  for (const char* side : {"a", "b"}) {
    const guest::ToolResult same = replay(side, "again");
    EXPECT_EQ(same.status, 0) << side << "\n" << same.output;
    EXPECT_GT(ordered_json::parse(same.output, nullptr, false).value("played", 0), 30) << same.output;
  }
  site_.kill("again");

  serve_faulty("good", "none");
  for (const char* side : {"a", "b"}) {
    const guest::ToolResult good = replay(side, "good", true);
    EXPECT_EQ(good.status, 0) << side << "\n" << good.output;
  }

  struct Fails {
    const char* defect;
    const char* side;
    const char* act;
    const char* clause;
  };
  for (const Fails& each : {Fails{"resuming_needs_reset", "b", "set_state RESUMING", "RST-NOT-REQUIRED"},
                            Fails{"initial_bytes_zero", "a", "get_precopy_info", ""},
                            Fails{"resuming_from_stop_only", "b", "set_state RESUMING", ""},
                            Fails{"leaving_stop_copy_hangs", "a", "set_state STOP", "FSM-COMPLETE"},
                            Fails{"stop_copy_end_is_enomsg", "a", "read_data", "DAT-EOS-STOP"},
                            Fails{"log_off_in_stop", "a", "report_logging", "LOG-EXACT"},
                            Fails{"state_reported_late", "a", "", "FSM-COMPLETE"}}) {
    serve_faulty("faulty", each.defect);
    const guest::ToolResult failed = replay(each.side, "faulty", true);
    EXPECT_EQ(failed.status, 1) << each.defect << "\n" << failed.output;
    const auto report = ordered_json::parse(failed.output, nullptr, false);
    ASSERT_FALSE(report["deviations"].empty()) << each.defect;
    const auto& first = report["deviations"].front();
    if (*each.act != '\0') {
      EXPECT_EQ(first["text"], each.act) << each.defect << "\n" << failed.output;
    }
    if (*each.clause != '\0') {
      EXPECT_EQ(first["clause"], each.clause) << each.defect << "\n" << failed.output;
    }
    site_.kill("faulty");
  }
}

TEST_F(RecordedMigration, gives_a_profile_that_plays_on_another_device) {
  const std::string file = site_.file("guest.profile");
  std::string text;
  for (const char* side : {"a", "b"}) {
    const guest::ToolResult derived = run({"profile", trace(side), "--name", "guest"});
    ASSERT_EQ(derived.status, 0) << derived.output;
    const std::string phase = derived.output.substr(derived.output.find("\nphase") + 1);
    text += text.empty() ? derived.output.substr(0, derived.output.find("\nphase") + 1) : "";
    text += std::string("phase ") + side + phase.substr(phase.find(" on "));
  }
  std::ofstream(file) << text;
  EXPECT_NE(text.find("phase a on source"), std::string::npos) << text;
  EXPECT_NE(text.find("phase b on destination"), std::string::npos) << text;
  EXPECT_NE(text.find("set RESUMING"), std::string::npos) << text;
  serve_faulty("card", "none");
  const guest::ToolResult played = run({"check", "vfio-user:" + site_.file("card.sock").string(), "--profile", file});
  EXPECT_EQ(played.status, 0) << text << played.output;
  EXPECT_NE(played.output.find("2 passed"), std::string::npos) << played.output;
}

}  // namespace
}  // namespace gangway::integration
