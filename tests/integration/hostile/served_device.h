// A TestDevice behind a real endpoint and a real server, on a socket of its own. With GANGWAY_THROUGH_RECORDER in the
// environment a recorder stands at that socket, and what holds of the server must hold through it.
//
// Thread-safety: as its parts.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <thread>

#include <gangway/endpoint.h>
#include <gangway/server.h>

#include "integration/hostile/raw_peer.h"
#include "integration/hostile/test_device.h"
#include "record/recorder.h"

namespace gangway::hostile {

struct ServedOptions {
  std::size_t memory_size = kMemorySize;
  EndpointOptions endpoint;
  // Waiting for a slow client must not fail a test on a slow machine; the tests of the limit itself set a short one.
  ServerOptions server{.spin = std::chrono::microseconds(0), .client_timeout = std::chrono::seconds(20)};
};

class ServedDevice {
 public:
  explicit ServedDevice(const ServedOptions& options = {});
  ~ServedDevice();
  ServedDevice(const ServedDevice&) = delete;
  ServedDevice& operator=(const ServedDevice&) = delete;

  [[nodiscard]] const std::filesystem::path& socket() const { return socket_; }
  [[nodiscard]] Endpoint& endpoint() { return *endpoint_; }
  [[nodiscard]] Server& server() { return *server_; }
  [[nodiscard]] TestDevice& device() const { return static_cast<TestDevice&>(endpoint_->device()); }

 private:
  std::filesystem::path directory_;
  std::filesystem::path socket_;
  std::unique_ptr<Endpoint> endpoint_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<record::Recorder> recorder_;
  std::thread recording_;
};

}  // namespace gangway::hostile
