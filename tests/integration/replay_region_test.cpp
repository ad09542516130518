// Clients of v1 and region-v2, recorded: their recordings become profiles, and are replayed.
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

// A client of region-v2, which nobody ships: it saves and loads as one of v2 does, by accesses.
constexpr std::string_view kOfRegionV2 =
    "profile region-client\n"
    "interface region-v2\n"
    "phase source on source\n"
    "  if PRE_COPY\n"
    "    set PRE_COPY else RUNNING\n"
    "    repeat until end\n"
    "      pending\n"
    "      chunk by 4096\n"
    "    end\n"
    "    if P2P\n"
    "      set PRE_COPY_P2P else reset\n"
    "      get\n"
    "    end\n"
    "  end\n"
    "  set STOP_COPY else STOP\n"
    "  repeat until end\n"
    "    pending\n"
    "    chunk by 4096\n"
    "  end\n"
    "  set STOP else reset\n"
    "phase destination on destination\n"
    "  set RESUMING else RUNNING\n"
    "  load by 4096\n"
    "  if P2P\n"
    "    set RUNNING_P2P else reset\n"
    "    get\n"
    "  end\n"
    "  set RUNNING else reset\n";

class RecordedRegionClient : public testing::Test {
 protected:
  using Words = std::vector<std::string>;

  static guest::ToolResult run(const Words& words) {
    auto result = guest::run_tool(program(), words);
    EXPECT_TRUE(result.has_value()) << result.error().message;
    return result.value_or(guest::ToolResult{.status = -1, .output = {}});
  }
  [[nodiscard]] std::string target(const std::string& name) const {
    return "vfio-user:" + site_.file(name + ".sock").string();
  }
  [[nodiscard]] std::string trace() const { return site_.file("client.trace"); }

  // A device under this name, instead of the one before.
  void serve(const std::string& name, Words device) {
    site_.kill(name);
    std::filesystem::remove(site_.file(name + ".sock"));
    device.insert(device.begin(), "serve");
    device.insert(device.end(), {"--socket", site_.file(name + ".sock")});
    site_.run(name, device);
    site_.until_there(name + ".sock");
  }

  // A client that does what the profile says, recorded.
  void record_client(const std::string& profile, const std::string& device) {
    site_.run("recorder",
              {"record", "--listen", site_.file("recorder.sock"), "--to", target(device), "--out", trace()});
    site_.until_there("recorder.sock");
    const guest::ToolResult played = run({"check", target("recorder"), "--profile", profile});
    EXPECT_EQ(played.status, 0) << played.output;
    EXPECT_NE(played.output.find(" 0 failed, 0 not supported, 0 not tested"), std::string::npos) << played.output;
    site_.process("recorder").signal(SIGTERM);
    EXPECT_EQ(site_.process("recorder").wait(), 0) << site_.log_of("recorder");
  }
  std::string own_profile() {
    const std::string file = site_.file("region-client.profile");
    std::ofstream(file) << kOfRegionV2;
    return file;
  }

  [[nodiscard]] guest::ToolResult replay(const std::string& device) const {
    return run({"replay", trace(), target(device), "--only", "migration", "--time-limit", "5", "--json"});
  }

  // Each defect deviates first at this act, about this clause.
  struct Fails {
    const char* defect;
    const char* act;
    const char* clause;
  };
  void expect_deviations(const std::string& interface, std::initializer_list<Fails> all) {
    for (const Fails& each : all) {
      serve("faulty", {"faulty", "--defect", each.defect, "--interface", interface});
      const guest::ToolResult failed = replay("faulty");
      EXPECT_EQ(failed.status, 1) << each.defect << "\n" << failed.output;
      const auto report = ordered_json::parse(failed.output, nullptr, false);
      ASSERT_FALSE(report["deviations"].empty()) << each.defect;
      EXPECT_EQ(report["deviations"].front()["text"], each.act) << each.defect << "\n" << failed.output;
      EXPECT_EQ(report["deviations"].front()["clause"], each.clause) << each.defect << "\n" << failed.output;
    }
  }

  Site site_;
};

// The acts of each phase that drives something, without where it ends.
std::vector<std::string> phases_of(const std::string& profile) {
  std::vector<std::string> phases;
  for (std::size_t at = profile.find("\nphase "); at != std::string::npos; at = profile.find("\nphase ", at + 1)) {
    const std::size_t begin = profile.find('\n', at + 1) + 1;
    phases.push_back(profile.substr(begin, profile.find("\nphase ", at + 1) - begin));
  }
  return phases;
}

