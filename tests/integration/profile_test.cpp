// Profiles played on served devices, as the users of `gangway check --profile` do.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include <nlohmann/json.hpp>

#include <gangway/device_handle.h>

#include "guest/child_process.h"

namespace gangway::integration {
namespace {

using Words = std::vector<std::string>;

constexpr const char* kOfV2[] = {"qemu-10-v2", "qemu-10-v2-multifd", "qemu-config-late", "cloud-hypervisor-2026",
                                 "libvfio-user-client"};
constexpr const char* kOfV1 = "qemu-7.2-v1";
constexpr const char* kOfNone = "qemu-11.1-vfio-user-boot";

class Profiles : public testing::Test {
 protected:
  Profiles() {
    std::string name = (std::filesystem::temp_directory_path() / "gangway-profiles-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder for sockets");
    folder_ = name;
  }
  ~Profiles() override {
    processes_.clear();
    std::filesystem::remove_all(folder_);
  }

  // Serves a device; its target.
  std::string serve(Words device) {
    const std::string name = std::to_string(++served_);
    const std::filesystem::path socket = folder_ / (name + ".sock");
    if (device.front() == "nvme") {
      const std::filesystem::path disk = folder_ / (name + ".img");
      std::ofstream(disk).put('\0');
      std::filesystem::resize_file(disk, 16U << 20);
      device.insert(device.end(), {"--disk", disk, "--serial", "PROFILED"});
    }
    device.insert(device.begin(), "serve");
    device.insert(device.end(), {"--socket", socket});
    auto process = guest::ChildProcess::start(GANGWAY_PROGRAM, device, folder_ / (name + ".log"));
    if (!process) throw std::runtime_error(process.error().message);
    processes_.push_back(*std::move(process));
    // The socket's file is there before anybody listens at it.
    std::string target = "vfio-user:" + socket.string();
    while (!open_device(target)) {
      if (processes_.back().ended()) throw std::runtime_error("the device is not served");
      std::this_thread::yield();
    }
    return target;
  }

  static guest::ToolResult run(Words words) {
    words.insert(words.begin(), "check");
    auto result = guest::run_tool(GANGWAY_PROGRAM, words);
    if (!result) throw std::runtime_error(result.error().message);
    return *std::move(result);
  }
  static guest::ToolResult play(const std::string& profile, const std::string& target, const Words& more = {}) {
    Words words{target, "--profile", profile};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }

