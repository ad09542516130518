// Lays a PCI function's config space out: power-on values and what of them the client may write.
// Source: PCI Local Bus 3.0 chapter 6, PCI Express Base 3.0 chapter 7; register names as in Linux pci_regs.h.
// Thread-safety: values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include <gangway/error.h>
#include <gangway/pci.h>

namespace gangway {

struct ConfigLayout {
  using Bytes = std::array<std::byte, ConfigSpace::kSize>;
  Bytes value{};
  Bytes write_mask{};
  Bytes clear_mask{};                                  // write 1 to clear
  std::map<std::uint8_t, std::uint16_t> capabilities;  // the first of each id, by id
};

// EINVAL with the reason when the spec cannot be laid out.
Result<ConfigLayout> lay_out(const PciSpec& spec);

}  // namespace gangway
