// What is said where the kernel lacks something. Devices themselves are opened in tests/vm.
#include "kernel/opening.h"

#include <gmock/gmock.h>

#include "unit/kernel/made_up_machine.h"

namespace gangway::kernel {
namespace {

using testing::HasSubstr;

constexpr auto kAddress = "0000:01:00.0";

TEST(OpenByNode, without_iommufd_the_way_by_the_group_is_named) {
  MadeUpMachine machine;
  machine.device("pci", kAddress).with_node(kAddress, "vfio0").file("vfio/devices/vfio0");
  const auto node = machine.folders().dev / "vfio/devices/vfio0";
  EXPECT_THAT(open_by_node(node, machine.folders()).error().message,
              HasSubstr("this kernel has no iommufd: use vfio:0000:01:00.0"));
  EXPECT_THAT(open_by_node(node.parent_path() / "vfio7", machine.folders()).error().message,
              HasSubstr("this kernel has no iommufd: use vfio:ADDRESS"));
}

TEST(OpenByNode, a_node_that_is_not_there_is_named) {
  MadeUpMachine machine;
  machine.file("iommu");
  const auto opened = open_by_node(machine.folders().dev / "vfio/devices/vfio0", machine.folders());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ENOENT);
  EXPECT_THAT(opened.error().message, HasSubstr("vfio0: no VFIO driver serves such a device"));
}

TEST(OpenByNode, what_is_no_device_is_not_bound) {
  MadeUpMachine machine;
  machine.file("iommu").file("vfio/devices/vfio0");
  const auto opened = open_by_node(machine.folders().dev / "vfio/devices/vfio0", machine.folders());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ENOTTY);
  EXPECT_THAT(opened.error().message, HasSubstr("bind to iommufd"));
}

TEST(OpenByNode, a_device_without_an_iommu_is_refused) {
  const MadeUpMachine machine;
  const auto opened = open_by_node("/dev/vfio/devices/noiommu-vfio0", machine.folders());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, EPERM);
  EXPECT_THAT(opened.error().message, HasSubstr("it needs an IOMMU"));
}

TEST(OpenByGroup, a_group_without_an_iommu_is_refused) {
  MadeUpMachine machine;
  machine.device("pci", kAddress, "vfio-pci").in_group(kAddress, 0).file("vfio/vfio").file("vfio/noiommu-0");
  const auto opened = open_by_group(kAddress, machine.folders());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, EPERM);
  EXPECT_THAT(opened.error().message, HasSubstr("its group has no IOMMU"));
}

TEST(OpenByGroup, without_vfio_the_modules_to_load_are_named) {
  MadeUpMachine machine;
  machine.device("pci", kAddress).in_group(kAddress, 3);
  const auto opened = open_by_group(kAddress, machine.folders());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ENOENT);
  EXPECT_THAT(opened.error().message, HasSubstr("modprobe vfio vfio_iommu_type1"));
}

TEST(OpenByGroup, what_is_no_container_is_not_used) {
  MadeUpMachine machine;
  machine.device("pci", kAddress).in_group(kAddress, 3).file("vfio/vfio");
  EXPECT_FALSE(open_by_group(kAddress, machine.folders()));
}

TEST(OpenByGroup, an_unknown_device_is_not_opened) {
  const MadeUpMachine machine;
  EXPECT_EQ(open_by_group(kAddress, machine.folders()).error().code, ENODEV);
}

}  // namespace
}  // namespace gangway::kernel
