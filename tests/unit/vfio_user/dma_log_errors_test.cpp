// LOG-ERROR on the server's side: a client takes a log for corrupt after any error, so an error must not be what loses
// a page for those who ask again.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include <gangway/device_handle.h>

#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using test::bytes;
using test::Bytes;
using test::Heard;
using test::RawPeer;
using test::ServedDevice;
using test::with;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLogged = 64 * kPage;
constexpr std::uint64_t kReportHead = sizeof(FeatureHeader) + sizeof(FeatureLoggingReport);

Bytes feature(Feature number, std::uint32_t flags, std::uint64_t argsz, const Bytes& data) {
  return with(bytes(FeatureHeader{.argsz = static_cast<std::uint32_t>(argsz),
                                  .flags = static_cast<std::uint32_t>(number) | flags}),
              data);
}
Bytes start(std::uint64_t iova, std::uint64_t length) {
  const Bytes data =
      bytes(FeatureLoggingControl{.page_size = kPage, .ranges = 1}, LoggingRange{.iova = iova, .length = length});
  return feature(Feature::DmaLoggingStart, kFeatureSet, sizeof(FeatureHeader) + data.size(), data);
}
Bytes report(FeatureLoggingReport asked, std::uint64_t argsz = kReportHead + 8) {
  return feature(Feature::DmaLoggingReport, kFeatureGet, argsz, bytes(asked));
}

Bytes without_its_end(Bytes request) {
  request.resize(request.size() - 8);
  return request;
}

struct Case {
  std::string what;
  Bytes request;
};

std::vector<Case> refused_requests() {
  const FeatureLoggingReport good{.iova = 0, .length = kLogged, .page_size = kPage};
  return {
      {"a page size of 0", report({.iova = 0, .length = kLogged, .page_size = 0})},
      {"a page size below 4096", report({.iova = 0, .length = kLogged, .page_size = 512})},
      {"a page size that is no power of two", report({.iova = 0, .length = kLogged, .page_size = 3 * kPage})},
      {"a range that wraps", report({.iova = ~std::uint64_t{0} - kPage + 1, .length = 2 * kPage, .page_size = kPage})},
      {"no room for the head", report(good, kReportHead - 1)},
      {"no room for the bitmap", report(good, kReportHead)},
      {"half a request", without_its_end(report(good))},
      {"a second start", start(0, kLogged)},
      {"a start without room", start(0, 0)},
  };
}

TEST(DmaLogErrors, lose_no_page_to_who_asks_again) {
  for (const Case& each : refused_requests()) {
    SCOPED_TRACE(each.what);
    ServedDevice served;
    RawPeer peer = served.connect_negotiated();
    ASSERT_EQ(peer.ask(Command::DeviceFeature, start(0, kLogged)).error(), 0);
    served.endpoint().log().mark(Iova{5 * kPage}, 1);
    served.endpoint().log().mark(Iova{63 * kPage}, 1);
    for (int i = 0; i < 2; ++i) EXPECT_NE(peer.ask(Command::DeviceFeature, each.request).error(), 0);
    served.endpoint().log().mark(Iova{6 * kPage}, 1);
    const Heard heard = peer.ask(Command::DeviceFeature, report({.iova = 0, .length = kLogged, .page_size = kPage}));
    ASSERT_EQ(heard.error(), 0);
    EXPECT_EQ(heard.as<std::uint64_t>(kReportHead), std::uint64_t{1} << 63 | 1U << 6 | 1U << 5);
  }
}

// The other way to an error: nobody is left who could be told, so the log is gone with the pages.
TEST(DmaLogErrors, a_log_whose_client_went_is_not_found_by_the_next) {
  ServedDevice served;
  {
    RawPeer peer = served.connect_negotiated();
    ASSERT_EQ(peer.ask(Command::DeviceFeature, start(0, kLogged)).error(), 0);
    served.endpoint().log().mark(Iova{0}, 1);
    ASSERT_TRUE(peer.send(Command::DeviceFeature, report({.iova = 0, .length = kLogged, .page_size = kPage})));
  }
  RawPeer next = served.connect_negotiated();
  const Bytes asked = report({.iova = 0, .length = kLogged, .page_size = kPage});
  EXPECT_EQ(next.ask(Command::DeviceFeature, asked).error(), EINVAL) << "a report without a start";
  ASSERT_EQ(next.ask(Command::DeviceFeature, start(0, kLogged)).error(), 0);
  EXPECT_EQ(next.ask(Command::DeviceFeature, asked).as<std::uint64_t>(kReportHead), 0U);
}

}  // namespace
}  // namespace gangway::vfio_user
