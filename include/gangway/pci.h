// A PCI function's config space, by declaration.
//
// A device says what it is (identity, BARs, capabilities); ConfigSpace lays the 4 KiB out, chains the
// capabilities, and keeps each register's write mask, so that a device author writes no config access code.
// Source: PCI Local Bus 3.0 chapter 6, PCI Express Base 3.0 chapter 7; as a VFIO client reads it through
// region 7 (VFIO_PCI_CONFIG_REGION_INDEX).
//
// Thread-safety: the specs are values. ConfigSpace is safe to use from several threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/types.h>

namespace gangway {

struct PciIdentity {
  std::uint16_t vendor = 0;
  std::uint16_t device = 0;
  std::uint16_t subsystem_vendor = 0;
  std::uint16_t subsystem = 0;
  std::uint32_t class_code = 0;  // 24 bits: base class, sub-class, programming interface (0x010802 is NVMe)
  std::uint8_t revision = 0;
};

struct BarSpec {
  enum class Kind { Memory32, Memory64, Io };
  std::uint64_t size = 0;  // bytes; a power of two: ≥ 16 for memory, 4..256 for I/O. 0: not implemented
  Kind kind = Kind::Memory32;
  bool prefetchable = false;
};

struct MsiSpec {
  std::uint8_t vectors = 1;  // a power of two up to 32
  bool per_vector_masking = false;
};

// The table and the PBA lie in BARs; the framework answers accesses to them. Offsets are 8-byte aligned.
struct MsixSpec {
  std::uint16_t vectors = 0;  // 1..2048
  RegionIndex table_bar = RegionIndex::Bar0;
  std::uint32_t table_offset = 0;
  RegionIndex pba_bar = RegionIndex::Bar0;
  std::uint32_t pba_offset = 0;
};

struct PcieSpec {
  enum class Type : std::uint8_t { Endpoint = 0, LegacyEndpoint = 1, RootComplexIntegratedEndpoint = 9 };
  Type type = Type::Endpoint;
  bool function_level_reset = false;  // writing Initiate FLR resets the device as RESET does
};

// A capability the framework has no type for: `body` follows id and next (or, extended, the 4-byte header).
// `write_mask` is as long as `body`; a set bit may be written by the client.
struct VendorCapability {
  std::uint8_t id = 0x09;
  std::vector<std::byte> body;
  std::vector<std::byte> write_mask;
};
struct ExtendedCapability {
  std::uint16_t id = 0;
  std::uint8_t version = 1;
  std::vector<std::byte> body;
  std::vector<std::byte> write_mask;
};

struct PciSpec {
  PciIdentity identity;
  std::array<BarSpec, 6> bars{};  // a 64-bit BAR takes its slot and the next, which stays empty
  bool intx = false;              // INTA#
  bool power_management = true;
  std::optional<PcieSpec> pcie;
  std::optional<MsiSpec> msi;
  std::optional<MsixSpec> msix;
  std::vector<VendorCapability> vendor;
  std::vector<ExtendedCapability> extended;
};

class ConfigSpace {
 public:
  static constexpr std::size_t kSize = 4096;

  // Fails with EINVAL and the reason when a spec cannot be laid out (a BAR's size, capabilities that do not fit).
  static Result<std::unique_ptr<ConfigSpace>> create(const PciSpec& spec);

  // Any size at any offset. What lies outside the 4 KiB reads as all ones and is not written; Endpoint refuses it.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

  enum class Effect { None, FunctionLevelReset };
  // Applies the write masks. The effect is what the endpoint must carry out.
  Effect write(std::uint64_t offset, std::span<const std::byte> in);

  // Power-on values. Called by a reset of the device, after which BARs and COMMAND read 0 (PCIe 6.6).
  void reset();

  [[nodiscard]] bool bus_master() const;  // COMMAND bit 2
  [[nodiscard]] bool msix_enabled() const;
  [[nodiscard]] bool msi_enabled() const;
  [[nodiscard]] bool intx_disabled() const;  // COMMAND bit 10
  void set_intx_status(bool asserted);       // STATUS bit 3

  // Byte offset of a capability (id of the first 256 bytes), if there.
  [[nodiscard]] std::optional<std::uint16_t> find_capability(std::uint8_t id) const;

 private:
  ConfigSpace() = default;
  [[nodiscard]] bool test(std::size_t offset, unsigned bits) const;

  mutable std::mutex mutex_;
  std::array<std::byte, kSize> value_{};
  std::array<std::byte, kSize> reset_value_{};
  std::array<std::byte, kSize> write_mask_{};
  std::array<std::byte, kSize> clear_mask_{};           // write 1 to clear
  std::map<std::uint8_t, std::uint16_t> capabilities_;  // the first of each id
  std::optional<std::size_t> flr_offset_;               // of the byte that holds Initiate FLR
};

}  // namespace gangway
