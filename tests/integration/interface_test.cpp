// Which revisions of the migration interface a served device exposes, as its users see them.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

struct Exposed {
  std::string interfaces;
  bool v2 = false;
  std::vector<std::string> by_region;
  bool notice = false;
};

TEST(Interfaces, those_that_are_exposed_are_shown_and_v1_is_announced_once_as_deprecated) {
  Site site;
  const auto disk = [&site](const std::string& name) {
    const std::filesystem::path path = site.file(name + ".img");
    std::ofstream(path).close();
    std::filesystem::resize_file(path, 1 << 20);
    return path.string();
  };
  for (const Exposed& each : {Exposed{"v2", true, {}, false}, Exposed{"v1", false, {"v1"}, true},
                              Exposed{"region-v2", false, {"region-v2"}, false},
                              Exposed{"v2,v1,region-v2", true, {"v1", "region-v2"}, true}}) {
    const std::string socket = site.file(each.interfaces + ".sock");
    // Two devices of a process: the notice is one all the same.
    const std::string second = site.file(each.interfaces + ".second.sock");
    site.run("device", {"serve", "nvme", "--interface", each.interfaces, "--socket", socket, "--disk", disk("first"),
                        "--socket", second, "--disk", disk("second")});
    site.until_there(each.interfaces + ".sock");
    const auto shown = guest::run_tool(program(), {"inspect", "vfio-user:" + socket, "--json"});
    ASSERT_TRUE(shown.has_value()) << shown.error().message;
    ASSERT_EQ(shown->status, 0) << shown->output;
    const ordered_json device = ordered_json::parse(shown->output);
    EXPECT_EQ(device["migration"]["revision"].is_null(), !each.v2) << each.interfaces;
    if (!each.v2) {
      EXPECT_FALSE(device["migration"]["why"].get<std::string>().empty());
    }
    ASSERT_EQ(device["migration_regions"].size(), each.by_region.size()) << device["migration_regions"];
    for (std::size_t i = 0; i < each.by_region.size(); ++i) {
      EXPECT_EQ(device["migration_regions"][i]["revision"], each.by_region[i]);
      EXPECT_EQ(device["migration_regions"][i]["state"], "RUNNING");
    }
    const auto text = guest::run_tool(program(), {"inspect", "vfio-user:" + socket});
    EXPECT_EQ(text->output.find("none by v2") != std::string::npos, !each.v2) << text->output;
    site.process("device").signal(SIGTERM);
    EXPECT_EQ(site.process("device").wait(), 0);
    const std::string log = site.log_of("device");
    const std::size_t notice = log.find("deprecated since 2026-11-24");
    EXPECT_EQ(notice != std::string::npos, each.notice) << each.interfaces << "\n" << log;
    if (each.notice) {
      EXPECT_EQ(log.find("deprecated", notice + 1), std::string::npos) << log;
    }
    site.kill("device");
    std::filesystem::remove(site.file("device.log"));
  }
}

}  // namespace
}  // namespace gangway::integration
