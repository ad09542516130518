#include "device/config_space_layout.h"

#include <linux/pci_regs.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace gangway {
namespace {

constexpr std::size_t kFirstCapability = 0x40;
constexpr std::size_t kEndCapabilities = 0x100;

std::unexpected<Error> refuse(const std::string& why) { return fail(EINVAL, "config space: " + why); }

class Writer {
 public:
  explicit Writer(ConfigLayout::Bytes& bytes) : bytes_(bytes) {}
  template <class T>
  void put(std::size_t offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof(T));
  }
  void put(std::size_t offset, std::span<const std::byte> bytes) {
    std::ranges::copy(bytes, bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  }

 private:
  ConfigLayout::Bytes& bytes_;
};

class Layouter {
 public:
  explicit Layouter(const PciSpec& spec) : spec_(spec) {}

  Result<ConfigLayout> run() {
    for (const auto step : {&Layouter::header, &Layouter::bars, &Layouter::power_management, &Layouter::msi,
                            &Layouter::pcie, &Layouter::msix, &Layouter::vendor, &Layouter::extended}) {
      if (auto done = (this->*step)(); !done) return std::unexpected(std::move(done.error()));
    }
    return std::move(layout_);
  }

 private:
  Result<void> header() {
    if (spec_.identity.class_code >> 24 != 0) {
      return refuse(fmt::format("class code {:#x} has more than 24 bits", spec_.identity.class_code));
    }
    value_.put(PCI_VENDOR_ID, spec_.identity.vendor);
    value_.put(PCI_DEVICE_ID, spec_.identity.device);
    value_.put(PCI_CLASS_REVISION, std::uint32_t{spec_.identity.class_code << 8 | spec_.identity.revision});
    value_.put(PCI_SUBSYSTEM_VENDOR_ID, spec_.identity.subsystem_vendor);
    value_.put(PCI_SUBSYSTEM_ID, spec_.identity.subsystem);
    value_.put(PCI_INTERRUPT_PIN, std::uint8_t{spec_.intx ? std::uint8_t{1} : std::uint8_t{0}});
    mask_.put(PCI_COMMAND, std::uint16_t{PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
                                         PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE});
    clear_.put(PCI_STATUS,
               std::uint16_t{PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT |
                             PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY});
    mask_.put(PCI_CACHE_LINE_SIZE, std::uint8_t{0xff});
    mask_.put(PCI_INTERRUPT_LINE, std::uint8_t{0xff});
    return {};
  }

  Result<void> bars() {
    for (std::size_t i = 0; i < spec_.bars.size(); ++i) {
      const BarSpec& bar = spec_.bars[i];
      if (bar.size == 0) continue;
      if (auto checked = check_bar(i); !checked) return checked;
      const std::size_t offset = PCI_BASE_ADDRESS_0 + i * 4;
      const std::uint64_t address = ~(bar.size - 1);  // what a client may write; all ones size the BAR
      std::uint32_t flags = bar.prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0;
      if (bar.kind == BarSpec::Kind::Io) flags = PCI_BASE_ADDRESS_SPACE_IO;
      if (bar.kind == BarSpec::Kind::Memory64) flags |= PCI_BASE_ADDRESS_MEM_TYPE_64;
      value_.put(offset, flags);
      mask_.put(offset, static_cast<std::uint32_t>(address));
      if (bar.kind == BarSpec::Kind::Memory64) mask_.put(offset + 4, static_cast<std::uint32_t>(address >> 32));
    }
    return {};
  }

  [[nodiscard]] Result<void> check_bar(std::size_t i) const {
    const BarSpec& bar = spec_.bars[i];
    const bool io = bar.kind == BarSpec::Kind::Io;
    const std::uint64_t least = io ? 4 : 16;
    const std::uint64_t most = io                                    ? 256
                               : bar.kind == BarSpec::Kind::Memory32 ? std::uint64_t{1} << 31
                                                                     : std::uint64_t{1} << 63;
    if (!std::has_single_bit(bar.size) || bar.size < least || bar.size > most) {
      return refuse(
          fmt::format("BAR {} of {:#x} bytes: must be a power of two from {:#x} to {:#x}", i, bar.size, least, most));
    }
    if (bar.kind == BarSpec::Kind::Memory64 && (i + 1 == spec_.bars.size() || spec_.bars[i + 1].size != 0)) {
      return refuse(fmt::format("BAR {} has 64 bits, and the next slot is not free", i));
    }
    return {};
  }

