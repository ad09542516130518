// An NVMe 1.4 controller: namespaces on files or block devices, up to 16 I/O queue pairs, MSI-X, migratable.
//
// BAR 0 holds the registers and the doorbells, BAR 4 the MSI-X structures. One I/O thread owns the queues; the
// framework's calls and register accesses are handed to it. The images are locked while the controller is enabled and
// running, so the lock passes from the source of a migration to its destination.
// docs/nvme.md tells what it offers and how it is used.
//
// Thread-safety: as gangway::Device.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gangway/device.h>

#include "devices/nvme/backend.h"
#include "devices/nvme/namespace.h"

namespace gangway::nvme {

struct ControllerOptions {
  std::string serial = "gangway";            // 1 to 20 printable ASCII characters; hosts tell controllers apart by it
  std::string model = "gangway NVMe";        // 1 to 40
  std::vector<NamespaceOptions> namespaces;  // 1 to 256
  std::uint16_t io_queue_pairs = 16;         // 1 to 16
  // Whether the client may map the doorbells. Then a submission costs no message, and the I/O thread has to look for
  // it: it naps up to 1 ms instead of sleeping while the host has the controller enabled.
  bool mapped_doorbells = false;
  std::chrono::microseconds spin{200};  // the I/O thread polls this long at most before it sleeps
  BackendFactory backend = make_backend;
};

class Controller final : public Migratable {
 public:
  // EINVAL for options that make no controller; the namespaces' and the backend's errors.
  static Result<std::unique_ptr<Controller>> create(ControllerOptions options);
  ~Controller() override;
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  [[nodiscard]] DeviceInfo info() const override;
  void attach(Bus bus) override;
  Result<void> read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) override;
  Result<void> write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) override;
  void reset() override;
  Result<void> start() override;

  [[nodiscard]] StateIdentity identity() const override;
  Result<void> stop_initiating() override;
  Result<void> stop() override;
  Result<void> save_requirements(StateWriter& writer) const override;
  Result<void> check_requirement(std::string_view section, std::span<const std::byte> bytes) const override;
  Result<void> save(StateWriter& writer) const override;
  Result<void> load(const StateReader& reader) override;
  [[nodiscard]] std::uint64_t state_size() const override { return 8192; }

  [[nodiscard]] std::string_view backend_name() const;

 private:
  class Running;
  explicit Controller(std::unique_ptr<Running> running);
  void write_register(std::uint64_t offset, std::uint32_t value);
  void write_doorbell(std::uint64_t offset, std::uint32_t value);

  std::unique_ptr<Running> running_;
};

}  // namespace gangway::nvme