TEST_F(RecordedRegionClient, one_of_v1_becomes_a_profile_of_v1_that_plays) {
  serve("device", {"serial", "--interface", "v1"});
  record_client("qemu-7.2-v1", "device");
  const std::string file = site_.file("derived.profile");
  const guest::ToolResult derived = run({"profile", trace(), "--name", "derived", "--output", file});
  ASSERT_EQ(derived.status, 0) << derived.output;
  std::ifstream in(file);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  EXPECT_NE(text.find("interface v1\n"), std::string::npos) << text;
  const std::vector<std::string> phases = phases_of(text);
  ASSERT_EQ(phases.size(), 6U) << text;
  // What the profile that was played says of its source, and a reset, which is how playing it ends.
  EXPECT_EQ(phases.front(),
            "  bits 011\n"
            "  repeat until end\n"
            "    pending\n"
            "    chunk by 8\n"
            "  end\n"
            "  bits 010\n"
            "  bits 010\n"
            "  repeat until end\n"
            "    pending\n"
            "    chunk by 8\n"
            "  end\n"
            "  bits 000\n"
            "  reset\n");
  EXPECT_TRUE(std::ranges::any_of(phases, [](const std::string& phase) {
    return phase.find("  bits 100\n  load by 8\n  command restore\n") != phase.npos;
  })) << text;
  serve("other", {"faulty", "--defect", "none", "--interface", "v1"});
  const guest::ToolResult played = run({"check", target("other"), "--profile", file});
  EXPECT_EQ(played.status, 0) << played.output;
  EXPECT_NE(played.output.find("6 passed"), std::string::npos) << played.output;
}

TEST_F(RecordedRegionClient, one_of_v1_is_replayed_and_deviates_on_faulty_devices) {
  serve("device", {"faulty", "--defect", "none", "--interface", "v1"});
  record_client("qemu-7.2-v1", "device");
  for (const Words& more : {Words{}, Words{"--only", "migration"}}) {
    Words words{"replay", trace(), target("device")};
    words.insert(words.end(), more.begin(), more.end());
    const guest::ToolResult same = run(words);
    EXPECT_EQ(same.status, 0) << same.output;
  }
  // Another kind of device, with streams of other lengths and no pre-copy.
  serve("other", {"serial", "--interface", "v1", "--flags", "1"});
  const guest::ToolResult other = replay("other");
  EXPECT_EQ(other.status, 0) << other.output;
  expect_deviations("v1", {{"v1_pending_never_ends", "read pending_bytes", ""},
                           {"v1_small_writes_refused", "load a chunk", "V1-LOAD"},
                           {"v1_commit_ignored", "write device_state 001", "V1-STATES"},
                           {"v1_pending_moves_on", "write device_state 001", "V1-STATES"},
                           {"v1_change_loses_chunk", "write device_state 001", "V1-STATES"},
                           {"resuming_refused_after_reset", "write device_state 100", "V1-STATES"}});
  serve("none", {"serial"});
  const guest::ToolResult hidden = replay("none");
  EXPECT_EQ(hidden.status, 1) << "it offers v2 instead, which is a deviation\n" << hidden.output;
  EXPECT_NE(hidden.output.find("drives v1, which the device does not expose"), std::string::npos) << hidden.output;
}

TEST_F(RecordedRegionClient, one_of_region_v2_becomes_its_profile_and_is_replayed) {
  serve("device", {"faulty", "--defect", "none", "--interface", "region-v2"});
  record_client(own_profile(), "device");
  const std::string file = site_.file("derived.profile");
  const guest::ToolResult derived = run({"profile", trace(), "--name", "derived", "--output", file});
  ASSERT_EQ(derived.status, 0) << derived.output;
  for (const char* flags : {"1", "7"}) {
    serve("other", {"serial", "--interface", "region-v2", "--flags", flags});
    const guest::ToolResult played = run({"check", target("other"), "--profile", file});
    EXPECT_EQ(played.status, 0) << flags << "\n" << played.output;
    EXPECT_NE(played.output.find(" 0 failed, 0 not supported, 0 not tested"), std::string::npos) << played.output;
  }
  const guest::ToolResult same = replay("device");
  EXPECT_EQ(same.status, 0) << same.output;
  expect_deviations("region-v2", {{"resuming_needs_reset", "write device_state RESUMING", "RST-NOT-REQUIRED"},
                                  {"region_v2_hides_p2p", "read device_state", "FSM-COMPLETE"},
                                  {"region_v2_commit_in_words", "load a chunk", "DAT-STREAM"},
                                  {"region_v2_stop_copy_starts_anew", "load a chunk", "DAT-STREAM"}});
}

}  // namespace
}  // namespace gangway::integration
