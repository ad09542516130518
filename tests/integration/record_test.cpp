// `gangway record` and `gangway trace` as their users run them: a guest that migrates from one recorded device to
// another, and what is left when a process dies.
#include <gtest/gtest.h>
#include <signal.h>

#include <random>
#include <thread>

#include "guest/child_process.h"
#include "guest/migration_request.h"
#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

// A recorder in front of a device: its socket is NAME.sock, its file NAME.trace.
void record(Site& site, const std::string& name, const std::string& device) {
  site.run(name, {"record", "--listen", site.file(name + ".sock"), "--to",
                  "vfio-user:" + site.file(device + ".sock").string(), "--out", site.file(name + ".trace")});
  site.until_there(name + ".sock");
}

guest::ToolResult tool(const std::vector<std::string>& arguments) {
  auto result = guest::run_tool(program(), arguments);
  EXPECT_TRUE(result.has_value()) << result.error().message;
  return result ? *result : guest::ToolResult{.status = -1, .output = {}};
}

// The acts of a recording by `trace show --json`, which must be able to read it.
std::vector<ordered_json> acts_of(const std::filesystem::path& file, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments{"trace", "show", file, "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const guest::ToolResult shown = tool(arguments);
  EXPECT_EQ(shown.status, 0) << shown.output;
  std::vector<ordered_json> acts;
  std::istringstream lines(shown.output);
  for (std::string line; std::getline(lines, line);) {
    ordered_json act = ordered_json::parse(line, nullptr, false);
    if (act.contains("act")) acts.push_back(std::move(act));
  }
  return acts;
}

std::vector<std::string> states_set(const std::filesystem::path& file) {
  std::vector<std::string> states;
  for (const ordered_json& act : acts_of(file, {"--act", "set_state"})) states.push_back(act["fields"]["state"]);
  return states;
}

TEST(RecordProcess, a_guest_migrates_between_recorded_devices_and_both_recordings_tell) {
  Site site;
  for (const std::string side : {"a", "b"}) {
    site.serve("device-" + side);
    site.until_there("device-" + side + ".sock");
    record(site, "rec-" + side, "device-" + side);
  }
  site.boot("a", "rec-a");
  site.let_work("a");
  const std::string address = site.wait_for_machine("b", "rec-b");
  const guest::ToolResult migrated = tool({"migrate", site.control("a"), address, "--json"});
  ASSERT_EQ(migrated.status, 0) << migrated.output;
  site.let_work("b");
  site.stop_verified("b");
  EXPECT_TRUE(guest::request_stop(site.control("a")).has_value());
  EXPECT_EQ(site.process("a").wait(), 0) << site.log_of("a");
  for (const std::string side : {"a", "b"}) {
    site.process("rec-" + side).signal(SIGTERM);
    EXPECT_EQ(site.process("rec-" + side).wait(), 0) << site.log_of("rec-" + side);
    site.kill("device-" + side);
  }
  site.expect_clean_file_system();

  const auto source = states_set(site.file("rec-a.trace"));
  const auto destination = states_set(site.file("rec-b.trace"));
  EXPECT_NE(std::ranges::find(source, "STOP_COPY"), source.end());
  ASSERT_FALSE(destination.empty());
  EXPECT_EQ(destination.front(), "RESUMING");
  EXPECT_EQ(destination.back(), "RUNNING");
  EXPECT_FALSE(acts_of(site.file("rec-a.trace"), {"--act", "read_data", "--state", "STOP_COPY"}).empty());
  EXPECT_FALSE(acts_of(site.file("rec-b.trace"), {"--act", "write_data", "--by", "client"}).empty());

  // A recording is the same as itself, and another than the other.
  EXPECT_EQ(tool({"trace", "diff", site.file("rec-a.trace"), site.file("rec-a.trace")}).status, 0);
  EXPECT_EQ(tool({"trace", "diff", site.file("rec-a.trace"), site.file("rec-b.trace"), "--act", "set_state"}).status,
            1);
  EXPECT_EQ(tool({"trace", "diff", site.file("rec-a.trace"), site.file("nothing")}).status, 2);
}

TEST(RecordProcess, whoever_is_killed_at_whatever_moment_the_recording_reads) {
  std::mt19937 random(20260131);
  for (const std::string victim : {"recorder", "device", "guest", "recorder", "device", "guest"}) {
    Site site;
    site.serve("device");
    site.until_there("device.sock");
    record(site, "recorder", "device");
    site.boot("guest", "recorder");
    const auto after = std::chrono::milliseconds(random() % 400);
    std::this_thread::sleep_for(after);
    site.process(victim).signal(SIGKILL);
    site.process(victim).wait();
    if (victim != "recorder") {
      // The recorder outlives either side, and ends in order.
      EXPECT_FALSE(site.process("recorder").ended());
      site.process("recorder").signal(SIGTERM);
      EXPECT_EQ(site.process("recorder").wait(), 0) << site.log_of("recorder");
    }
    const auto acts = acts_of(site.file("recorder.trace"));
    EXPECT_GT(acts.size(), 20U) << victim << " after " << after.count() << " ms";
  }
}

TEST(RecordProcess, wrong_usage_is_told_apart_from_failure) {
  Site site;
  const std::string out = site.file("out.trace");
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"record", "--out", out},
           {"record", "--listen", site.file("no/such/folder/socket"), "--to", "vfio-user:x", "--out", out},
           {"record", "--listen", site.file("s"), "--to", "vfio-user:x", "--out", site.file("no/such/folder/out")},
           {"trace", "show", site.file("nothing")},
           {"trace", "show", site.image()},
           {"trace", "show", site.image(), "--act", "dance"},
           {"trace"},
       }) {
    const guest::ToolResult result = tool(arguments);
    EXPECT_EQ(result.status, 2) << result.output;
    EXPECT_FALSE(result.output.empty());
  }
  EXPECT_FALSE(std::filesystem::exists(out));
}

}  // namespace
}  // namespace gangway::integration
