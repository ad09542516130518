"""What fails under the controller surfaces as errors in the guest, and the controller goes on."""

import unittest

from device_process import DeviceProcess
from machine import Machine, vfio_user

MIB = 1 << 20


def transfer(direction, mib):
    ends = {'read': 'if=/dev/nvme0n1 of=/dev/null iflag=direct skip', 'write': 'if=/dev/zero of=/dev/nvme0n1 oflag=direct seek'}
    return f'dd bs=64k count=4 {ends[direction]}={mib * 16}'


class FaultTest(unittest.TestCase):
    def test_reads_beyond_a_shortened_image_fail_until_it_is_whole_again(self):
        with DeviceProcess('nvme', disks=1) as process, \
                Machine('shortened', devices=[vfio_user(process.socket())]) as machine:
            with process.disk().open('r+b') as image:
                image.truncate(32 * MIB)
            machine.run(transfer('read', 40), expect=1)
            machine.run(transfer('read', 8))
            self.assertRegex(machine.kernel_complaints(), r'(I/O|critical medium|media) error.*nvme0n1')
            self.assertRegex(machine.run('nvme smart-log /dev/nvme0').output, r'media_errors\s+: [1-9]')
            with process.disk().open('r+b') as image:
                image.truncate(96 * MIB)
            machine.run(transfer('read', 40))
            machine.run(transfer('write', 40))
            self.assertEqual(machine.kernel_complaints(), '')
            machine.power_off()

    def test_writes_that_the_host_refuses_fail_and_the_controller_goes_on(self):
        for backend in ('io_uring', 'threads'):
            with self.subTest(backend), \
                    DeviceProcess('nvme', '--backend', backend, disks=1, largest_file_mib=32) as process, \
                    Machine('refused', devices=[vfio_user(process.socket())]) as machine:
                machine.run(transfer('write', 40), expect=1)
                self.assertRegex(machine.kernel_complaints(), r'error.*nvme0n1')
                machine.run(transfer('write', 8))
                machine.run(transfer('read', 40))
                machine.run('nvme id-ctrl /dev/nvme0')
                self.assertEqual(machine.kernel_complaints(), '')
                machine.power_off()


if __name__ == '__main__':
    unittest.main()
