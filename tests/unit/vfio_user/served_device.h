// A TestDevice behind a server, for one client over a socket pair or several over a listening socket.
#pragma once

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include <gangway/server.h>

#include "unit/vfio_user/raw_peer.h"
#include "unit/vfio_user/test_device.h"

namespace gangway::test {

// Descriptors that this process has open.
inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

class ServedDevice {
 public:
  explicit ServedDevice(TestDeviceOptions device = {}, ServerOptions options = {}, EndpointOptions endpoint = {}) {
    auto made = std::make_unique<TestDevice>(device);
    device_ = made.get();
    endpoint_ = *Endpoint::create(std::move(made), endpoint);
    path_ = std::filesystem::temp_directory_path() /
            ("gangway-" + std::to_string(::getpid()) + "-" + std::to_string(next_number()) + ".sock");
    server_ = *Server::listen(path_, *endpoint_, options);
    (void)server_->start();
  }
  ~ServedDevice() { server_->stop(); }

  [[nodiscard]] RawPeer connect() const {
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.native().copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return RawPeer(std::move(socket));
  }
  // After VERSION, without a word about limits unless said.
  [[nodiscard]] RawPeer connect_negotiated(std::string_view json = R"({"capabilities":{"max_msg_fds":8}})") const {
    RawPeer peer = connect();
    EXPECT_EQ(peer.negotiate(json).error(), 0);
    return peer;
  }

  [[nodiscard]] TestDevice& device() { return *device_; }
  [[nodiscard]] Endpoint& endpoint() { return *endpoint_; }
  [[nodiscard]] Server& server() { return *server_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  static int next_number() {
    static std::atomic<int> number{0};
    return ++number;
  }
  std::filesystem::path path_;
  TestDevice* device_ = nullptr;
  std::unique_ptr<Endpoint> endpoint_;
  std::unique_ptr<Server> server_;
};

}  // namespace gangway::test