  Result<void> power_management() {
    if (!spec_.power_management) return {};
    const auto at = add_capability(PCI_CAP_ID_PM, PCI_PM_SIZEOF);
    if (!at) return std::unexpected(at.error());
    value_.put(*at + PCI_PM_PMC, std::uint16_t{3});  // revision 1.2; D0 and D3hot, no PME
    value_.put(*at + PCI_PM_CTRL, std::uint16_t{PCI_PM_CTRL_NO_SOFT_RESET});
    mask_.put(*at + PCI_PM_CTRL, std::uint16_t{PCI_PM_CTRL_STATE_MASK});
    return {};
  }

  Result<void> msi() {
    if (!spec_.msi) return {};
    const unsigned vectors = spec_.msi->vectors;
    if (!std::has_single_bit(vectors) || vectors > 32) {
      return refuse(fmt::format("MSI with {} vectors: must be a power of two up to 32", vectors));
    }
    const bool maskable = spec_.msi->per_vector_masking;
    const auto at = add_capability(PCI_CAP_ID_MSI, maskable ? 24 : 14);
    if (!at) return std::unexpected(at.error());
    const auto multiple_message = static_cast<std::uint16_t>(std::countr_zero(vectors) << 1);
    value_.put(*at + PCI_MSI_FLAGS, static_cast<std::uint16_t>(PCI_MSI_FLAGS_64BIT | multiple_message |
                                                               (maskable ? PCI_MSI_FLAGS_MASKBIT : 0)));
    mask_.put(*at + PCI_MSI_FLAGS, std::uint16_t{PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE});
    mask_.put(*at + PCI_MSI_ADDRESS_LO, std::uint32_t{0xfffffffc});
    mask_.put(*at + PCI_MSI_ADDRESS_HI, std::uint32_t{0xffffffff});
    mask_.put(*at + PCI_MSI_DATA_64, std::uint16_t{0xffff});
    if (maskable) mask_.put(*at + PCI_MSI_MASK_64, static_cast<std::uint32_t>((std::uint64_t{1} << vectors) - 1));
    return {};
  }

  Result<void> pcie() {
    if (!spec_.pcie) return {};
    const auto at = add_capability(PCI_CAP_ID_EXP, PCI_CAP_EXP_ENDPOINT_SIZEOF_V2);
    if (!at) return std::unexpected(at.error());
    const auto type = std::to_underlying(spec_.pcie->type);
    value_.put(*at + PCI_EXP_FLAGS, static_cast<std::uint16_t>(2U | unsigned{type} << 4));
    std::uint32_t device_capabilities = PCI_EXP_DEVCAP_RBER;
    if (spec_.pcie->function_level_reset) device_capabilities |= PCI_EXP_DEVCAP_FLR;
    value_.put(*at + PCI_EXP_DEVCAP, device_capabilities);
    value_.put(*at + PCI_EXP_DEVCTL,
               std::uint16_t{PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ_512B});
    mask_.put(*at + PCI_EXP_DEVCTL, std::uint16_t{0x7fff});  // all but Initiate FLR, which reads 0
    clear_.put(*at + PCI_EXP_DEVSTA,
               std::uint16_t{PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD});
    value_.put(*at + PCI_EXP_DEVCAP2, std::uint32_t{PCI_EXP_DEVCAP2_COMP_TMOUT_DIS});
    mask_.put(*at + PCI_EXP_DEVCTL2, std::uint16_t{PCI_EXP_DEVCTL2_COMP_TIMEOUT | PCI_EXP_DEVCTL2_COMP_TMOUT_DIS});
    if (spec_.pcie->type == PcieSpec::Type::RootComplexIntegratedEndpoint) return {};  // has no link
    value_.put(*at + PCI_EXP_LNKCAP, std::uint32_t{PCI_EXP_LNKCAP_SLS_8_0GB | 4U << 4});
    mask_.put(*at + PCI_EXP_LNKCTL,
              std::uint16_t{PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES});
    value_.put(*at + PCI_EXP_LNKSTA, std::uint16_t{PCI_EXP_LNKSTA_CLS_8_0GB | PCI_EXP_LNKSTA_NLW_X4});
    value_.put(*at + PCI_EXP_LNKCAP2,
               std::uint32_t{PCI_EXP_LNKCAP2_SLS_2_5GB | PCI_EXP_LNKCAP2_SLS_5_0GB | PCI_EXP_LNKCAP2_SLS_8_0GB});
    value_.put(*at + PCI_EXP_LNKCTL2, std::uint16_t{PCI_EXP_LNKCTL2_TLS_8_0GT});
    return {};
  }

