// `gangway guest` and `gangway migrate` as their users run them, and what happens when a process dies.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <future>
#include <random>

#include "guest/http_client.h"
#include "guest/migration_request.h"
#include "integration/demo_site.h"

namespace gangway::integration {
namespace {

using nlohmann::ordered_json;

ordered_json to(const std::string& address) { return {{"to", address}}; }

Result<ordered_json> migrate(const Site& site, const std::string& guest, const std::string& address) {
  return guest::request_migration(site.control(guest), to(address), [](const ordered_json&) {});
}

TEST(GuestProcess, it_migrates_by_command_and_runs_on_elsewhere) {
  Site site;
  site.serve("device-a");
  site.serve("device-b");
  site.boot("a", "device-a");
  site.let_work("a");
  const std::string address = site.wait_for_machine("b", "device-b");
  const auto result = guest::run_tool(program(), {"migrate", site.control("a"), address, "--json"});
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(result->status, 0) << result->output;
  const ordered_json report = ordered_json::parse(result->output, nullptr, false);
  EXPECT_EQ(report.value("event", ""), "completed") << result->output;
  const auto source = guest::request_status(site.control("a"));
  ASSERT_TRUE(source.has_value()) << source.error().message;
  EXPECT_EQ(source->value("state", ""), "migrated");
  const ordered_json here = site.let_work("b");
  EXPECT_GT(here.value("io", 0), source->value("io", 0));
  site.stop_verified("b");
  EXPECT_TRUE(guest::request_stop(site.control("a")).has_value());
  EXPECT_EQ(site.process("a").wait(), 0) << site.log_of("a");
  site.kill("device-a");
  site.kill("device-b");
  site.expect_clean_file_system();
}

TEST(GuestProcess, a_destination_that_is_not_there_fails_the_command_and_nothing_else) {
  Site site;
  site.serve("device-a");
  site.boot("a", "device-a");
  const auto result =
      guest::run_tool(program(), {"migrate", site.control("a"), "unix:" + site.file("nobody").string()});
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(result->status, 1) << result->output;
  EXPECT_NE(result->output.find("the migration failed"), std::string::npos) << result->output;
  site.let_work("a");
  site.stop_verified("a");
}

TEST(GuestProcess, wrong_usage_is_told_apart_from_failure) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"migrate", "/nonexistent/control", "tcp:127.0.0.1:1"},
           {"guest", "--device", "nvme0"},
           {"guest", "--region", "nvme0=0+4096"},
           {"guest", "--tracking", "guesswork"},
           {"guest", "--depth", "0"},
           {"guest", "--incoming", "tcp:nowhere"},
       }) {
    const auto result = guest::run_tool(program(), arguments);
    ASSERT_TRUE(result.has_value()) << result.error().message;
    EXPECT_EQ(result->status, 2) << arguments[1] << ": " << result->output;
    EXPECT_FALSE(result->output.empty());
  }
}

TEST(GuestProcess, control_answers_and_refuses_clearly) {
  Site site;
  site.serve("device-a");
  site.boot("a", "device-a");
  const auto call = [&](std::string_view method, std::string_view path, std::string_view body = {}) {
    const auto reply = guest::http_call(site.control("a"), method, path, body);
    EXPECT_TRUE(reply.has_value()) << reply.error().message;
    return *reply;
  };
  EXPECT_EQ(call("GET", "/nowhere").status, 404);
  EXPECT_EQ(call("POST", "/migrate", "{").status, 400);
  EXPECT_EQ(call("POST", "/migrate", R"({"to": 5})").status, 400);
  EXPECT_EQ(call("POST", "/migrate", R"({"to": "tcp:127.0.0.1:1", "channels": 99})").status, 400);
  EXPECT_EQ(call("POST", "/cancel").status, 409);
  EXPECT_EQ(call("GET", "/migration").body, "");
  site.let_work("a");
  const std::string metrics = call("GET", "/metrics").body;
  EXPECT_NE(metrics.find("gangway_guest_commands_total{disk=\"nvme0\",kind=\"read\"} "), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("\ngangway_guest_blocks_bad_total 0\n"), std::string::npos) << metrics;
  site.stop_verified("a");
}

TEST(GuestProcess, a_cancelled_migration_leaves_the_source_running) {
  Site site;
  site.serve("device-a");
  site.serve("device-b");
  site.boot("a", "device-a");
  const std::string address = site.wait_for_machine("b", "device-b");
  // A destination that stands still keeps the migration from ending before it is cancelled.
  site.process("b").signal(SIGSTOP);
  auto outcome = std::async(std::launch::async, [&] { return migrate(site, "a", address); });
  site.eventually("a", [](const ordered_json& status) { return status.value("state", "") == "migrating"; });
  EXPECT_EQ(guest::http_call(site.control("a"), "POST", "/stop")->status, 409);
  EXPECT_EQ(guest::http_call(site.control("a"), "POST", "/cancel")->status, 200);
  const auto ended = outcome.get();
  ASSERT_TRUE(ended.has_value()) << ended.error().message;
  EXPECT_EQ(ended->value("error", ""), "ECANCELED") << ended->dump();
  site.process("b").signal(SIGCONT);
  site.let_work("a");
  const auto again = migrate(site, "a", address);  // it waits for the next
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->value("event", ""), "completed") << again->dump() << site.log_of("b");
  site.let_work("b");
  site.stop_verified("b");
}

// Kills a destination at a chosen moment and says what became of the source.
class Killing : public testing::Test {
 protected:
  void SetUp() override { start_source(); }

