// The MSI-X table and the PBA as accesses to BARs see them.
//
// The table is storage: where a vector goes is what the client said by SET_IRQS, as with the kernel's VFIO, so neither
// its addresses nor its mask bits steer anything here. The PBA shows what is pending.
//
// Source: PCI Local Bus 3.0, 6.8.2.
// Thread-safety: one call at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <gangway/endpoint.h>
#include <gangway/interrupts.h>
#include <gangway/pci.h>
#include <gangway/types.h>

namespace gangway {

class Endpoint::MsixTable {
 public:
  MsixTable(const MsixSpec& spec, const Interrupts& interrupts);

  // How the bytes from an offset on are answered, up to the next change.
  struct Stretch {
    std::uint64_t size = 0;
    bool msix = false;
  };
  [[nodiscard]] Stretch stretch_at(RegionIndex region, std::uint64_t offset, std::uint64_t size) const;

  // Within one stretch that is MSI-X's.
  void read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) const;
  void write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in);

  // All vectors masked, as at power-on.
  void reset();

 private:
  MsixSpec spec_;
  const Interrupts& interrupts_;
  std::vector<std::byte> table_;
};

}  // namespace gangway
