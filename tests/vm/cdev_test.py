"""The same by a device's node and iommufd. Its kernel takes minutes to build, so it runs only by make test-vm-cdev."""

import os
import unittest

import cdev_image
import driver_test
import kernel_recording_test
import passthrough_test


@unittest.skipUnless('GANGWAY_VM_CDEV' in os.environ, 'make test-vm-cdev runs it')
class CdevTest(driver_test.DriverTest):
    image = cdev_image
    target = '/dev/vfio/devices/vfio0'

    def test_what_the_kernel_lacks_is_said(self):
        said = self.machine.run('gangway inspect /dev/vfio/devices/vfio7', expect=2).output
        self.assertIn('no VFIO driver serves such a device', said)

    def test_nobody_needs_to_be_root(self):
        self.make_mtty()
        self.machine.run("mkdir -p /etc; echo 'somebody:x:1000:1000::/:/bin/sh' > /etc/passwd")
        inspect = f"su somebody -c 'gangway inspect {self.target}'"
        self.assertIn('/dev/iommu: permission denied', self.machine.run(inspect, expect=2).output)
        self.machine.run(f'chown somebody /dev/iommu {self.target}')
        self.machine.run(inspect)

    def test_the_group_leads_to_the_same_device(self):
        self.make_mtty()
        described = self.machine.run(f'gangway inspect vfio:{driver_test.MTTY}').output
        self.assertIn('flags 7', described)


@unittest.skipUnless('GANGWAY_VM_CDEV' in os.environ, 'make test-vm-cdev runs it')
class CdevPassthroughTest(passthrough_test.PassthroughTest):
    image = cdev_image
    target = '/dev/vfio/devices/vfio0'
    nodes = '/dev/iommu /dev/vfio/devices/vfio0'


@unittest.skipUnless('GANGWAY_VM_CDEV' in os.environ, 'make test-vm-cdev runs it')
class CdevRecordingTest(kernel_recording_test.KernelRecordingTest):
    image = cdev_image
    target = '/dev/vfio/devices/vfio0'
    unopened = 0
