// A recorder that a test talks through, from one end or from both.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/unix_socket.h"
#include "record/act_reader.h"
#include "record/recorder.h"
#include "unit/vfio_user/raw_peer.h"

namespace gangway::test {

// Runs a recorder in front of a server until it is told to end.
class Recording {
 public:
  explicit Recording(std::filesystem::path server, record::KeepPayload payload = record::KeepPayload::No) {
    std::string name = (std::filesystem::temp_directory_path() / "record-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
    auto made = record::Recorder::create(
        {.listen = socket(), .server = std::move(server), .out = file(), .payload = payload, .spin = {}});
    if (!made) throw std::runtime_error(made.error().message);
    recorder_ = std::move(*made);
    thread_ = std::thread([this] { result_ = recorder_->run(); });
  }
  ~Recording() {
    end();
    std::filesystem::remove_all(folder_);
  }
  void end() {
    if (!thread_.joinable()) return;
    recorder_->stop();
    thread_.join();
    EXPECT_TRUE(result_) << result_.error().message;
  }
  // Ends it, and what it has recorded.
  std::vector<record::Act> acts() {
    end();
    auto reader = record::ActReader::open(file());
    if (!reader) throw std::runtime_error(reader.error().message);
    auto acts = reader->rest();
    EXPECT_TRUE(acts) << acts.error().message;
    EXPECT_EQ(reader->cut(), std::nullopt);
    strays_ = reader->strays();
    return acts ? *std::move(acts) : std::vector<record::Act>();
  }
  // Ends it, and the messages that it has, in the order of their ends.
  std::vector<record::MessageRecord> messages() {
    end();
    auto reader = record::TraceReader::open(file());
    if (!reader) throw std::runtime_error(reader.error().message);
    std::vector<record::MessageRecord> all;
    for (;;) {
      auto next = reader->next();
      EXPECT_TRUE(next) << next.error().message;
      if (!next || !*next) return all;
      if (auto* const message = std::get_if<record::MessageRecord>(&**next)) all.push_back(std::move(*message));
    }
  }
  // Answers to nothing, once acts() was called.
  std::uint64_t strays() const { return strays_; }
  std::filesystem::path socket() const { return folder_ / "socket"; }
  std::filesystem::path file() const { return folder_ / "trace"; }
  std::filesystem::path folder() const { return folder_; }
  RawPeer connect() const {
    auto connected = connect_unix(socket(), std::chrono::seconds(5));
    if (!connected) throw std::runtime_error(connected.error().message);
    return RawPeer(std::move(*connected));
  }

 private:
  std::filesystem::path folder_;
  std::unique_ptr<record::Recorder> recorder_;
  Result<void> result_;
  std::uint64_t strays_ = 0;
  std::thread thread_;
};

// A server that does nothing but accept: the test is the server.
class BareServer {
 public:
  BareServer() {
    path_ = std::filesystem::temp_directory_path() / ("bare-" + std::to_string(::getpid()) + ".sock");
    listener_ = *listen_unix(path_);
  }
  RawPeer accept() { return RawPeer(Fd(::accept4(listener_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC))); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  UnixListener listener_;
};

inline std::vector<std::byte> random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

inline std::vector<std::byte> receive_exactly(const RawPeer& peer, std::size_t size) {
  std::vector<std::byte> all(size);
  for (std::size_t got = 0; got < size;) {
    const ssize_t n = ::recv(peer.fd(), all.data() + got, size - got, 0);
    if (n <= 0) {
      all.resize(got);
      break;
    }
    got += static_cast<std::size_t>(n);
  }
  return all;
}

}  // namespace gangway::test
