// `gangway demo` as its users run it.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include <nlohmann/json.hpp>

#include "guest/child_process.h"
#include "guest/ext4_image.h"
#include "guest/migration_request.h"
#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

// Every demo makes its files in a directory of the test's own, which must be empty again when it is over.
class Demo : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "gangway-demotest-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    temporary_ = directory_ / "tmp";
    std::filesystem::create_directory(temporary_);
    ::setenv("TMPDIR", temporary_.c_str(), 1);
  }
  void TearDown() override {
    EXPECT_TRUE(std::filesystem::is_empty(temporary_)) << "the demo left something behind";
    EXPECT_EQ(processes_with({temporary_.string()}), (std::map<pid_t, std::string>{})) << "processes were left over";
    ::unsetenv("TMPDIR");
    std::filesystem::remove_all(directory_);
  }

  static std::vector<std::string> small(const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"demo", "--json", "--memory", "32", "--disk-size", "48", "--seconds", "0.2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static guest::ToolResult run(const std::vector<std::string>& arguments) {
    auto result = guest::run_tool(program(), arguments);
    EXPECT_TRUE(result.has_value()) << result.error().message;
    return std::move(*result);
  }
  static ordered_json run_verified(const std::vector<std::string>& more) {
    const auto result = run(small(more));
    EXPECT_EQ(result.status, 0) << result.output;
    ordered_json summary = ordered_json::parse(result.output, nullptr, false);
    EXPECT_TRUE(summary.is_object()) << result.output;
    if (!summary.is_object()) return ordered_json::object();
    EXPECT_TRUE(summary.value("verified", false)) << result.output;
    EXPECT_GT(summary.value("blocks_verified", 0), 0) << result.output;
    EXPECT_EQ(summary.value("blocks_bad", -1), 0) << result.output;
    EXPECT_GT(summary.value("io_before", 0), 0) << result.output;
    EXPECT_GT(summary.value("io_after", 0), 0) << result.output;
    return summary;
  }

  // The object in what a demo printed, between the lines of its log.
  static ordered_json object_in(const std::string& output) {
    const auto begin = output.find("\n{\n");
    const auto end = output.rfind("\n}\n");
    const auto from = output.starts_with("{\n") ? 0 : begin == std::string::npos ? output.size() : begin;
    return ordered_json::parse(output.substr(from, end == std::string::npos ? 0 : end + 2 - from), nullptr, false);
  }

  std::filesystem::path directory_;
  std::filesystem::path temporary_;
};

TEST_F(Demo, everything_verifies_and_the_report_is_complete) {
  const ordered_json summary = run_verified({});
  EXPECT_GT(summary.value("downtime_ms", 0.0), 0.0);
  EXPECT_GE(summary.value("total_ms", 0.0), summary.value("downtime_ms", 0.0));
  EXPECT_GT(summary.value("memory_bytes", 0), 0);
  EXPECT_GT(summary.value("device_bytes", 0), 0);
  EXPECT_GT(summary.value("rounds", 0), 0);
  EXPECT_GT(summary.value("pages_verified", 0), 0);
  EXPECT_EQ(summary.value("pages_bad", -1), 0);
  EXPECT_EQ(summary.value("file_system", ""), "clean");
  ASSERT_TRUE(summary["phases"].is_array());
  ASSERT_FALSE(summary["phases"].empty());
  for (const ordered_json& phase : summary["phases"]) {
    EXPECT_TRUE(phase["name"].is_string());
    EXPECT_TRUE(phase["ms"].is_number());
  }
}

// Half of its memory; a guest that is still at that writes as fast as it goes, and its downtime says nothing.
TEST_F(Demo, the_guest_has_written_its_memory_before_it_moves) {
  const auto result = run({"demo", "--json", "--memory", "512", "--disk-size", "48", "--seconds", "0"});
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_GE(object_in(result.output).value("memory_bytes", 0ULL), 256ULL << 20) << result.output;
}

TEST_F(Demo, many_commands_are_in_flight) { run_verified({"--depth", "128"}); }

TEST_F(Demo, large_blocks_and_several_channels) { run_verified({"--block-size", "128", "--channels", "2"}); }

TEST_F(Demo, a_scratch_disk_is_used_as_a_whole) {
  const std::string disk = directory_ / "raw.img";
  ASSERT_EQ(guest::run_tool("truncate", {"-s", "24M", disk})->status, 0);
  const ordered_json summary = run_verified({"--disk", disk, "--scratch"});
  EXPECT_EQ(summary.value("file_system", ""), "none");
}

