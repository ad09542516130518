#include "cli/self_test.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "base/log.h"
#include "cli/command.h"
#include "conformance/runner.h"
#include "guest/child_process.h"

namespace gangway::cli {
namespace {

using namespace conformance;
using nlohmann::ordered_json;

constexpr std::chrono::seconds kStart{20};
constexpr const char* kProgram = "/proc/self/exe";

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream words(text);
  std::vector<std::string> all;
  for (std::string word; words >> word;) all.push_back(word);
  return all;
}

// A folder that goes with the test.
class Folder {
 public:
  static Result<Folder> make() {
    std::string name = (std::filesystem::temp_directory_path() / "gangway-check-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) return fail_errno("make a folder for sockets");
    return Folder(name);
  }
  Folder(Folder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Folder& operator=(Folder&&) = delete;
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

// A device in a process of its own, which is ended and started anew when it does not answer any more.
class Served {
 public:
  Served(std::vector<std::string> arguments, std::string socket, std::string output)
      : arguments_(std::move(arguments)), socket_(std::move(socket)), output_(std::move(output)) {}

  Result<std::shared_ptr<DeviceHandle>> open(std::chrono::milliseconds limit) {
    Result<std::shared_ptr<DeviceHandle>> opened = try_open(limit);
    if (opened || started_at_ == 0) return opened;
    // It hangs for whoever comes: as its user would, start it again.
    child_.reset();
    return try_open(limit);
  }

 private:
  Result<std::shared_ptr<DeviceHandle>> try_open(std::chrono::milliseconds limit) {
    if (!child_ || child_->ended()) {
      std::filesystem::remove(socket_);
      // The kernel ends a child with the thread that started it, so one that stays does it.
      std::optional<Result<guest::ChildProcess>> started;
      starter_.run([&] { started = guest::ChildProcess::start(kProgram, arguments_, output_); }, kStart);
      if (!started || !*started) return fail(EIO, "the device's process cannot be started");
      child_ = **std::move(started);
      ++started_at_;
    }
    // A socket is bound before anybody listens at it.
    const auto deadline = std::chrono::steady_clock::now() + kStart;
    while (true) {
      Result<std::shared_ptr<DeviceHandle>> opened = named_target("vfio-user:" + socket_, limit).opener();
      if (opened || (opened.error().code != ENOENT && opened.error().code != ECONNREFUSED)) return opened;
      if (child_->ended()) return fail(EIO, "the device's process ended at once; see " + output_);
      if (std::chrono::steady_clock::now() > deadline) return fail(ETIMEDOUT, "the device's process does not serve");
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  const std::vector<std::string> arguments_;
  const std::string socket_;
  const std::string output_;
  Lane starter_;
  std::optional<guest::ChildProcess> child_;
  int started_at_ = 0;
};

Result<std::vector<SelfTestCase>> faulty_devices(const std::vector<std::string>& select) {
  const auto listed = guest::run_tool(kProgram, {"serve", "faulty", "--list", "--json"});
  if (!listed) return std::unexpected(listed.error());
  const auto all = ordered_json::parse(listed->output, nullptr, false);
  if (!all.is_array()) return fail(EIO, "`gangway serve faulty --list --json` gives no list");
  std::vector<SelfTestCase> cases;
  for (const ordered_json& one : all) {
    SelfTestCase device{.device = one["name"], .faulty = true, .clauses = one["clause"]};
    // With all flags where it shows then, else with those where it does.
    const auto flags = one["flags"].get<std::vector<unsigned>>();
    if (!flags.empty() && std::ranges::find(flags, 7U) == flags.end()) device.flags = flags.back();
    device.interfaces = one["interfaces"].get<std::vector<std::string>>();
    const bool wanted = select.empty() || std::ranges::any_of(select, [&](const std::string& glob) {
                          return matches_glob(glob, device.device);
                        });
    if (wanted) cases.push_back(std::move(device));
  }
  return cases;
}

std::vector<SelfTestCase> good_devices(const std::vector<std::string>& select) {
  // By v2, by the regions alone, and by all.
  const std::vector<std::vector<std::string>> exposures{{"v2"}, {"v1", "region-v2"}, {"v2", "v1", "region-v2"}};
  std::vector<SelfTestCase> cases;
  for (const char* device : {"none", "serial", "nvme"}) {
    const std::string name = fmt::format("good {}", device);
    const bool wanted = select.empty() ||
                        std::ranges::any_of(select, [&](const std::string& glob) { return matches_glob(glob, name); });
    if (!wanted) continue;
    for (const std::vector<std::string>& interfaces : exposures) {
      for (const MigrationFlags flags : kAllMigrationFlags) {
        const bool repeats = interfaces.size() == kAllRevisions.size() && flags != MigrationFlags{true, true};
        if (!repeats) {
          cases.push_back({.device = device, .flags = static_cast<unsigned>(flags.bits()), .interfaces = interfaces});
        }
      }
    }
  }
  return cases;
}

class SelfTest {
 public:
  SelfTest(const SelfTestOptions& options, const Folder& folder, std::vector<SelfTestCase> cases)
      : options_(options), folder_(folder.path()), cases_(std::move(cases)) {}

  const std::vector<SelfTestCase>& run() {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < options_.jobs; ++i) threads.emplace_back([this] { work(); });
    for (std::thread& thread : threads) thread.join();
    return cases_;
  }

 private:
  void work() {
    for (std::size_t index = next_++; index < cases_.size(); index = next_++) {
      SelfTestCase& device = cases_[index];
      const auto begin = std::chrono::steady_clock::now();
      test(device, index);
      device.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      if (!options_.json) print(device);
    }
  }

  [[nodiscard]] std::vector<std::string> arguments(const SelfTestCase& device, const std::string& socket,
                                                   std::size_t index) const {
    std::vector<std::string> words{"serve"};
    if (device.faulty || device.device == "none") {
      words.insert(words.end(), {"faulty", "--defect", device.device});
    } else {
      words.push_back(device.device);
    }
    words.insert(words.end(), {"--socket", socket, "--flags", std::to_string(device.flags), "--interface",
                               fmt::format("{}", fmt::join(device.interfaces, ","))});
    if (device.device == "nvme") {
      const std::string disk = folder_ / fmt::format("{}.img", index);
      std::ofstream(disk).put('\0');
      std::filesystem::resize_file(disk, 16U << 20);
      words.insert(words.end(), {"--disk", disk});
    }
    return words;
  }

  void test(SelfTestCase& device, std::size_t index) const {
    const std::string socket = folder_ / fmt::format("{}.sock", index);
    const auto served =
        std::make_shared<Served>(arguments(device, socket, index), socket, folder_ / fmt::format("{}.log", index));
    const std::chrono::milliseconds limit = options_.settings.limit;
    // A defect against what the contract recommends is one that the suite has to find, too.
    Settings settings = options_.settings;
    settings.strict = true;
    settings.plays = 0;  // nobody reads the scripts
    Runner runner({.target = {"vfio-user:" + socket, [served, limit] { return served->open(limit); }},
                   .settings = settings,
                   .selection = {},
                   .waivers = {},
                   .progress = {}});
    const Result<Report> report = runner.run();
    if (!report) {
      device.error = report.error().message;
      return;
    }
    for (const ClauseResult& clause : report->clauses) {
      if (clause.verdict == Verdict::Fail) device.failed.emplace_back(clause.clause->id);
      for (const TestResult& one : clause.tests) {
        if (one.device_failed) device.unasked.push_back(fmt::format("{}: {}", one.name, one.message));
      }
    }
  }

  void print(const SelfTestCase& device) {
    const std::scoped_lock lock(output_);
    const std::string name = device.faulty ? device.device : "good " + device.device;
    std::string failed;
    for (const std::string& clause : device.failed) failed += " " + clause;
    fmt::print("{:<6} {:<36} flags {} {:5.1f} s  by {}, breaks {}; failed{}\n", device.right() ? "ok" : "WRONG", name,
               device.flags, device.seconds, fmt::join(device.interfaces, ","),
               device.faulty ? device.clauses : "nothing", failed.empty() ? " none" : failed);
    for (const std::string& clause : device.misattributed()) fmt::print("         blames {}\n", clause);
    if (!device.error.empty()) fmt::print("         not tested: {}\n", device.error);
    if (!device.faulty) {
      for (const std::string& test : device.unasked) fmt::print("         not asked: {}\n", test);
    }
    std::fflush(stdout);
  }

  const SelfTestOptions& options_;
  const std::filesystem::path folder_;
  std::vector<SelfTestCase> cases_;
  std::atomic<std::size_t> next_{0};
  std::mutex output_;
};

}  // namespace

bool SelfTestCase::caught() const {
  const std::vector<std::string> broken = words_of(clauses);
  return !broken.empty() && std::ranges::find(failed, broken.front()) != failed.end();
}

std::vector<std::string> SelfTestCase::misattributed() const {
  const std::vector<std::string> broken = words_of(clauses);
  std::vector<std::string> wrong;
  for (const std::string& clause : failed) {
    if (std::ranges::find(broken, clause) == broken.end()) wrong.push_back(clause);
  }
  return wrong;
}

bool SelfTestCase::right() const {
  if (!error.empty()) return false;
  return faulty ? caught() && misattributed().empty() : failed.empty() && unasked.empty();
}

int self_test(const SelfTestOptions& options) {
  auto cases = good_devices(options.select);
  auto mutants = faulty_devices(options.select);
  const auto folder = Folder::make();
  if (!mutants || !folder) {
    log::error("{}", !mutants ? mutants.error().message : folder.error().message);
    return kCannotRun;
  }
  std::ranges::move(*mutants, std::back_inserter(cases));
  if (cases.empty()) return cannot_run("--select: no device matches; `gangway serve faulty --list` has their names");
  ::signal(SIGPIPE, SIG_IGN);
  SelfTest test(options, *folder, std::move(cases));
  std::size_t faulty = 0;
  std::size_t caught = 0;
  std::size_t clean_failures = 0;
  std::size_t misattributed = 0;
  for (const SelfTestCase& device : test.run()) {
    faulty += device.faulty ? 1U : 0U;
    caught += device.faulty && device.caught() ? 1U : 0U;
    clean_failures += !device.faulty && !device.right() ? 1U : 0U;
    misattributed += device.faulty && !device.misattributed().empty() ? 1U : 0U;
  }
  if (options.json) {
    const ordered_json summary{
        {"mutants", faulty}, {"caught", caught}, {"clean_failures", clean_failures}, {"misattributed", misattributed}};
    fmt::print("{}\n", json_text(summary));
  } else {
    fmt::print("{} faulty devices, {} caught, {} blamed for what they do not do; {} failures on good devices\n", faulty,
               caught, misattributed, clean_failures);
  }
  return caught == faulty && clean_failures == 0 && misattributed == 0 ? kSuccess : kFailure;
}

}  // namespace gangway::cli
