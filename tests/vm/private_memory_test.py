"""A guest whose memory has no descriptor: every byte of DMA is a message, and QEMU answers none while one of its CPUs
waits for a register access or the machine is being reset. So whatever the guest does to the controller in the middle
of I/O, no register access and no reset may wait for DMA."""

import signal
import time
import unittest

from device_process import DeviceProcess, wait_until
from machine import WAIT_FOR_IO, Machine, vfio_user

ROUNDS = 5
IO = ('fio --name=io --filename=/dev/nvme0n1 --size=16m --rw=randrw --bs=4k --iodepth=16 --ioengine=libaio --direct=1 '
      '--randseed=7 --time_based --runtime=60')


class PrivateMemoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.process = cls.enterClassContext(DeviceProcess('nvme', disks=1))
        cls.machine = cls.enterClassContext(
            Machine('private', cpus=4, shared_memory=False, devices=[vfio_user(cls.process.socket())]))

    def tearDown(self):
        """The device is there, and the process never gave its client up."""
        self.machine.run('dd if=/dev/nvme0n1 of=/dev/null bs=1M count=4 iflag=direct')
        self.assertNotIn('did not answer', self.process.log())
        self.assertNotIn('connection closed', self.process.log())

    def test_verified_io_finds_what_it_wrote(self):
        self.machine.run('fio --name=io --filename=/dev/nvme0n1 --size=8m --rw=randwrite --bsrange=4k-64k --iodepth=16 '
                         '--ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --randseed=7')
        self.assertEqual(self.machine.kernel_complaints(), '')

    def test_the_controller_is_reset_in_the_middle_of_io(self):
        self.machine.run(f'''{WAIT_FOR_IO}
            {IO} >/dev/null 2>&1 &
            for round in $(seq {ROUNDS}); do
                wait_for_io nvme0n1
                nvme reset /dev/nvme0 || exit 9
            done
            kill $! || exit 7  # which fails when fio has ended before
            wait''')

    def test_the_driver_leaves_and_returns_in_the_middle_of_io(self):
        self.machine.run(f'''{WAIT_FOR_IO}
            address=$(basename $(readlink /sys/class/nvme/nvme0/device))
            for round in $(seq {ROUNDS}); do
                {IO} >/dev/null 2>&1 &
                wait_for_io nvme0n1
                echo $address >/sys/bus/pci/drivers/nvme/unbind
                kill $! 2>/dev/null; wait
                echo $address >/sys/bus/pci/drivers/nvme/bind
                until [ -b /dev/nvme0n1 ]; do usleep 100000; done
            done''')

    def test_the_function_is_reset_in_the_middle_of_io(self):
        self.machine.run(f'''{WAIT_FOR_IO}
            address=$(basename $(readlink /sys/class/nvme/nvme0/device))
            grep -q flr /sys/bus/pci/devices/$address/reset_method || exit 8
            for round in $(seq {ROUNDS}); do
                {IO} >/dev/null 2>&1 &
                wait_for_io nvme0n1
                echo flr >/sys/bus/pci/devices/$address/reset_method
                echo 1 >/sys/bus/pci/devices/$address/reset || exit 9
                kill $! 2>/dev/null; wait
            done''')

    def test_the_machine_is_reset_in_the_middle_of_io(self):
        for _ in range(ROUNDS):
            self.machine.run(f'{WAIT_FOR_IO}\n{IO} >/dev/null 2>&1 & wait_for_io nvme0n1')
            self.machine.qmp('system_reset')
            self.machine.wait_until_up()


class StoppedTest(unittest.TestCase):
    """A QEMU that is stopped answers no DMA message: how long it may be is told to the device process."""

    def stop_in_the_middle_of_io(self, process, machine):
        unwritten = process.disk().stat().st_blocks
        machine.start('fio --name=io --filename=/dev/nvme0n1 --size=8m --rw=randwrite --bs=4k --iodepth=16 --loops=20 '
                      '--ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --randseed=7')
        wait_until(lambda: process.disk().stat().st_blocks > unwritten, lambda: 'the guest to write')
        machine.signal(signal.SIGSTOP)
        self.assertTrue(machine.busy(), 'it was stopped after its I/O had ended')

    def test_a_stop_that_is_shorter_than_the_limit_costs_nothing(self):
        with DeviceProcess('nvme', '--client-timeout', '600000', disks=1) as process, \
                Machine('stopped', shared_memory=False, devices=[vfio_user(process.socket())]) as machine:
            self.stop_in_the_middle_of_io(process, machine)
            time.sleep(10)  # that long is what it is about, and longer than the limit that nobody sets
            machine.signal(signal.SIGCONT)
            machine.finish()
            self.assertEqual(machine.kernel_complaints(), '')
            machine.power_off()
            self.assertNotIn('did not answer', process.log())

    def test_a_stop_that_is_longer_costs_the_device_and_the_log_says_so(self):
        with DeviceProcess('nvme', '--client-timeout', '2000', disks=1) as process:
            with Machine('given-up', shared_memory=False, devices=[vfio_user(process.socket())]) as machine:
                self.stop_in_the_middle_of_io(process, machine)
                process.wait_for_log('within 2000 ms')
            wait_until(lambda: process.locks_on_disks() == [], process.locks_on_disks)


if __name__ == '__main__':
    unittest.main()
