"""A device process while guests come and go; and the long runs, by tests/vm/run --full."""

import os
import unittest

from device_process import DeviceProcess, wait_until
from machine import Machine, Failed, vfio_user

FULL = 'GANGWAY_VM_FULL' in os.environ
BOOTS = 50 if FULL else 3
SECONDS = 180 if FULL else 10
LEAK_KIB = 4096  # more than allocators keep, less than anything kept for each boot


class LifeTest(unittest.TestCase):
    def test_boots_leave_nothing_behind(self):
        with DeviceProcess('nvme', disks=1) as process:
            unused = process.descriptors()
            grown = None
            for boot in range(BOOTS):
                with Machine(f'boot{boot}', devices=[vfio_user(process.socket())]) as machine:
                    machine.run('dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 iflag=direct')
                    self.assertEqual(machine.kernel_complaints(), '')
                    machine.power_off()
                wait_until(lambda: process.descriptors() == unused,
                           lambda: f'{process.descriptors()} descriptors to become {unused} again')
                wait_until(lambda: process.locks_on_disks() == [], process.locks_on_disks)
                grown = grown or process.resident_kib()
            self.assertLess(process.resident_kib(), grown + LEAK_KIB)
            self.assertNotIn('had not saved', process.log())  # each guest shut its controller down

    def test_verified_io_runs_on_four_queues(self):
        with DeviceProcess('nvme', disks=1) as process, \
                Machine('verified', cpus=4, devices=[vfio_user(process.socket())]) as machine:
            machine.run(f'fio --name=io --filename=/dev/nvme0n1 --size=16m --offset_increment=16m --numjobs=4 '
                        f'--rw=randrw --bsrange=4k-64k --iodepth=32 --ioengine=libaio --direct=1 --verify=crc32c '
                        f'--verify_fatal=1 --randseed=9 --time_based --runtime={SECONDS} --group_reporting',
                        patience=10 * SECONDS + 300)
            self.assertEqual(machine.kernel_complaints(), '')
            machine.power_off()

    def test_a_controller_that_is_unplugged_is_free_for_the_next_guest(self):
        with DeviceProcess('nvme', disks=1) as process:
            aborted = self.unplug(process)
            with Machine('next', devices=[vfio_user(process.socket())]) as machine:
                machine.run('dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 iflag=direct')
                self.assertEqual(machine.kernel_complaints(), '')
                machine.power_off()
        if aborted:
            self.skipTest('this QEMU ends when a vfio-user device with MSI-X is unplugged; the process lived on')

    def unplug(self, process):
        """True when QEMU ended for its own error, as 11.1 does: it takes the table of pending bits out twice."""
        with Machine('unplugged', devices=[{'driver': 'pcie-root-port', 'id': 'bay', 'chassis': 1},
                                           vfio_user(process.socket(), id='disk', bus='bay')]) as machine:
            try:
                machine.unplug('disk')
            except Failed:
                if 'memory_region_del_subregion: Assertion' in machine.log.read_text():
                    return True
                raise
            machine.run('ls /dev/nvme0n1', expect=1)
            machine.plug(vfio_user(process.socket(), id='disk'), bus='bay')
            machine.run('until [ -b /dev/nvme0n1 ]; do sleep 0.1; done')
            machine.power_off()
            return False


if __name__ == '__main__':
    unittest.main()
