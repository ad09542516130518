#include "integration/hostile/served_device.h"

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

namespace gangway::hostile {
namespace {

template <class T>
T need(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

std::filesystem::path temporary_directory() {
  std::string name = (std::filesystem::temp_directory_path() / "gangway-hostile-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name + " failed");
  return name;
}

}  // namespace

ServedDevice::ServedDevice(const ServedOptions& options)
    : directory_(temporary_directory()),
      socket_(directory_ / "socket"),
      endpoint_(need(Endpoint::create(std::make_unique<TestDevice>(options.memory_size), options.endpoint))),
      server_(need(Server::listen(socket_, *endpoint_, options.server))) {
  if (const Result<void> started = server_->start(); !started) throw std::runtime_error(started.error().message);
  if (::getenv("GANGWAY_THROUGH_RECORDER") == nullptr) return;
  const std::filesystem::path server = std::exchange(socket_, directory_ / "recorder");
  recorder_ = need(record::Recorder::create({.listen = socket_,
                                             .server = server,
                                             .out = directory_ / "trace",
                                             .payload = record::KeepPayload::Yes,
                                             .spin = std::chrono::microseconds(0)}));
  recording_ = std::thread([this] { (void)recorder_->run(); });
}

ServedDevice::~ServedDevice() {
  if (recorder_) {
    recorder_->stop();
    recording_.join();
  }
  server_.reset();
  endpoint_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

}  // namespace gangway::hostile
