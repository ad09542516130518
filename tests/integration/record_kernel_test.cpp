// `gangway record --kernel`: what a program does to the files that are its devices. There are files in their place
// here, which take reads, writes and mappings and refuse ioctls; tests/vm has a real device.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <gangway/device_handle.h>

#include "guest/child_process.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

class RecordKernel : public testing::Test {
 protected:
  RecordKernel() {
    std::string pattern = testing::TempDir() + "gangway-kernel-XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    std::filesystem::create_directories(devices() + "/devices");
    std::ofstream(devices() + "/devices/vfio0") << std::string(8192, 'd');
  }
  ~RecordKernel() override { std::filesystem::remove_all(folder_); }

  std::string devices() const { return (folder_ / "vfio").string(); }
  std::string file() const { return (folder_ / "trace").string(); }

  guest::ToolResult record(const std::vector<std::string>& command) {
    std::filesystem::remove(file());
    std::vector<std::string> arguments{"record", "--kernel", "--device-path", devices(), "--out", file(), "--"};
    arguments.insert(arguments.end(), command.begin(), command.end());
    auto result = guest::run_tool(GANGWAY_PROGRAM, arguments);
    EXPECT_TRUE(result) << result.error().message;
    return result ? *result : guest::ToolResult{.status = -1, .output = {}};
  }
  // A way of the program above, and the acts of its recording in words.
  std::vector<std::string> acts_of(const std::string& way, int status = 7) {
    const guest::ToolResult result = record({VFIO_ACTS, devices(), way});
    EXPECT_EQ(result.status, status) << result.output;
    return acts();
  }
  std::vector<std::string> acts() {
    const auto shown = guest::run_tool(GANGWAY_PROGRAM, {"trace", "show", file(), "--json"});
    EXPECT_EQ(shown->status, 0) << shown->output;
    std::vector<std::string> all;
    std::istringstream lines(shown->output);
    for (std::string line; std::getline(lines, line);) {
      const ordered_json act = ordered_json::parse(line, nullptr, false);
      if (!act.contains("act")) continue;
      all.push_back(act["act"].get<std::string>() + " " + act["fields"].dump());
      connections_.insert(act["connection"].get<int>());
    }
    return all;
  }
  static long count(const std::vector<std::string>& acts, const std::string& part) {
    return std::ranges::count_if(acts, [&](const std::string& act) { return act.find(part) != act.npos; });
  }

  std::filesystem::path folder_;
  std::set<int> connections_;  // of the acts that were read
};

TEST_F(RecordKernel, a_static_program_is_recorded_call_by_call) {
  const auto acts = acts_of("plain");
  const std::vector<std::string> expected{R"(open {"what":")" + devices() + R"(/devices/vfio0"})",
                                          R"(read_region {"region":0,"offset":16,"size":4,"data":"64646464"})",
                                          R"(write_region {"region":0,"offset":32,"size":4,"data":"01020304"})",
                                          R"(write_region {"region":0,"offset":48,"size":6,"data":"010201020304"})",
                                          R"(map_region {"offset":0,"size":4096})",
                                          R"(reset {"error":"ENOTTY"})",
                                          R"(set_state {"state":"STOP_COPY","error":"ENOTTY"})",
                                          R"(close {"what":""})"};
  EXPECT_EQ(acts, expected);
}

TEST_F(RecordKernel, children_and_threads_are_followed) {
  auto acts = acts_of("fork");
  EXPECT_EQ(count(acts, R"("offset":64)"), 1);
  EXPECT_EQ(count(acts, R"("offset":68)"), 1);
  EXPECT_EQ(count(acts, "close"), 3) << "by each process that had it";
  acts = acts_of("threads");
  for (const int offset : {256, 260, 264, 268}) EXPECT_EQ(count(acts, fmt::format("\"offset\":{},", offset)), 100);
}

TEST_F(RecordKernel, duplicates_and_descriptors_that_were_passed_lead_to_the_device) {
  auto acts = acts_of("duplicates");
  EXPECT_EQ(count(acts, R"("offset":80)"), 1);
  EXPECT_EQ(count(acts, R"("offset":84)"), 1);
  EXPECT_EQ(count(acts, "close"), 3);
  acts = acts_of("passed");
  EXPECT_EQ(count(acts, R"("offset":96)"), 1);
  EXPECT_EQ(count(acts, "open"), 1);
}

TEST_F(RecordKernel, a_duplicate_of_a_descriptor_onto_itself_changes_nothing) {
  const auto acts = acts_of("itself");
  EXPECT_EQ(count(acts, R"("offset":88)"), 1);
  EXPECT_EQ(count(acts, "close"), 1);
  EXPECT_EQ(connections_.size(), 1U) << "the device was taken for another";
}

TEST_F(RecordKernel, what_an_executed_program_inherits_is_still_the_device) {
  const auto acts = acts_of("exec");
  EXPECT_EQ(count(acts, R"("offset":112)"), 1);
  EXPECT_EQ(count(acts, "another program was executed"), 1);
}

