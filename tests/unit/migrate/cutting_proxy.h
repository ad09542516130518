// Stands between the two ends of a migration and cuts the connection after so many bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <gangway/fd.h>

namespace gangway::migrate {

struct CutOptions {
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t after_to_destination = kNever;  // bytes from the source that still pass
  std::uint64_t after_to_source = kNever;
  bool stall = false;  // nothing passes any more, but the connections stay
};

// Takes one connection.
class CuttingProxy {
 public:
  // `destination` is a listener's address, "tcp:127.0.0.1:PORT".
  CuttingProxy(const std::string& destination, CutOptions options);
  ~CuttingProxy();
  CuttingProxy(const CuttingProxy&) = delete;
  CuttingProxy& operator=(const CuttingProxy&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }

  // After the migration: what passed.
  void join();
  [[nodiscard]] const std::vector<std::byte>& to_destination() const { return to_destination_; }
  [[nodiscard]] const std::vector<std::byte>& to_source() const { return to_source_; }

 private:
  void run(const std::string& destination);

  const CutOptions options_;
  std::string address_;
  Fd listener_;
  Fd stop_;
  std::vector<std::byte> to_destination_;
  std::vector<std::byte> to_source_;
  std::jthread thread_;
};

}  // namespace gangway::migrate