  Result<void> msix() {
    if (!spec_.msix) return {};
    const MsixSpec& msix = *spec_.msix;
    if (msix.vectors == 0 || msix.vectors > 2048) {
      return refuse(fmt::format("MSI-X with {} vectors: must be 1 to 2048", msix.vectors));
    }
    if (msix.table_offset % 8 != 0 || msix.pba_offset % 8 != 0) {
      return refuse(
          fmt::format("MSI-X table at {:#x}, PBA at {:#x}: must be aligned to 8", msix.table_offset, msix.pba_offset));
    }
    const auto at = add_capability(PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
    if (!at) return std::unexpected(at.error());
    value_.put(*at + PCI_MSIX_FLAGS, static_cast<std::uint16_t>(msix.vectors - 1));
    mask_.put(*at + PCI_MSIX_FLAGS, std::uint16_t{PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL});
    value_.put(*at + PCI_MSIX_TABLE, msix.table_offset | to_number(msix.table_bar));
    value_.put(*at + PCI_MSIX_PBA, msix.pba_offset | to_number(msix.pba_bar));
    return {};
  }

  Result<void> vendor() {
    for (const VendorCapability& capability : spec_.vendor) {
      if (capability.id != PCI_CAP_ID_VNDR && layout_.capabilities.contains(capability.id)) {
        return refuse(fmt::format("capability {:#x} exists twice", capability.id));
      }
      const auto at = add_capability(capability.id, 2 + capability.body.size());
      if (!at) return std::unexpected(at.error());
      if (auto body = put_body(*at + 2, capability.body, capability.write_mask); !body) return body;
    }
    return {};
  }

  Result<void> extended() {
    if (spec_.extended.empty()) return {};
    if (!spec_.pcie) return refuse("extended capabilities need a PCI Express capability");
    std::size_t at = kEndCapabilities;
    for (std::size_t i = 0; i < spec_.extended.size(); ++i) {
      const ExtendedCapability& capability = spec_.extended[i];
      if (capability.body.size() > ConfigSpace::kSize - 4 || at > ConfigSpace::kSize - 4 - capability.body.size()) {
        return refuse(fmt::format("extended capability {:#x} does not fit at {:#x}", capability.id, at));
      }
      const std::size_t end = align(at + 4 + capability.body.size());
      const std::size_t next = i + 1 < spec_.extended.size() ? end : 0;
      value_.put(at, static_cast<std::uint32_t>(capability.id | (capability.version & 0xfU) << 16 | next << 20));
      if (auto body = put_body(at + 4, capability.body, capability.write_mask); !body) return body;
      at = end;
    }
    return {};
  }

  Result<void> put_body(std::size_t at, std::span<const std::byte> body, std::span<const std::byte> write_mask) {
    if (!write_mask.empty() && write_mask.size() != body.size()) {
      return refuse(
          fmt::format("capability at {:#x}: {} bytes with a write mask of {}", at, body.size(), write_mask.size()));
    }
    value_.put(at, body);
    mask_.put(at, write_mask);
    return {};
  }

  // Offset of a new capability at the end of the chain.
  Result<std::uint16_t> add_capability(std::uint8_t id, std::size_t size) {
    if (size > kEndCapabilities - next_capability_) {
      return refuse(fmt::format("capability {:#x} of {} bytes does not fit at {:#x}", id, size, next_capability_));
    }
    const auto at = static_cast<std::uint16_t>(next_capability_);
    value_.put(link_, static_cast<std::uint8_t>(at));
    value_.put(at, id);
    value_.put(PCI_STATUS, std::uint16_t{PCI_STATUS_CAP_LIST});
    link_ = std::size_t{at} + PCI_CAP_LIST_NEXT;
    next_capability_ = align(at + size);
    layout_.capabilities.emplace(id, at);
    return at;
  }

  static constexpr std::size_t align(std::size_t offset) { return (offset + 3) / 4 * 4; }

  const PciSpec& spec_;
  ConfigLayout layout_;
  Writer value_{layout_.value};
  Writer mask_{layout_.write_mask};
  Writer clear_{layout_.clear_mask};
  std::size_t link_ = PCI_CAPABILITY_LIST;
  std::size_t next_capability_ = kFirstCapability;
};

}  // namespace

Result<ConfigLayout> lay_out(const PciSpec& spec) { return Layouter(spec).run(); }

}  // namespace gangway
