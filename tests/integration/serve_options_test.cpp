// Options of `gangway serve` that every device has.
#include <sys/socket.h>
#include <sys/un.h>

#include <gtest/gtest.h>

#include "guest/child_process.h"
#include "integration/served_process.h"
#include "unit/vfio_user/raw_peer.h"
#include "vfio_user/protocol.h"

namespace gangway::integration {
namespace {

using test::bytes;
using test::RawPeer;

test::RawPeer connect_to(const ServedProcess& process) {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (process.folder() / "socket").native().copy(address.sun_path, sizeof address.sun_path - 1);
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return RawPeer(std::move(socket));
}

TEST(ServeOptions, a_client_has_as_long_as_it_is_told) {
  const auto process = ServedProcess::start([](const std::filesystem::path& folder) {
    return ServedProcess::Command{
        GANGWAY_PROGRAM, {"serve", "serial", "--socket", (folder / "socket").string(), "--client-timeout", "70"}};
  });
  ASSERT_TRUE(process) << process.error().message;
  RawPeer peer = connect_to(*process);
  ASSERT_EQ(peer.negotiate().error(), 0);
  // Asks and never reads, until it is given up.
  const test::Bytes command =
      RawPeer::command(vfio_user::Command::RegionRead,
                       bytes(vfio_user::RegionAccess{.region = to_number(RegionIndex::Config), .count = 256}));
  while (peer.send_bytes(command)) {
  }
  EXPECT_TRUE(process->open()) << "the next client is served";  // after the first was told off
  EXPECT_NE(process->output().find("the peer took nothing off its socket for 70 ms"), std::string::npos)
      << process->output();
}

TEST(ServeOptions, a_client_timeout_that_is_none_is_refused) {
  for (const std::string milliseconds : {"0", "3600001"}) {
    const auto result = guest::run_tool(
        GANGWAY_PROGRAM, {"serve", "serial", "--socket", "/nowhere/socket", "--client-timeout", milliseconds});
    ASSERT_TRUE(result.has_value()) << result.error().message;
    EXPECT_EQ(result->status, 2) << result->output;
    EXPECT_NE(result->output.find("--client-timeout " + milliseconds + ": use 1 to 3600000"), std::string::npos)
        << result->output;
  }
}

}  // namespace
}  // namespace gangway::integration
