// What stands between the socket and the good server of a device with a faulty wire does no more than its one fault.
#include <string>

#include "faulty_wire/faulty_wire.h"
#include "unit/conformance/served_card.h"

namespace gangway::conformance {
namespace {

using namespace std::chrono_literals;

Settings strict_settings() {
  Settings settings = quick_settings();
  settings.strict = true;
  return settings;
}

TEST(FaultyWire, without_a_fault_passes_all_that_its_device_passes) {
  const std::string socket = testing::TempDir() + "gangway-wire-" + std::to_string(::getpid()) + ".sock";
  const auto endpoint = faulty::FaultyEndpoint::create(nullptr).value();
  const auto wire = faulty::FaultyWire::serve(socket, *endpoint, faulty::WireFault::None).value();
  const Settings settings = strict_settings();
  const Report report = run_suite({.target = named_target("vfio-user:" + socket, settings.limit),
                                   .peer = {},
                                   .settings = settings,
                                   .selection = {},
                                   .waivers = {},
                                   .progress = {}});
  EXPECT_EQ(report.count(Verdict::Fail), 0U) << to_text(report);
  EXPECT_GT(report.count(Verdict::Pass), 40U) << to_text(report);
}

TEST(FaultyWire, ends_with_a_client_that_is_there) {
  const std::string socket = testing::TempDir() + "gangway-wire-" + std::to_string(::getpid()) + ".sock";
  const auto endpoint = faulty::FaultyEndpoint::create(nullptr).value();
  auto wire = faulty::FaultyWire::serve(socket, *endpoint, faulty::WireFault::None).value();
  const auto client = open_device("vfio-user:" + socket).value();
  ASSERT_TRUE(client->state());
  wire.reset();
  EXPECT_FALSE(client->state());
}

}  // namespace
}  // namespace gangway::conformance
