"""A PCI device passed through by vfio-pci is driven by our own client: mapped BARs, DMA, interrupts, resets.

The device is QEMU's NVMe controller behind an emulated IOMMU that remaps interrupts, so that nothing but what the kernel
allows reaches memory.
"""

import json
import os
import pathlib
import tempfile
import unittest

import driver_image
from driver_test import DriverMachine
from machine import PROJECT

CHECKS = pathlib.Path(os.environ.get('GANGWAY_VFIO_PCI_TEST', PROJECT / 'build/static/vfio_pci_test'))
ADDRESS = '0000:00:0b.0'
DISK_MIB = 32

IOMMU = {'driver': 'intel-iommu', 'intremap': 'on'}
NVME = {'driver': 'nvme', 'addr': '0b.0', 'serial': 'passed-through', 'drive': 'disk'}


class PassthroughTest(unittest.TestCase):
    image = driver_image
    target = f'vfio:{ADDRESS}'
    nodes = '/dev/vfio/vfio /dev/vfio/[0-9]*'  # what its user must be able to open

    def setUp(self):
        disk = tempfile.NamedTemporaryFile(prefix='gangway-vm-disk-')
        self.addCleanup(disk.close)
        disk.truncate(DISK_MIB << 20)
        self.machine = DriverMachine(
            self.image, devices=[IOMMU, NVME], files={'/bin/vfio_pci_test': CHECKS},
            arguments=['-blockdev', f'driver=file,node-name=disk,filename={disk.name}'])
        self.addCleanup(self.machine.kill)
        self.machine.bind(ADDRESS)

    def drive(self, memory_mib, *, as_user='', seconds=8, expect=0):
        """What a guest says of the disk that it drove."""
        command = (f'gangway guest --device disk={self.target} --scratch --memory {memory_mib} --seconds {seconds} '
                   '--dirty-rate 1 --json 2>&1')
        return self.machine.run(f"su {as_user} -c '{command}'" if as_user else command, expect=expect).output

    def test_it_is_described(self):
        described = json.loads(self.machine.run(f'gangway inspect {self.target} --json').output)
        self.assertEqual(described['identity']['vendor'], '0x1b36')
        self.assertTrue(described['reset'])

    def test_verified_io_is_right(self):
        # Twice: the second finds the controller as the first left it, and resets it.
        for _ in range(2):
            report = json.loads(self.drive(48))
            (disk,) = report['disks']
            self.assertTrue(report['verified'], report)
            self.assertGreater(report['blocks_verified'], 0, report)
            self.assertEqual(disk['doorbells'], 'mapped')
            self.assertGreater(disk['interrupts'], 0, report)

    def test_each_part_of_the_interface_works(self):
        said = self.machine.run(f'GANGWAY_TARGET={self.target} vfio_pci_test', expect=None)
        self.assertEqual(said.status, 0, said.output)
        self.assertIn('[  PASSED  ]', said.output)
        self.assertNotIn('SKIPPED', said.output)

    def test_a_user_needs_permissions_and_locked_memory_alone(self):
        self.machine.run(f"""
            mkdir -p /etc
            echo 'somebody:x:1000:1000::/:/bin/sh' > /etc/passwd
            chown somebody {self.nodes}""")
        said = self.drive(48, as_user='somebody', expect=2)
        self.assertIn('raise the limit of locked memory (ulimit -l)', said)
        self.assertTrue(json.loads(self.drive(6, as_user='somebody', seconds=2))['verified'])


if __name__ == '__main__':
    unittest.main()