TEST_F(Demo, an_ext4_disk_is_used_and_stays_clean) {
  const std::string disk = directory_ / "ext4.img";
  ASSERT_EQ(guest::run_tool("mkfs.ext4", {"-q", "-F", disk, "128M"})->status, 0);
  EXPECT_EQ(run_verified({"--disk", disk}).value("file_system", ""), "clean");
  EXPECT_EQ(run_verified({"--disk", disk}).value("file_system", ""), "clean");  // its file is there already
}

TEST_F(Demo, a_disk_that_does_not_exist_is_made) {
  const std::string disk = directory_ / "new.img";
  EXPECT_EQ(run_verified({"--disk", disk}).value("file_system", ""), "clean");
  EXPECT_TRUE(std::filesystem::exists(disk));
}

TEST_F(Demo, a_disk_with_something_else_on_it_is_not_touched) {
  const std::string disk = directory_ / "other\xff.img";  // which is no UTF-8: the object is JSON nevertheless
  ASSERT_EQ(guest::run_tool("truncate", {"-s", "24M", disk})->status, 0);
  const auto result = run(small({"--disk", disk}));
  EXPECT_EQ(result.status, 2) << result.output;
  EXPECT_NE(result.output.find("has no ext4 file system; with --scratch all of it is overwritten"), std::string::npos)
      << result.output;
  EXPECT_EQ(object_in(result.output).value("verified", true), false) << result.output;
}

TEST_F(Demo, a_migration_that_fails_is_told_in_the_one_object) {
  const std::filesystem::path log = directory_ / "demo.log";
  auto demo = guest::ChildProcess::start(
      program(), {"demo", "--json", "--memory", "32", "--disk-size", "48", "--seconds", "4"}, log);
  ASSERT_TRUE(demo.has_value()) << demo.error().message;
  // The destination's device stands still from before the migration on, until it is killed in the middle of it.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto reaches = [&](const std::string& guest, auto reached) {
    while (std::chrono::steady_clock::now() < deadline) {
      for (const auto& entry : std::filesystem::directory_iterator(temporary_)) {
        const auto status = guest::request_status(entry.path() / (guest + ".control"));
        if (status && reached(*status)) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  };
  ASSERT_TRUE(reaches("guest-b", [](const ordered_json& status) { return status.contains("incoming"); }));
  const auto device = processes_with({temporary_.string(), "serve", "device-b.sock"});
  ASSERT_EQ(device.size(), 1U);
  ASSERT_EQ(::kill(device.begin()->first, SIGSTOP), 0);
  EXPECT_TRUE(reaches("guest-a", [](const ordered_json& status) { return status.value("state", "") == "migrating"; }));
  ASSERT_EQ(::kill(device.begin()->first, SIGKILL), 0);
  EXPECT_EQ(demo->wait(), 1);
  std::ifstream file(log);
  const std::string output{std::istreambuf_iterator<char>(file), {}};
  const ordered_json object = object_in(output);
  ASSERT_TRUE(object.is_object()) << output;
  EXPECT_EQ(object.value("verified", true), false) << output;
  EXPECT_TRUE(object.value("error", "").starts_with("the migration failed: ")) << output;
}

TEST_F(Demo, an_interrupt_takes_everything_down) {
  for (const int signal : {SIGINT, SIGTERM}) {
    auto demo = guest::ChildProcess::start(
        program(), {"demo", "--json", "--memory", "32", "--disk-size", "48", "--seconds", "600"},
        directory_ / "demo.log");
    ASSERT_TRUE(demo.has_value()) << demo.error().message;
    // Until all four processes are there.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (processes_with({temporary_.string()}).size() < 4 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ASSERT_EQ(processes_with({temporary_.string()}).size(), 4U);
    demo->signal(signal);
    EXPECT_EQ(demo->wait(), 128 + signal);
    while (!processes_with({temporary_.string()}).empty() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // they were killed; the kernel may still be at it
    }
    EXPECT_TRUE(processes_with({temporary_.string()}).empty());
    EXPECT_TRUE(std::filesystem::is_empty(temporary_));
  }
}

TEST_F(Demo, a_demo_that_is_killed_takes_its_processes_along) {
  auto demo = guest::ChildProcess::start(program(),
                                         {"demo", "--json", "--memory", "32", "--disk-size", "48", "--seconds", "600"},
                                         directory_ / "demo.log");
  ASSERT_TRUE(demo.has_value()) << demo.error().message;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (processes_with({temporary_.string()}).size() < 4 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  demo->signal(SIGKILL);
  demo->wait();
  while (!processes_with({temporary_.string()}).empty() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(processes_with({temporary_.string()}).empty());
  // Nobody is left who could remove its directory.
  for (const auto& entry : std::filesystem::directory_iterator(temporary_)) std::filesystem::remove_all(entry.path());
}

}  // namespace
}  // namespace gangway::integration
