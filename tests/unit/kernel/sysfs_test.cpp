#include "kernel/sysfs.h"

#include <gmock/gmock.h>

#include "unit/kernel/made_up_machine.h"

namespace gangway::kernel {
namespace {

using testing::HasSubstr;

constexpr auto kUuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";

TEST(Sysfs, a_device_is_found_on_any_bus_and_without_its_domain) {
  MadeUpMachine machine;
  machine.device("pci", "0000:01:00.0").device("mdev", kUuid);
  const Sysfs sysfs(machine.sys());
  EXPECT_EQ(sysfs.find("0000:01:00.0").value_or(""), "0000:01:00.0");
  EXPECT_EQ(sysfs.find("01:00.0").value_or(""), "0000:01:00.0");
  EXPECT_EQ(sysfs.find(kUuid).value_or(""), kUuid);
}

TEST(Sysfs, what_is_no_name_of_a_device_finds_nothing) {
  MadeUpMachine machine;
  machine.device("pci", "0000:01:00.0");
  const Sysfs sysfs(machine.sys());
  for (const std::string_view name : {"", ".", "..", "0000:01:00.1", "../devices/0000:01:00.0", "/etc"}) {
    const auto found = sysfs.find(name);
    ASSERT_FALSE(found) << name;
    EXPECT_EQ(found.error().code, ENODEV);
    EXPECT_THAT(found.error().message, HasSubstr("say a PCI address"));
  }
}

TEST(Sysfs, a_group_knows_its_members_and_their_drivers) {
  MadeUpMachine machine;
  machine.device("pci", "0000:01:00.0", "vfio-pci")
      .device("pci", "0000:01:00.1", "e1000e")
      .device("pci", "0000:01:00.2");
  machine.in_group("0000:01:00.0", 12).in_group("0000:01:00.1", 12).in_group("0000:01:00.2", 12);
  const auto group = Sysfs(machine.sys()).group_of("0000:01:00.0");
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(group->number, 12U);
  ASSERT_EQ(group->members.size(), 3U);
  EXPECT_EQ(group->members[0].driver, "vfio-pci");
  EXPECT_EQ(group->members[1].name, "0000:01:00.1");
  EXPECT_EQ(group->members[1].driver, "e1000e");
  EXPECT_EQ(group->members[2].driver, "");
}

TEST(Sysfs, a_device_without_a_group_has_no_iommu_or_only_a_node) {
  MadeUpMachine machine;
  machine.device("pci", "0000:01:00.0").device("pci", "0000:02:00.0").with_node("0000:02:00.0", "vfio3");
  const Sysfs sysfs(machine.sys());
  EXPECT_THAT(sysfs.group_of("0000:01:00.0").error().message, HasSubstr("intel_iommu=on"));
  EXPECT_THAT(sysfs.group_of("0000:02:00.0").error().message, HasSubstr("use /dev/vfio/devices/vfio3"));
}

TEST(Sysfs, a_node_and_its_device_lead_to_each_other) {
  MadeUpMachine machine;
  machine.device("mdev", kUuid).with_node(kUuid, "vfio0");
  const Sysfs sysfs(machine.sys());
  EXPECT_EQ(sysfs.device_of("vfio0"), kUuid);
  EXPECT_EQ(sysfs.device_of("vfio1"), "");
  EXPECT_EQ(sysfs.node_of(kUuid), "vfio0");
}

}  // namespace
}  // namespace gangway::kernel
