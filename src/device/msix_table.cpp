#include "device/msix_table.h"

#include <linux/pci_regs.h>

#include <algorithm>
#include <array>

#include "device/endpoint_regions.h"

namespace gangway {
namespace {

constexpr std::byte kAll{0xff};

// What a client may write of an entry: address (4-byte aligned), data, and the mask bit of vector control.
constexpr std::array<std::byte, PCI_MSIX_ENTRY_SIZE> kWriteMask{
    std::byte{0xfc}, kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll, std::byte{0x01}};

bool contains(const MsixExtent& extent, RegionIndex region, std::uint64_t offset) {
  return extent.overlaps(region, offset, 1);
}

}  // namespace

Endpoint::MsixTable::MsixTable(const MsixSpec& spec, const Interrupts& interrupts)
    : spec_(spec), interrupts_(interrupts), table_(table_extent(spec).size) {
  reset();
}

void Endpoint::MsixTable::reset() {
  std::ranges::fill(table_, std::byte{0});
  for (std::size_t i = PCI_MSIX_ENTRY_VECTOR_CTRL; i < table_.size(); i += PCI_MSIX_ENTRY_SIZE) {
    table_[i] = std::byte{PCI_MSIX_ENTRY_CTRL_MASKBIT};
  }
}

Endpoint::MsixTable::Stretch Endpoint::MsixTable::stretch_at(RegionIndex region, std::uint64_t offset,
                                                             std::uint64_t size) const {
  Stretch stretch{size, false};
  for (const MsixExtent& extent : {table_extent(spec_), pba_extent(spec_)}) {
    if (contains(extent, region, offset)) return {std::min(size, extent.offset + extent.size - offset), true};
    if (extent.overlaps(region, offset, size)) stretch.size = std::min(stretch.size, extent.offset - offset);
  }
  return stretch;
}

void Endpoint::MsixTable::read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) const {
  if (contains(table_extent(spec_), region, offset)) {
    std::ranges::copy(std::span(table_).subspan(offset - spec_.table_offset, out.size()), out.begin());
    return;
  }
  const std::vector<bool> pending = interrupts_.pending(IrqType::Msix);
  const std::size_t first_bit = (offset - spec_.pba_offset) * 8;
  for (std::size_t i = 0; i < out.size(); ++i) {
    unsigned bits = 0;
    for (std::size_t bit = 0; bit < 8; ++bit) {
      const std::size_t vector = first_bit + i * 8 + bit;
      if (vector < pending.size() && pending[vector]) bits |= 1U << bit;
    }
    out[i] = std::byte(bits);
  }
}

void Endpoint::MsixTable::write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) {
  if (!contains(table_extent(spec_), region, offset)) return;  // the PBA is read-only
  const std::size_t first = offset - spec_.table_offset;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::byte mask = kWriteMask[(first + i) % PCI_MSIX_ENTRY_SIZE];
    table_[first + i] = (table_[first + i] & ~mask) | (in[i] & mask);
  }
}

}  // namespace gangway