TEST_F(RecordKernel, signals_job_control_and_the_exit_status_are_the_commands) {
  acts_of("signal", 9);
  acts_of("killed", 128 + 9);
  acts_of("stopped", 7);
  EXPECT_EQ(record({"sh", "-c", "trap 'exit 5' TERM; kill $$; exit 1"}).status, 5);
  EXPECT_EQ(record({"sh", "-c", "echo said; echo aloud >&2; cat </dev/null; exit 4"}).status, 4);
}

// The command is gone, and what it left behind keeps the recorder.
TEST_F(RecordKernel, signals_reach_what_outlives_the_command) {
  for (const int number : {SIGTERM, SIGINT}) {
    std::filesystem::remove(file());
    const std::string alone = devices() + "/alone";
    auto recorder = guest::ChildProcess::start(
        GANGWAY_PROGRAM,
        {"record", "--kernel", "--device-path", devices(), "--out", file(), "--", VFIO_ACTS, devices(), "outlived"},
        folder_ / "log");
    ASSERT_TRUE(recorder) << recorder.error().message;
    while (!std::filesystem::exists(alone)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    // One signal is enough once the recorder knows that the command has ended.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!recorder->ended() && std::chrono::steady_clock::now() < deadline) {
      recorder->signal(number);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ASSERT_TRUE(recorder->ended()) << "signal " << number << " was ignored";
    EXPECT_EQ(recorder->wait(), 7) << "the command's status";
    std::filesystem::remove(alone);
  }
}

// What a recording holds is somebody else's, and a terminal does what its bytes say.
TEST_F(RecordKernel, control_characters_are_not_shown_as_they_are) {
  const std::string folder = folder_ / "vf\x1b[31mio";
  std::filesystem::create_directories(folder + "/devices");
  std::ofstream(folder + "/devices/vfio0") << std::string(8192, 'd');
  const auto recorded = guest::run_tool(GANGWAY_PROGRAM, {"record", "--kernel", "--device-path", folder, "--out",
                                                          file(), "--", VFIO_ACTS, folder, "plain"});
  ASSERT_TRUE(recorded);
  ASSERT_EQ(recorded->status, 7) << recorded->output;
  const auto shown = guest::run_tool(GANGWAY_PROGRAM, {"trace", "show", file()});
  ASSERT_TRUE(shown);
  EXPECT_NE(shown->output.find("open what=" + (folder_ / "vf\\x1b[31mio").string()), std::string::npos)
      << shown->output;
  EXPECT_TRUE(std::ranges::all_of(shown->output, [](char c) { return c == '\n' || (c >= 0x20 && c != 0x7f); }));
}

TEST_F(RecordKernel, a_recording_of_which_nothing_can_be_played_has_not_passed) {
  acts_of("fork");  // which reads registers alone
  const std::string socket = folder_ / "socket";
  const auto device =
      guest::ChildProcess::start(GANGWAY_PROGRAM, {"serve", "serial", "--socket", socket}, folder_ / "log");
  ASSERT_TRUE(device) << device.error().message;
  while (!open_device("vfio-user:" + socket)) std::this_thread::yield();
  const auto replayed =
      guest::run_tool(GANGWAY_PROGRAM, {"replay", file(), "vfio-user:" + socket, "--only", "migration"});
  ASSERT_TRUE(replayed);
  EXPECT_EQ(replayed->status, 2) << replayed->output;
  EXPECT_NE(replayed->output.find("could be played"), std::string::npos) << replayed->output;
}

TEST_F(RecordKernel, a_program_that_has_nothing_to_do_with_devices_runs_and_leaves_no_act) {
  const guest::ToolResult result = record({"sh", "-c", "for i in 1 2 3; do echo $i | cat; done | sort -r"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.output, "3\n2\n1\n");
  EXPECT_TRUE(acts().empty());
}

TEST_F(RecordKernel, a_recorder_that_is_killed_takes_the_command_along_and_leaves_its_recording) {
  const std::string done = (folder_ / "done").string();
  const std::string script =
      fmt::format("echo $$ >{0}.pid; {1} {2} plain; : >{0}; exec sleep 1000", done, VFIO_ACTS, devices());
  auto recorder = guest::ChildProcess::start(
      GANGWAY_PROGRAM, {"record", "--kernel", "--device-path", devices(), "--out", file(), "--", "sh", "-c", script},
      folder_ / "log");
  ASSERT_TRUE(recorder.has_value()) << recorder.error().message;
  while (!std::filesystem::exists(done)) {
    ASSERT_FALSE(recorder->ended());
    std::this_thread::yield();
  }
  pid_t command = 0;
  std::ifstream(done + ".pid") >> command;
  ASSERT_GT(command, 0);
  recorder->signal(SIGKILL);
  recorder->wait();
  // The kernel ends what a dead tracer traced.
  while (std::filesystem::exists(fmt::format("/proc/{}/exe", command))) std::this_thread::yield();
  EXPECT_EQ(count(acts(), "set_state"), 1);
}

TEST_F(RecordKernel, a_command_that_is_not_there_is_told_and_leaves_no_file) {
  const guest::ToolResult result = record({"/no/such/program"});
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.output.find("No such file"), result.output.npos) << result.output;
  EXPECT_FALSE(std::filesystem::exists(file()));
  EXPECT_EQ(record({}).status, 2);
}

}  // namespace
}  // namespace gangway::integration