  std::filesystem::path folder_;
  int served_ = 0;
  std::vector<guest::ChildProcess> processes_;
};

TEST_F(Profiles, all_pass_on_good_devices_in_every_flag_set) {
  for (const Words& device : {Words{"serial"}, Words{"nvme"}, Words{"faulty", "--defect", "none"}}) {
    for (const char* flags : {"1", "3", "5", "7"}) {
      Words with_flags = device;
      with_flags.insert(with_flags.end(), {"--flags", flags, "--interface", "v2,v1"});
      const std::string target = serve(with_flags);
      Words profiles(std::begin(kOfV2), std::end(kOfV2));
      profiles.insert(profiles.end(), {kOfV1, kOfNone});
      for (const std::string& profile : profiles) {
        const guest::ToolResult played = play(profile, target);
        EXPECT_EQ(played.status, 0) << device.front() << " " << flags << "\n" << played.output;
        EXPECT_NE(played.output.find(" 0 failed, 0 not supported, 0 not tested"), std::string::npos) << played.output;
      }
      processes_.clear();
    }
  }
}

TEST_F(Profiles, a_state_goes_from_one_device_to_another) {
  for (const Words& device : {Words{"serial", "--interface", "v2,v1"}, Words{"nvme", "--interface", "v2,v1"}}) {
    const std::string source = serve(device);
    const std::string destination = serve(device);
    for (const char* profile : {"qemu-10-v2-multifd", "cloud-hypervisor-2026", kOfV1}) {
      const guest::ToolResult played = play(profile, source, {"--peer", destination, "--format", "json"});
      ASSERT_EQ(played.status, 0) << played.output;
      const auto report = nlohmann::json::parse(played.output);
      for (const auto& phase : report["phases"]) {
        if (phase["side"] != "destination") continue;
        EXPECT_EQ(phase["target"], destination);
      }
    }
  }
}

// Why there are profiles: QEMU resets a device before RESUMING, so a driver that needs it passes with QEMU for years,
// and fails with the first userspace that does not.
TEST_F(Profiles, a_reset_of_one_userspace_hides_what_another_one_shows) {
  const std::string target = serve({"faulty", "--defect", "resuming_needs_reset"});
  for (const char* profile : {"qemu-10-v2", "qemu-10-v2-multifd", "qemu-config-late"}) {
    const guest::ToolResult hidden = play(profile, target);
    EXPECT_EQ(hidden.status, 0) << hidden.output;
  }
  for (const char* profile : {"cloud-hypervisor-2026", "libvfio-user-client"}) {
    const guest::ToolResult shown = play(profile, target);
    EXPECT_EQ(shown.status, 1) << shown.output;
    EXPECT_NE(shown.output.find("RST-NOT-REQUIRED"), std::string::npos) << shown.output;
    EXPECT_NE(shown.output.find("set RESUMING"), std::string::npos) << shown.output;
  }
}

struct Exposed {
  const char* profile;
  const char* defect;
  const char* clause;
  const char* hidden_from;  // a profile that does not meet it
};

TEST_F(Profiles, each_meets_a_defect_that_another_one_does_not) {
  constexpr Exposed exposed[] = {
      {"qemu-10-v2", "p2p_refused_from_stop", "FSM-ARC", "cloud-hypervisor-2026"},
      {"qemu-10-v2-multifd", "same_state_refused", "FSM-ARC", "cloud-hypervisor-2026"},
      {"qemu-config-late", "load_overwrites_config", "STP-CONFIG", "qemu-10-v2"},
      {"cloud-hypervisor-2026", "half_load_survives_reset", "RST-CLEARS", "qemu-10-v2"},
      {"libvfio-user-client", "short_reads_lose_rest", "DAT-STREAM", "qemu-10-v2"},
      {kOfV1, "resuming_refused_after_reset", "V1-STATES", "libvfio-user-client"},
  };
  for (const Exposed& each : exposed) {
    const std::string target = serve({"faulty", "--defect", each.defect, "--interface", "v2,v1"});
    const guest::ToolResult shown = play(each.profile, target, {"--time-limit", "5"});
    EXPECT_EQ(shown.status, 1) << each.defect << "\n" << shown.output;
    EXPECT_NE(shown.output.find(each.clause), std::string::npos) << each.defect << "\n" << shown.output;
    const guest::ToolResult hidden = play(each.hidden_from, target, {"--time-limit", "5"});
    EXPECT_EQ(hidden.status, 0) << each.defect << "\n" << hidden.output;
    processes_.clear();
  }
}

TEST_F(Profiles, a_device_without_v1_supports_no_profile_of_it) {
  const guest::ToolResult played = play(kOfV1, serve({"serial"}));
  EXPECT_EQ(played.status, 2) << "nothing was played, so nothing passed:\n" << played.output;
  EXPECT_NE(played.output.find("not supported"), std::string::npos) << played.output;
}

TEST_F(Profiles, a_report_has_a_verdict_for_each_act_in_every_format) {
  const std::string target = serve({"faulty", "--defect", "resuming_needs_reset"});
  const std::filesystem::path tap = folder_ / "report.tap";
  const std::filesystem::path xml = folder_ / "report.xml";
  const std::filesystem::path html = folder_ / "report.html";
  const guest::ToolResult played =
      play("cloud-hypervisor-2026", target, {"--format", "json", "--output", tap, "--output", xml, "--output", html});
  EXPECT_EQ(played.status, 1);
  const auto report = nlohmann::json::parse(played.output);
  const auto& restore = report["phases"][1];
  EXPECT_EQ(restore["name"], "restore");
  EXPECT_EQ(restore["verdict"], "fail");
  const auto& last = restore["acts"].back();
  EXPECT_EQ(last["act"], "set RESUMING");
  EXPECT_EQ(last["clause"], "RST-NOT-REQUIRED");
  EXPECT_EQ(last["from"], "load_migration_data");
  const auto text = [](const std::filesystem::path& file) {
    std::ifstream in(file);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  EXPECT_NE(text(tap).find("not ok"), std::string::npos) << text(tap);
  EXPECT_NE(text(xml).find("<failure"), std::string::npos) << text(xml);
  EXPECT_NE(text(html).find("RST-NOT-REQUIRED"), std::string::npos);
}

TEST_F(Profiles, a_file_is_played_and_one_that_is_none_says_its_line) {
  const std::string target = serve({"serial"});
  const std::filesystem::path file = folder_ / "own.profile";
  std::ofstream(file) << "profile own\nphase source on source\nset STOP\nset RUNNING\n";
  EXPECT_EQ(play(file, target).status, 0);
  std::ofstream(file) << "profile own\nphase source on source\nset OFF\n";
  const guest::ToolResult wrong = play(file, target);
  EXPECT_EQ(wrong.status, 2);
  EXPECT_NE(wrong.output.find("line 3"), std::string::npos) << wrong.output;
  EXPECT_EQ(play("no-such-profile", target).status, 2);
}

TEST_F(Profiles, the_list_has_those_that_are_built_in) {
  const guest::ToolResult list = run({"--list-profiles"});
  EXPECT_EQ(list.status, 0);
  for (const char* profile : kOfV2) EXPECT_NE(list.output.find(profile), std::string::npos) << list.output;
}

}  // namespace
}  // namespace gangway::integration
