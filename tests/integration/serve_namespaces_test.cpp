// `gangway serve nvme` with several namespaces on a controller.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <gangway/fd.h>

#include "guest/migration_request.h"
#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

// A controller that the host enabled has all its images locked.
bool is_locked(const std::filesystem::path& image) {
  const Fd file(::open(image.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_TRUE(file);
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  EXPECT_EQ(::fcntl(file.get(), F_OFD_GETLK, &range), 0);
  return range.l_type != F_UNLCK;
}

class ServeNamespaces : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::filesystem::path& image : {second(), third()}) {
      std::ofstream(image).close();
      std::filesystem::resize_file(image, 8U << 20);
    }
  }
  [[nodiscard]] std::filesystem::path second() const { return site_.file("second.img"); }
  [[nodiscard]] std::filesystem::path third() const { return site_.file("third.img"); }
  void serve(const std::string& name, const std::vector<std::string>& more) {
    // Verbose, so that the log has what the device refuses.
    std::vector<std::string> arguments{"-v",     "serve",      "nvme", "--socket", site_.file(name + ".sock"),
                                       "--disk", site_.image()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    site_.run(name, arguments);
  }
  ordered_json migrate(const std::string& address) {
    const auto outcome = guest::request_migration(site_.control("a"), {{"to", address}}, [](const ordered_json&) {});
    EXPECT_TRUE(outcome.has_value()) << outcome.error().message;
    return outcome ? *outcome : ordered_json::object();
  }

  Site site_;
};

TEST_F(ServeNamespaces, a_controller_has_those_after_its_disk_and_moves_with_them) {
  serve("device-a", {"--namespace", second(), "--socket", site_.file("other.sock"), "--disk", third()});
  site_.boot("a", "device-a");
  site_.let_work("a");
  EXPECT_TRUE(is_locked(site_.image()));
  EXPECT_TRUE(is_locked(second()));
  EXPECT_FALSE(is_locked(third())) << "the other controller's, which nobody drives";

  // DAT-IDENTITY: while the machine runs, before any of its memory is taken.
  serve("device-c", {});
  const ordered_json refused = migrate(site_.wait_for_machine("c", "device-c"));
  EXPECT_EQ(refused.value("event", ""), "failed") << refused.dump();
  EXPECT_NE(refused.value("message", "").find("pre-copy: the destination gave up: receive: device nvme0"),
            std::string::npos)
      << refused.dump();
  EXPECT_NE(site_.log_of("device-c").find("2 namespaces were saved, this controller has 1"), std::string::npos)
      << site_.log_of("device-c");
  site_.kill("c");
  site_.let_work("a");

  serve("device-b", {"--namespace", second()});
  const ordered_json moved = migrate(site_.wait_for_machine("b", "device-b"));
  ASSERT_EQ(moved.value("event", ""), "completed") << moved.dump() << site_.log_of("b");
  site_.let_work("b");
  site_.kill("device-a");
  EXPECT_TRUE(is_locked(second())) << "by the destination";
  site_.stop_verified("b");
  site_.kill("device-b");
  site_.expect_clean_file_system();
}

TEST_F(ServeNamespaces, what_makes_no_controller_is_refused_clearly) {
  const std::string image = site_.image();
  const std::string socket = site_.file("a.sock");
  struct Wrong {
    std::vector<std::string> arguments;
    std::string said;
  };
  for (const Wrong& wrong :
       {Wrong{{"--namespace", second(), "--disk", image}, "give it after the --disk"},
        Wrong{{"--disk", image, "--namespace", image}, "the controller writes this image already"},
        Wrong{{"--disk", "[" + image + "," + third().string() + "]", "--namespace", second(), "--socket", socket + "2"},
              "give each --disk and each --namespace by itself"},
        Wrong{{"--disk", image, "--namespace", site_.file("missing.img")}, "No such file"}}) {
    std::vector<std::string> arguments{"serve", "nvme", "--socket", socket};
    arguments.insert(arguments.end(), wrong.arguments.begin(), wrong.arguments.end());
    const auto result = guest::run_tool(program(), arguments);
    ASSERT_TRUE(result.has_value()) << result.error().message;
    EXPECT_EQ(result->status, 2) << result->output;
    EXPECT_NE(result->output.find(wrong.said), std::string::npos) << result->output;
  }
}

}  // namespace
}  // namespace gangway::integration
