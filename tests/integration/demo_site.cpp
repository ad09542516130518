#include "integration/demo_site.h"

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "guest/ext4_image.h"
#include "guest/migration_request.h"

namespace gangway::integration {

using nlohmann::ordered_json;

namespace {

constexpr std::chrono::seconds kPatience{60};

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

std::string program() { return GANGWAY_PROGRAM; }

Site::Site() {
  std::string pattern = testing::TempDir() + "gangway-site-XXXXXX";
  EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
  directory_ = pattern;
  const auto made = guest::make_ext4_image(image(), 48U << 20, 16U << 20);
  EXPECT_TRUE(made.has_value()) << made.error().message;
  const auto extents = guest::find_workload_file(image());
  EXPECT_TRUE(extents.has_value()) << extents.error().message;
  for (const guest::Extent& extent : *extents) {
    region_ += (region_.empty() ? "nvme0=" : ",") + std::to_string(extent.offset) + "+" + std::to_string(extent.size);
  }
}

Site::~Site() {
  processes_.clear();
  std::filesystem::remove_all(directory_);
}

void Site::start(const std::string& name, const std::vector<std::string>& arguments) {
  auto process = guest::ChildProcess::start(program(), arguments, file(name + ".log"));
  ASSERT_TRUE(process.has_value()) << process.error().message;
  processes_.erase(name);
  processes_.emplace(name, std::move(*process));
}

void Site::serve(const std::string& name) {
  start(name, {"serve", "nvme", "--socket", file(name + ".sock"), "--disk", image()});
}

void Site::boot(const std::string& name, const std::string& device, const std::vector<std::string>& more) {
  std::vector<std::string> arguments{
      "guest",    "--memory", "32",        "--device",   "nvme0=vfio-user:" + file(device + ".sock").string(),
      "--region", region_,    "--control", control(name)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  start(name, arguments);
  eventually(name, [](const ordered_json& status) { return status.value("state", "") == "running"; });
}

std::string Site::wait_for_machine(const std::string& name, const std::string& device,
                                   const std::vector<std::string>& more) {
  std::vector<std::string> arguments{
      "guest",     "--memory",    "32",         "--device",       "nvme0=vfio-user:" + file(device + ".sock").string(),
      "--control", control(name), "--incoming", "tcp:127.0.0.1:0"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  start(name, arguments);
  return eventually(name, [](const ordered_json& status) { return status.contains("incoming"); }).value("incoming", "");
}

void Site::until_there(const std::string& name) const {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!std::filesystem::exists(file(name)) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_TRUE(std::filesystem::exists(file(name)));
}

ordered_json Site::eventually(const std::string& guest, const std::function<bool(const ordered_json&)>& reached) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::string last = "no answer";
  while (std::chrono::steady_clock::now() < deadline) {
    const auto status = guest::request_status(control(guest));
    if (status && reached(*status)) return *status;
    last = status ? status->dump(2) : status.error().message;
    if (process(guest).ended()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ADD_FAILURE() << guest << " did not come to the expected state; status: " << last << "\nlog:\n" << log_of(guest);
  return {};
}

ordered_json Site::let_work(const std::string& guest) {
  std::uint64_t first = ~std::uint64_t{0};
  return eventually(guest, [&](const ordered_json& status) {
    const auto done = status.value("io", std::uint64_t{0});
    first = std::min(first, done);
    return status.value("state", "") == "running" && done > first;
  });
}

void Site::stop_verified(const std::string& guest) {
  const auto final = guest::request_stop(control(guest));
  ASSERT_TRUE(final.has_value()) << final.error().message << "\nlog:\n" << log_of(guest);
  EXPECT_TRUE(final->value("verified", false)) << final->dump(2) << "\nlog:\n" << log_of(guest);
  EXPECT_GT(final->value("blocks_verified", 0), 0);
  EXPECT_EQ(final->value("blocks_bad", 1), 0) << final->dump(2);
  EXPECT_EQ(final->value("pages_bad", 1), 0) << final->dump(2);
  EXPECT_EQ(process(guest).wait(), 0) << log_of(guest);
  processes_.erase(guest);
}

void Site::expect_clean_file_system() const {
  const auto check = guest::check_ext4(image());
  ASSERT_TRUE(check.has_value()) << check.error().message;
  EXPECT_TRUE(check->clean) << check->output;
}

std::string Site::log_of(const std::string& name) const { return content_of(file(name + ".log")); }

std::map<pid_t, std::string> processes_with(const std::vector<std::string>& texts) {
  std::map<pid_t, std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::string command = content_of(entry.path() / "cmdline");
    std::ranges::replace(command, '\0', ' ');
    const auto has = [&](const std::string& text) { return command.find(text) != std::string::npos; };
    if (std::ranges::all_of(texts, has)) found.emplace(std::stoi(entry.path().filename()), std::move(command));
  }
  return found;
}

}  // namespace gangway::integration
