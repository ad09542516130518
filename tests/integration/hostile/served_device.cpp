#include "integration/hostile/served_device.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

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
}

ServedDevice::~ServedDevice() {
  server_.reset();
  endpoint_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

}  // namespace gangway::hostile
