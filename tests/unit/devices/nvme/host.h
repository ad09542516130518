// A host for the tests: memory that the controller reaches by DMA, and a polled driver over an Endpoint.
#pragma once

#include <gangway/endpoint.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/nvme/controller.h"
#include "devices/nvme/queues.h"
#include "devices/nvme/registers.h"
#include "devices/nvme/spec.h"
#include "devices/nvme/status.h"

namespace gangway::nvme::test {

// A file of zeros that goes with its owner.
class TemporaryImage {
 public:
  explicit TemporaryImage(std::uint64_t size);
  ~TemporaryImage();
  TemporaryImage(const TemporaryImage&) = delete;
  TemporaryImage& operator=(const TemporaryImage&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  void write(std::uint64_t offset, std::span<const std::byte> bytes) const;
  [[nodiscard]] std::vector<std::byte> read(std::uint64_t offset, std::size_t size) const;
  void truncate(std::uint64_t size) const;
  // Space that the file takes, bytes.
  [[nodiscard]] std::uint64_t allocated() const;

 private:
  std::filesystem::path path_;
};

// Memory in a memfd, with the IOVA kBase at its start.
class HostRam {
 public:
  static constexpr std::uint64_t kBase = 0x1'0000'0000;
  explicit HostRam(std::size_t size = 16U << 20);
  ~HostRam();
  HostRam(const HostRam&) = delete;
  HostRam& operator=(const HostRam&) = delete;

  void map_into(DmaSpace& dma) const;
  [[nodiscard]] Iova allocate(std::size_t size, std::size_t alignment = 4096);
  [[nodiscard]] std::span<std::byte> at(Iova iova, std::size_t size) const;
  [[nodiscard]] std::size_t size() const { return memory_.size(); }
  [[nodiscard]] int fd() const { return file_.get(); }

  template <class T>
  [[nodiscard]] T get(Iova iova) const {
    T value;
    std::memcpy(&value, at(iova, sizeof(T)).data(), sizeof(T));
    return value;
  }
  template <class T>
  void put(Iova iova, const T& value) const {
    std::memcpy(at(iova, sizeof(T)).data(), &value, sizeof(T));
  }
  void fill(Iova iova, std::size_t size, std::byte value) const;

 private:
  Fd file_;
  std::span<std::byte> memory_;
  std::size_t used_ = 4096;  // nothing lies at the very start
};

struct QueuePair {
  std::uint16_t id = 0;
  std::uint16_t size = 0;
  Iova sq;
  Iova cq;
  std::uint16_t tail = 0;
  std::uint16_t head = 0;
  bool phase = true;
};

[[nodiscard]] Status status_of(const Completion& completion);
[[nodiscard]] Command io_command(IoOpcode opcode, std::uint64_t block, std::uint32_t blocks, Iova data,
                                 std::uint32_t nsid = 1);
[[nodiscard]] Command admin_command(AdminOpcode opcode, std::uint32_t cdw10 = 0, std::uint32_t cdw11 = 0);

// Drives one controller. What it knows (queues, positions) lives apart from the endpoint, as in a guest that is moved.
class Driver {
 public:
  Driver(Endpoint& endpoint, HostRam& ram) : endpoint_(&endpoint), ram_(&ram) {}

  void move_to(Endpoint& endpoint) { endpoint_ = &endpoint; }
  [[nodiscard]] HostRam& ram() const { return *ram_; }

  [[nodiscard]] std::uint32_t read32(std::uint64_t offset) const;
  [[nodiscard]] std::uint64_t read64(std::uint64_t offset) const;
  Result<void> write32(std::uint64_t offset, std::uint32_t value) const;
  Result<void> write64(std::uint64_t offset, std::uint64_t value) const;

  static constexpr std::uint32_t kEnable = 1U | 6U << 16 | 4U << 20;
  // Admin queue, CC.EN, and until CSTS says ready or fatal; the status.
  std::uint32_t enable(std::uint16_t admin_size = 32, std::uint32_t cc = kEnable);
  std::uint32_t disable();
  // Until the bits of CSTS under the mask have the value.
  bool wait_status(std::uint32_t mask, std::uint32_t value) const;

  // One I/O queue pair with its interrupt vector; the status of the command that failed, or Success.
  Status create_pair(std::uint16_t id, std::uint16_t size = 64, std::uint16_t vector = 1);
  Command create_cq_command(std::uint16_t id, std::uint16_t size, std::uint16_t vector, Iova base) const;
  Command create_sq_command(std::uint16_t id, std::uint16_t size, std::uint16_t cq, Iova base) const;
  QueuePair& pair(std::uint16_t id) { return pairs_.at(id); }

  // Puts commands in the queue without ringing; the command identifier given to each.
  std::uint16_t place(std::uint16_t queue, Command command);
  void ring(std::uint16_t queue);
  std::uint16_t submit(std::uint16_t queue, Command command);
  // The next completion; nullopt when none came for very long.
  std::optional<Completion> wait(std::uint16_t queue);
  // The next completion if it is there.
  std::optional<Completion> poll(std::uint16_t queue, bool ring_head = true);
  void ring_head(std::uint16_t queue);
  // Submits, waits.
  Completion run(std::uint16_t queue, Command command);
  Completion admin(Command command) { return run(0, command); }

 private:
  Endpoint* endpoint_;
  HostRam* ram_;
  std::map<std::uint16_t, QueuePair> pairs_;
  std::uint16_t next_cid_ = 1;
};

// One controller on fresh images, enabled or not as the test wants.
struct Rig {
  explicit Rig(ControllerOptions options = {}, std::uint64_t image_size = 8U << 20, EndpointOptions endpoint = {});

  std::unique_ptr<TemporaryImage> image;
  HostRam ram;
  std::unique_ptr<Endpoint> endpoint;
  Driver driver;
};

// A Controller on the image behind an Endpoint, or the error.
Result<std::unique_ptr<Endpoint>> serve(const TemporaryImage& image, ControllerOptions options = {},
                                        EndpointOptions endpoint = {});

// Bytes that differ from place to place.
std::vector<std::byte> pattern(std::size_t size, std::uint32_t seed);

// Walks the migration states.
void to_state(Endpoint& endpoint, DeviceState state);
std::vector<std::byte> save(Endpoint& endpoint);
Result<void> load(Endpoint& endpoint, std::span<const std::byte> stream);

}  // namespace gangway::nvme::test
