#include <gangway/pci.h>

#include <linux/pci_regs.h>

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <set>

#include "unit/device/matchers.h"

namespace gangway {
namespace {

using test::FailsWith;
using test::IsOk;

PciSpec full_spec() {
  PciSpec spec;
  spec.identity = {.vendor = 0x1b36,
                   .device = 0x0010,
                   .subsystem_vendor = 0x1af4,
                   .subsystem = 0x1100,
                   .class_code = 0x010802,
                   .revision = 2};
  spec.bars[0] = {.size = 0x4000, .kind = BarSpec::Kind::Memory64};
  spec.bars[2] = {.size = 0x1000, .kind = BarSpec::Kind::Memory32, .prefetchable = true};
  spec.bars[3] = {.size = 8, .kind = BarSpec::Kind::Io};
  spec.intx = true;
  spec.pcie = PcieSpec{.function_level_reset = true};
  spec.msi = MsiSpec{.vectors = 4, .per_vector_masking = true};
  spec.msix = MsixSpec{.vectors = 17,
                       .table_bar = RegionIndex::Bar0,
                       .table_offset = 0x2000,
                       .pba_bar = RegionIndex::Bar0,
                       .pba_offset = 0x3000};
  spec.vendor.push_back({.body = {std::byte{5}, std::byte{0xaa}, std::byte{0xbb}},
                         .write_mask = {std::byte{0}, std::byte{0x0f}, std::byte{0}}});
  spec.extended.push_back({.id = 0x0003, .body = std::vector<std::byte>(8, std::byte{0x11})});
  spec.extended.push_back({.id = 0x000b, .version = 2, .body = std::vector<std::byte>(4, std::byte{0x22})});
  return spec;
}

class ConfigSpaceTest : public testing::Test {
 protected:
  template <class T>
  [[nodiscard]] T get(std::uint64_t offset) const {
    std::array<std::byte, sizeof(T)> bytes{};
    config_->read(offset, bytes);
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
  template <class T>
  ConfigSpace::Effect set(std::uint64_t offset, T value) {
    return config_->write(offset, std::as_bytes(std::span(&value, 1)));
  }
  [[nodiscard]] std::uint16_t capability(std::uint8_t id) const { return config_->find_capability(id).value(); }

  std::unique_ptr<ConfigSpace> config_ = ConfigSpace::create(full_spec()).value();
};

TEST_F(ConfigSpaceTest, shows_the_identity) {
  EXPECT_EQ(get<std::uint32_t>(PCI_VENDOR_ID), 0x00101b36U);
  EXPECT_EQ(get<std::uint32_t>(PCI_CLASS_REVISION), 0x01080202U);
  EXPECT_EQ(get<std::uint32_t>(PCI_SUBSYSTEM_VENDOR_ID), 0x11001af4U);
  EXPECT_EQ(get<std::uint8_t>(PCI_INTERRUPT_PIN), 1);
  EXPECT_EQ(get<std::uint8_t>(PCI_HEADER_TYPE), 0);
  EXPECT_EQ(get<std::uint32_t>(PCI_ROM_ADDRESS), 0U);
  set<std::uint32_t>(PCI_VENDOR_ID, 0);
  set<std::uint32_t>(PCI_ROM_ADDRESS, ~0U);
  EXPECT_EQ(get<std::uint16_t>(PCI_VENDOR_ID), 0x1b36) << "read-only";
  EXPECT_EQ(get<std::uint32_t>(PCI_ROM_ADDRESS), 0U) << "no expansion ROM";
}

TEST_F(ConfigSpaceTest, chains_every_capability) {
  EXPECT_NE(get<std::uint16_t>(PCI_STATUS) & PCI_STATUS_CAP_LIST, 0);
  std::vector<std::uint8_t> ids;
  std::set<std::uint8_t> seen;
  for (auto at = get<std::uint8_t>(PCI_CAPABILITY_LIST); at != 0; at = get<std::uint8_t>(at + 1U)) {
    ASSERT_TRUE(seen.insert(at).second) << "the chain loops";
    ASSERT_EQ(at % 4, 0);
    ids.push_back(get<std::uint8_t>(at));
  }
  EXPECT_EQ(ids, (std::vector<std::uint8_t>{PCI_CAP_ID_PM, PCI_CAP_ID_MSI, PCI_CAP_ID_EXP, PCI_CAP_ID_MSIX,
                                            PCI_CAP_ID_VNDR}));
  EXPECT_EQ(get<std::uint32_t>(0x100), 0x10c10003U);
  EXPECT_EQ(get<std::uint32_t>(0x10c), 0x0002000bU);
  EXPECT_EQ(get<std::uint32_t>(0x110), 0x22222222U);
}

TEST_F(ConfigSpaceTest, sizes_bars) {
  for (std::uint64_t bar = 0; bar < 6; ++bar) set<std::uint32_t>(PCI_BASE_ADDRESS_0 + bar * 4, ~0U);
  EXPECT_EQ(get<std::uint64_t>(PCI_BASE_ADDRESS_0), 0xffffffffffffc004U) << "64 bits, 16 KiB";
  EXPECT_EQ(get<std::uint32_t>(PCI_BASE_ADDRESS_2), 0xfffff008U) << "prefetchable, 4 KiB";
  EXPECT_EQ(get<std::uint32_t>(PCI_BASE_ADDRESS_3), 0xfffffff9U) << "I/O, 8 bytes";
  EXPECT_EQ(get<std::uint32_t>(PCI_BASE_ADDRESS_4), 0U) << "not implemented";
  set<std::uint64_t>(PCI_BASE_ADDRESS_0, 0x12345678'9abcdef0);
  EXPECT_EQ(get<std::uint64_t>(PCI_BASE_ADDRESS_0), 0x12345678'9abcc004U);
}

TEST_F(ConfigSpaceTest, masks_command_and_clears_status) {
  set<std::uint32_t>(PCI_COMMAND, ~0U);
  EXPECT_EQ(get<std::uint16_t>(PCI_COMMAND), 0x0547);
  EXPECT_EQ(get<std::uint16_t>(PCI_STATUS), PCI_STATUS_CAP_LIST);
  EXPECT_TRUE(config_->bus_master());
  EXPECT_TRUE(config_->intx_disabled());
  config_->set_intx_status(true);
  EXPECT_EQ(get<std::uint16_t>(PCI_STATUS), PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
  set<std::uint16_t>(PCI_STATUS, 0xffff);
  EXPECT_EQ(get<std::uint16_t>(PCI_STATUS), PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT) << "not the client's to clear";
}

TEST_F(ConfigSpaceTest, lets_the_client_program_msi_and_msix) {
  const std::uint16_t msi = capability(PCI_CAP_ID_MSI);
  EXPECT_EQ(get<std::uint16_t>(msi + PCI_MSI_FLAGS), 0x0184) << "64 bits, masking, 4 vectors";
  set<std::uint16_t>(msi + PCI_MSI_FLAGS, 0xffff);
  EXPECT_EQ(get<std::uint16_t>(msi + PCI_MSI_FLAGS), 0x01f5);
  EXPECT_TRUE(config_->msi_enabled());
  set<std::uint32_t>(msi + PCI_MSI_MASK_64, ~0U);
  EXPECT_EQ(get<std::uint32_t>(msi + PCI_MSI_MASK_64), 0xfU);

  const std::uint16_t msix = capability(PCI_CAP_ID_MSIX);
  EXPECT_EQ(get<std::uint16_t>(msix + PCI_MSIX_FLAGS), 16);
  EXPECT_EQ(get<std::uint32_t>(msix + PCI_MSIX_TABLE), 0x2000U);
  EXPECT_EQ(get<std::uint32_t>(msix + PCI_MSIX_PBA), 0x3000U);
  EXPECT_FALSE(config_->msix_enabled());
  set<std::uint16_t>(msix + PCI_MSIX_FLAGS, 0xffff);
  EXPECT_EQ(get<std::uint16_t>(msix + PCI_MSIX_FLAGS), 0xc010);
  EXPECT_TRUE(config_->msix_enabled());
}

TEST_F(ConfigSpaceTest, an_flr_is_an_effect_and_reads_zero) {
  const std::uint64_t control = capability(PCI_CAP_ID_EXP) + std::uint64_t{PCI_EXP_DEVCTL};
  EXPECT_EQ(set<std::uint16_t>(control, 0x7fff), ConfigSpace::Effect::None);
  EXPECT_EQ(set<std::uint16_t>(control, PCI_EXP_DEVCTL_BCR_FLR), ConfigSpace::Effect::FunctionLevelReset);
  EXPECT_EQ(get<std::uint16_t>(control), 0);
  EXPECT_EQ(set<std::uint8_t>(control + 1, 0x80), ConfigSpace::Effect::FunctionLevelReset);
  EXPECT_EQ(set<std::uint8_t>(control, 0x80), ConfigSpace::Effect::None);

  PciSpec without = full_spec();
  without.pcie->function_level_reset = false;
  const auto config = ConfigSpace::create(without).value();
  EXPECT_EQ(config->write(control + 1, std::array{std::byte{0x80}}), ConfigSpace::Effect::None);
}

TEST_F(ConfigSpaceTest, takes_any_size_at_any_offset) {
  std::array<std::byte, ConfigSpace::kSize> all{};
  config_->read(0, all);
  EXPECT_EQ(all[PCI_VENDOR_ID], std::byte{0x36});
  std::ranges::fill(all, std::byte{0xff});
  config_->write(0, all);
  EXPECT_EQ(get<std::uint32_t>(PCI_BASE_ADDRESS_2), 0xfffff008U);
  std::array<std::byte, 3> unaligned{};
  config_->read(0xd, unaligned);
  EXPECT_EQ(unaligned[1], std::byte{0}) << "header type";
  std::array<std::byte, 2> outside{};
  config_->read(ConfigSpace::kSize - 1, outside);
  EXPECT_EQ(outside[1], std::byte{0xff});
  config_->write(ConfigSpace::kSize - 1, outside);
}

TEST_F(ConfigSpaceTest, vendor_bytes_obey_their_mask) {
  const std::uint16_t at = capability(PCI_CAP_ID_VNDR);
  set<std::uint32_t>(at, 0);
  EXPECT_EQ(get<std::uint8_t>(at + 2U), 5);
  EXPECT_EQ(get<std::uint8_t>(at + 3U), 0xa0);
  EXPECT_EQ(get<std::uint8_t>(at + 4U), 0xbb);
}

TEST_F(ConfigSpaceTest, a_reset_restores_power_on_values) {
  std::array<std::byte, ConfigSpace::kSize> before{};
  config_->read(0, before);
  config_->write(0, std::vector<std::byte>(ConfigSpace::kSize, std::byte{0xff}));
  config_->reset();
  std::array<std::byte, ConfigSpace::kSize> after{};
  config_->read(0, after);
  EXPECT_EQ(before, after);
}

TEST(ConfigSpaceCreate, refuses_what_cannot_be_laid_out) {
  const auto with = [](auto change) {
    PciSpec spec = full_spec();
    change(spec);
    return ConfigSpace::create(spec);
  };
  EXPECT_THAT(with([](PciSpec&) {}), IsOk());
  EXPECT_THAT(with([](PciSpec& s) { s.bars[2].size = 0x1800; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.bars[2].size = 8; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.bars[3].size = 512; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.bars[1].size = 0x1000; }), FailsWith(EINVAL)) << "upper half of BAR 0";
  EXPECT_THAT(with([](PciSpec& s) { s.bars[5] = {.size = 0x1000, .kind = BarSpec::Kind::Memory64}; }),
              FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.bars[2].size = std::uint64_t{1} << 32; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.identity.class_code = 0x1000000; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.msi->vectors = 3; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.msi->vectors = 64; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.msix->vectors = 0; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.msix->vectors = 2049; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.msix->table_offset = 4; }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.vendor[0].body.resize(200); }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.vendor[0].write_mask.resize(1); }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.vendor.push_back({.id = PCI_CAP_ID_PM}); }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.extended[1].body.resize(4096); }), FailsWith(EINVAL));
  EXPECT_THAT(with([](PciSpec& s) { s.pcie.reset(); }), FailsWith(EINVAL)) << "extended without PCI Express";
}

}  // namespace
}  // namespace gangway
