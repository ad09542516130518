"""Devices of one process, in one guest and in several, and what a guest that dies does to the others."""

import signal
import unittest

from device_process import DeviceProcess, wait_until
from machine import Machine, vfio_user


def verified_io(disk, size='16m', extra=''):
    return (f'fio --name=io --filename=/dev/{disk} --size={size} --rw=randrw --bsrange=4k-64k --iodepth=16 '
            f'--ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --randseed=3 {extra}')


class SharingTest(unittest.TestCase):
    def test_one_guest_uses_two_controllers_of_one_process(self):
        with DeviceProcess('nvme', disks=2) as process, \
                Machine('two-controllers', cpus=2,
                        devices=[vfio_user(process.socket(index)) for index in range(2)]) as machine:
            serials = machine.run('cat /sys/class/nvme/nvme*/serial').output.split()
            self.assertEqual(len(set(serials)), 2)
            machine.run(f"{verified_io('nvme0n1')} & one=$!; {verified_io('nvme1n1')} && wait $one")
            machine.run('echo this is the first | dd of=/dev/nvme0n1 bs=512 conv=sync oflag=direct && '
                        '! dd if=/dev/nvme1n1 bs=512 count=1 | grep first')
            self.assertEqual(machine.kernel_complaints(), '')
            machine.power_off()

    def test_a_guest_that_is_killed_leaves_the_other_and_its_disk_as_they_should_be(self):
        with DeviceProcess('nvme', disks=2) as process:
            unused = process.descriptors()
            with Machine('survivor', devices=[vfio_user(process.socket(1))]) as survivor:
                with Machine('victim', devices=[vfio_user(process.socket(0))]) as victim:
                    victim.run('mkfs.ext4 -q /dev/nvme0n1 && mount -t ext4 /dev/nvme0n1 /mnt && '
                               'echo kept >/mnt/kept && sync')
                    victim.start('fio --name=io --directory=/mnt --size=8m --rw=randwrite --bs=4k --iodepth=16 '
                                 '--ioengine=libaio --direct=1 --fsync=8 --loops=1000000')
                    survivor.start(verified_io('nvme0n1', extra='--loops=3'))
                    blocks = process.disk(0).stat().st_blocks
                    wait_until(lambda: process.disk(0).stat().st_blocks > blocks, lambda: 'the victim to write')
                    victim.signal(signal.SIGKILL)
                process.wait_for_log('had not saved the device')
                wait_until(lambda: len(process.locks_on_disks()) == 1, lambda: 'the lock of the victim to go')
                with Machine('heir', devices=[vfio_user(process.socket(0))]) as heir:
                    heir.run('mount -t ext4 /dev/nvme0n1 /mnt && grep -x kept /mnt/kept && umount /mnt && '
                             'fsck.ext4 -fn /dev/nvme0n1')
                    self.assertEqual(heir.kernel_complaints(), '')
                    heir.power_off()
                survivor.finish()
                self.assertEqual(survivor.kernel_complaints(), '')
                survivor.power_off()
            wait_until(lambda: process.descriptors() == unused,
                       lambda: f'{process.descriptors()} descriptors to become {unused} again')
            wait_until(lambda: process.locks_on_disks() == [], process.locks_on_disks)

    def test_a_guest_that_is_stopped_holds_up_no_other_and_goes_on(self):
        with DeviceProcess('nvme', disks=2) as process, \
                Machine('sleeper', devices=[vfio_user(process.socket(0))]) as sleeper, \
                Machine('waker', devices=[vfio_user(process.socket(1))]) as waker:
            unwritten = process.disk(0).stat().st_blocks
            sleeper.start(verified_io('nvme0n1', '8m', '--loops=20'))
            wait_until(lambda: process.disk(0).stat().st_blocks > unwritten, lambda: 'the sleeper to write')
            sleeper.signal(signal.SIGSTOP)
            self.assertTrue(sleeper.busy(), 'it was stopped after its I/O had ended')
            waker.run(verified_io('nvme0n1', '8m'))
            waker.run('sleep 10')  # as long as the stop is to last at least
            self.assertTrue(sleeper.busy())
            sleeper.signal(signal.SIGCONT)
            sleeper.finish()
            for machine in (sleeper, waker):
                self.assertEqual(machine.kernel_complaints(), '')
                machine.power_off()


if __name__ == '__main__':
    unittest.main()
