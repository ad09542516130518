// Controllers with more than one namespace, and where they may move.
#include <gtest/gtest.h>

#include "unit/devices/nvme/host.h"

namespace gangway::nvme::test {
namespace {

constexpr std::uint32_t kErrorRecovery = 5;  // the feature that each namespace has for itself

class NvmeNamespaces : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(rig_.driver.enable(), kCstsReady);
    ASSERT_EQ(rig_.driver.create_pair(1), Status::Success);
    data_ = rig_.ram.allocate(16384);
  }
  [[nodiscard]] Result<std::unique_ptr<Endpoint>> destination(std::vector<NamespaceOptions> namespaces) const {
    auto made = serve(*rig_.image, ControllerOptions{.namespaces = std::move(namespaces)});
    if (made) rig_.ram.map_into((*made)->dma());
    return made;
  }
  [[nodiscard]] NamespaceOptions first() const { return {.path = rig_.image->path()}; }
  [[nodiscard]] NamespaceOptions second() const { return {.path = second_.path(), .block_size = 4096}; }
  void put(std::span<const std::byte> bytes, Iova at) const {
    std::ranges::copy(bytes, rig_.ram.at(at, bytes.size()).begin());
  }

  TemporaryImage second_{4U << 20};
  Rig rig_{ControllerOptions{.namespaces = {{}, {.path = second_.path(), .block_size = 4096}}}};
  Iova data_;
};

TEST_F(NvmeNamespaces, are_listed_and_told_apart) {
  Command list = admin_command(AdminOpcode::Identify, 2);
  list.prp1 = data_.value;
  ASSERT_EQ(status_of(rig_.driver.admin(list)), Status::Success);
  EXPECT_EQ((rig_.ram.get<std::array<std::uint32_t, 3>>(data_)), (std::array<std::uint32_t, 3>{1, 2, 0}));
  const auto one = pattern(4096, 51);
  const auto two = pattern(4096, 52);
  put(one, data_);
  put(two, data_ + 4096);
  ASSERT_EQ(status_of(rig_.driver.run(1, io_command(IoOpcode::Write, 0, 8, data_, 1))), Status::Success);
  ASSERT_EQ(status_of(rig_.driver.run(1, io_command(IoOpcode::Write, 0, 1, data_ + 4096, 2))), Status::Success);
  EXPECT_EQ(rig_.image->read(0, 4096), one);
  EXPECT_EQ(second_.read(0, 4096), two);
}

TEST_F(NvmeNamespaces, move_together_with_what_waits_for_them) {
  const auto one = pattern(4096, 53);
  const auto two = pattern(4096, 54);
  put(one, data_);
  put(two, data_ + 4096);
  Command feature = admin_command(AdminOpcode::SetFeatures, kErrorRecovery, 77);
  feature.nsid = 2;
  ASSERT_EQ(status_of(rig_.driver.admin(feature)), Status::Success);
  to_state(*rig_.endpoint, DeviceState::RunningP2p);
  rig_.driver.place(1, io_command(IoOpcode::Write, 16, 8, data_, 1));
  rig_.driver.place(1, io_command(IoOpcode::Write, 2, 1, data_ + 4096, 2));
  rig_.driver.ring(1);  // P2P: taken, and carried out by who runs next

  const auto other = destination({first(), second()});
  ASSERT_TRUE(other) << other.error().message;
  auto third = Namespace::open(second());
  ASSERT_TRUE(third);
  EXPECT_FALSE(third->lock()) << "P2P still holds the second image";
  const auto stream = save(*rig_.endpoint);
  const auto loaded = load(**other, stream);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_TRUE(third->lock()) << "stopped, nobody holds it";
  third->unlock();
  to_state(**other, DeviceState::Running);
  EXPECT_FALSE(third->lock()) << "the destination holds it";

  rig_.driver.move_to(**other);
  for (int count = 0; count < 2; ++count) {
    const auto completion = rig_.driver.wait(1);
    ASSERT_TRUE(completion);
    EXPECT_EQ(status_of(*completion), Status::Success);
  }
  EXPECT_EQ(rig_.image->read(16 * 512, 4096), one);
  EXPECT_EQ(second_.read(2 * 4096, 4096), two);
  feature.opcode = static_cast<std::uint8_t>(AdminOpcode::GetFeatures);
  EXPECT_EQ(rig_.driver.admin(feature).result, 77U);
  feature.nsid = 1;
  EXPECT_EQ(rig_.driver.admin(feature).result, 0U);
}

TEST_F(NvmeNamespaces, have_to_be_the_same_at_the_destination) {
  const TemporaryImage third(1U << 20);
  const auto stream = save(*rig_.endpoint);
  NamespaceOptions read_only = second();
  read_only.read_only = true;
  NamespaceOptions small_blocks = second();
  small_blocks.block_size = 512;
  const std::vector<std::vector<NamespaceOptions>> others{{first()},
                                                          {second(), first()},
                                                          {first(), second(), {.path = third.path()}},
                                                          {first(), {.path = third.path(), .block_size = 4096}},
                                                          {first(), read_only},
                                                          {first(), small_blocks}};
  for (std::size_t index = 0; index < others.size(); ++index) {
    const auto other = destination(others[index]);
    ASSERT_TRUE(other) << other.error().message;
    const auto loaded = load(**other, stream);
    ASSERT_FALSE(loaded) << "number " << index;
    EXPECT_NE(loaded.error().message.find("namespace"), std::string::npos) << loaded.error().message;
  }
  const auto same = destination({first(), second()});
  ASSERT_TRUE(same);
  EXPECT_TRUE(load(**same, stream));
}

}  // namespace
}  // namespace gangway::nvme::test