  void start_source() {
    ++generation_;
    source_ = "source" + std::to_string(generation_);
    site_.serve(source_ + "-device");
    site_.boot(source_, source_ + "-device", {"--dirty-rate", "256", "--seed", std::to_string(generation_)});
    site_.let_work(source_);
  }
  std::string start_destination() {
    ++generation_;
    destination_ = "destination" + std::to_string(generation_);
    site_.serve(destination_ + "-device");
    return site_.wait_for_machine(destination_, destination_ + "-device");
  }
  void kill_destination() {
    site_.kill(destination_);
    site_.kill(destination_ + "-device");
  }
  void expect_unharmed() {
    const ordered_json status = site_.let_work(source_);
    EXPECT_EQ(status.value("blocks_bad", -1), 0) << status.dump(2);
    EXPECT_EQ(status.value("pages_bad", -1), 0) << status.dump(2);
    EXPECT_EQ(status.value("errors", -1), 0) << status.dump(2);
  }
  // What the source says of a migration whose destination died is one of three things, and it must be true.
  // Returns whether the source goes on.
  bool judge(const Result<ordered_json>& outcome) {
    EXPECT_TRUE(outcome.has_value()) << outcome.error().message << "\n" << site_.log_of(source_);
    if (!outcome) return false;
    const auto state = guest::request_status(site_.control(source_));
    EXPECT_TRUE(state.has_value()) << state.error().message;
    if (outcome->value("event", "") == "completed") {  // it died afterwards, with the machine
      EXPECT_EQ(state->value("state", ""), "migrated");
      return false;
    }
    if (outcome->value("error", "") == "EINPROGRESS") {  // it died between the order to run and its answer
      EXPECT_EQ(state->value("state", ""), "unknown");
      EXPECT_NE(outcome->value("message", "").find("had been told to run"), std::string::npos) << outcome->dump();
      return false;
    }
    expect_unharmed();
    return true;
  }
  void finish_on_a_fresh_destination() {
    const auto outcome = migrate(site_, source_, start_destination());
    ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
    ASSERT_EQ(outcome->value("event", ""), "completed") << outcome->dump() << site_.log_of(destination_);
    site_.let_work(destination_);
    site_.stop_verified(destination_);
    site_.kill(source_);
    site_.kill(source_ + "-device");
    site_.kill(destination_ + "-device");
    site_.expect_clean_file_system();
  }

  Site site_;
  int generation_ = 0;
  std::string source_;
  std::string destination_;
};

TEST_F(Killing, before_the_destination_took_over_the_source_goes_on) {
  const std::string address = start_destination();
  site_.process(destination_).signal(SIGSTOP);
  auto outcome = std::async(std::launch::async, [&] { return migrate(site_, source_, address); });
  site_.eventually(source_, [](const ordered_json& status) { return status.value("state", "") == "migrating"; });
  kill_destination();
  EXPECT_TRUE(judge(outcome.get()));
  finish_on_a_fresh_destination();
}

TEST_F(Killing, the_device_of_a_destination_fails_the_migration_alone) {
  const std::string address = start_destination();
  site_.process(destination_ + "-device").signal(SIGSTOP);
  auto outcome = std::async(std::launch::async, [&] { return migrate(site_, source_, address); });
  site_.eventually(source_, [](const ordered_json& status) { return status.value("state", "") == "migrating"; });
  site_.kill(destination_ + "-device");
  EXPECT_TRUE(judge(outcome.get()));
  finish_on_a_fresh_destination();
}

// Set GANGWAY_KILLS for more of them.
TEST_F(Killing, at_random_moments_never_harms_the_source) {
  const char* wanted = ::getenv("GANGWAY_KILLS");
  const int kills = wanted == nullptr ? 10 : std::atoi(wanted);
  std::mt19937 random(20240501);
  // How long a migration takes here and now, so that the moments fall into it.
  const auto begin = std::chrono::steady_clock::now();
  const auto undisturbed = migrate(site_, source_, start_destination());
  ASSERT_TRUE(undisturbed.has_value() && undisturbed->value("event", "") == "completed");
  auto usual = std::chrono::steady_clock::now() - begin;
  kill_destination();
  start_source();

  int survived = 0;
  int completed_or_unknown = 0;
  // Some come too late to be survived. Not all: as long as none was, the moments move towards the beginning.
  constexpr int kMostKills = 40;
  for (int kill = 0; kill < kills || (survived == 0 && kill < kMostKills); ++kill) {
    const std::string address = start_destination();
    const double moment = std::uniform_real_distribution(0.0, 1.1)(random);
    const bool device = random() % 2 == 0;
    auto outcome = std::async(std::launch::async, [&] { return migrate(site_, source_, address); });
    outcome.wait_for(std::chrono::duration_cast<std::chrono::nanoseconds>(usual * moment));
    site_.kill(device ? destination_ + "-device" : destination_);
    const bool goes_on = judge(outcome.get());
    ++(goes_on ? survived : completed_or_unknown);
    if (survived == 0) usual = usual * 3 / 4;
    kill_destination();
    if (!goes_on) {
      site_.kill(source_);
      site_.kill(source_ + "-device");
      start_source();
    }
    ASSERT_FALSE(HasFailure()) << "kill " << kill << " of the " << (device ? "device" : "guest") << " at " << moment;
  }
  RecordProperty("survived", survived);
  RecordProperty("completed_or_unknown", completed_or_unknown);
  EXPECT_GT(survived, 0) << "a source must go on when its destination dies before it was told to run";
  finish_on_a_fresh_destination();
}

}  // namespace
}  // namespace gangway::integration
