// A device served over a real socket, and its client's handle.
#pragma once

#include <unistd.h>

#include <memory>
#include <string>

#include <gangway/device_handle.h>
#include <gangway/endpoint.h>
#include <gangway/server.h>
#include <gtest/gtest.h>

#include "recording_handle.h"
#include "scribe_device.h"
#include "test_machine.h"

namespace gangway::migrate {

class ServedDevice {
 public:
  explicit ServedDevice(MigrationFlags flags = {.p2p = true, .pre_copy = true}, ScribeOptions options = {}) {
    static std::atomic<int> number{0};
    const std::string path =
        testing::TempDir() + "gangway-scribe-" + std::to_string(::getpid()) + "-" + std::to_string(number++) + ".sock";
    endpoint_ = Endpoint::create(std::make_unique<ScribeDevice>(options), {.flags = flags}).value();
    server_ = Server::listen(path, *endpoint_).value();
    EXPECT_TRUE(server_->start());
    handle_ = std::make_unique<RecordingHandle>(open_device("vfio-user:" + path).value());
  }

  [[nodiscard]] RecordingHandle& handle() { return *handle_; }
  [[nodiscard]] Endpoint& endpoint() { return *endpoint_; }

  // As a VMM does at start: all memory mapped for DMA.
  void map(TestMachine& machine) {
    for (std::size_t i = 0; i < machine.memory().size(); ++i) {
      const MemoryBlock& block = machine.memory()[i];
      const auto mapped =
          handle_->dma_map({.range = block.iova, .memory = block.bytes, .file = block.file, .offset = 0});
      EXPECT_TRUE(mapped) << mapped.error().message;
    }
  }
  void set(std::uint64_t offset, std::uint64_t value) {
    const auto written = handle_->write(0, offset, std::as_bytes(std::span(&value, 1)));
    EXPECT_TRUE(written) << written.error().message;
  }
  // Writes all of a block over and over.
  void scribble(const MemoryBlock& block) {
    set(0, block.iova.start.value);
    set(8, block.iova.size);
    set(16, 1);
  }
  [[nodiscard]] std::uint64_t count() {
    std::uint64_t value = 0;
    EXPECT_TRUE(handle_->read(0, 24, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }
  [[nodiscard]] DeviceState state() { return handle_->state().value_or(DeviceState::Error); }

 private:
  std::unique_ptr<Endpoint> endpoint_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<RecordingHandle> handle_;
};

}  // namespace gangway::migrate
