#include <gangway/pci.h>

#include <linux/pci_regs.h>

#include <algorithm>
#include <utility>

#include "device/config_space_layout.h"

namespace gangway {
namespace {

constexpr std::size_t kHighCommand = PCI_COMMAND + 1;
constexpr std::byte kInitiateFlr{0x80};  // in the high byte of Device Control

}  // namespace

Result<std::unique_ptr<ConfigSpace>> ConfigSpace::create(const PciSpec& spec) {
  auto layout = lay_out(spec);
  if (!layout) return std::unexpected(std::move(layout.error()));
  std::unique_ptr<ConfigSpace> config(new ConfigSpace);
  config->value_ = layout->value;
  config->reset_value_ = layout->value;
  config->write_mask_ = layout->write_mask;
  config->clear_mask_ = layout->clear_mask;
  config->capabilities_ = std::move(layout->capabilities);
  if (spec.pcie && spec.pcie->function_level_reset) {
    config->flr_offset_ = *config->find_capability(PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL + 1;
  }
  return config;
}

void ConfigSpace::read(std::uint64_t offset, std::span<std::byte> out) const {
  std::scoped_lock lock(mutex_);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = offset + i < kSize ? value_[offset + i] : std::byte{0xff};
}

ConfigSpace::Effect ConfigSpace::write(std::uint64_t offset, std::span<const std::byte> in) {
  std::scoped_lock lock(mutex_);
  Effect effect = Effect::None;
  for (std::size_t i = 0; i < in.size() && offset + i < kSize; ++i) {
    const std::size_t at = offset + i;
    value_[at] = (value_[at] & ~write_mask_[at]) | (in[i] & write_mask_[at]);
    value_[at] &= ~(in[i] & clear_mask_[at]);
    if (at == flr_offset_ && (in[i] & kInitiateFlr) != std::byte{0}) effect = Effect::FunctionLevelReset;
  }
  return effect;
}

void ConfigSpace::reset() {
  std::scoped_lock lock(mutex_);
  value_ = reset_value_;
}

bool ConfigSpace::test(std::size_t offset, unsigned bits) const {
  std::scoped_lock lock(mutex_);
  return (value_[offset] & std::byte(bits)) != std::byte{0};
}

bool ConfigSpace::bus_master() const { return test(PCI_COMMAND, PCI_COMMAND_MASTER); }

bool ConfigSpace::intx_disabled() const { return test(kHighCommand, PCI_COMMAND_INTX_DISABLE >> 8); }

bool ConfigSpace::msix_enabled() const {
  const auto msix = find_capability(PCI_CAP_ID_MSIX);
  return msix && test(std::size_t{*msix} + PCI_MSIX_FLAGS + 1, PCI_MSIX_FLAGS_ENABLE >> 8);
}

bool ConfigSpace::msi_enabled() const {
  const auto msi = find_capability(PCI_CAP_ID_MSI);
  return msi && test(std::size_t{*msi} + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE);
}

void ConfigSpace::set_intx_status(bool asserted) {
  std::scoped_lock lock(mutex_);
  constexpr std::byte kInterrupt{PCI_STATUS_INTERRUPT};
  value_[PCI_STATUS] = (value_[PCI_STATUS] & ~kInterrupt) | (asserted ? kInterrupt : std::byte{0});
}

std::optional<std::uint16_t> ConfigSpace::find_capability(std::uint8_t id) const {
  const auto found = capabilities_.find(id);
  if (found == capabilities_.end()) return std::nullopt;
  return found->second;
}

}  // namespace gangway
