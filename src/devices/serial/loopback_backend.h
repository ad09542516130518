// A line whose ends are joined: what the port sends comes back to it, up to 4 KiB on the way.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "devices/serial/backend.h"

namespace gangway::serial {

class LoopbackBackend : public Backend {
 public:
  std::size_t write(std::span<const std::byte> bytes) override;
  std::size_t read(std::span<std::byte> out) override;
  void connect(std::function<void()>) override {}  // only the port itself makes it ready
  [[nodiscard]] std::vector<std::byte> on_the_way() const override;
  [[nodiscard]] bool restore(std::span<const std::byte> bytes) override;
  void reset() override { first_ = count_ = 0; }

 private:
  std::array<std::byte, 4096> ring_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

}  // namespace gangway::serial
