"""Linux's nvme driver behind QEMU's vfio-user client finds, uses, loses and finds again our controller."""

import unittest

import lspci
from device_process import DeviceProcess
from machine import WAIT_FOR_IO, Machine, vfio_user

CPUS = 4

# Every write is read back and compared; a mix of sizes, places, syncs and trims. The same seed each time.
VERIFY = '''
[global]
filename=/mnt/verify
size=24m
ioengine=libaio
iodepth=16
direct=1
verify=crc32c
verify_fatal=1
randseed=7
[random]
rw=randwrite
bsrange=4k-64k
[sequential]
stonewall
rw=write
bs=128k
[synced]
stonewall
rw=randwrite
bs=4k
io_size=2m
fsync=16
'''

TRIM = '''
[trims]
filename=/dev/nvme0n1
offset=48m
size=16m
ioengine=libaio
iodepth=8
direct=1
rw=randtrimwrite
bs=16k
randseed=7
'''


def write_file(path, text):
    return f"cat >{path} <<'END'\n{text}\nEND\n"


def interrupts(machine, name):
    """How often each CPU was interrupted, added up, by line: {'nvme0q1': 12, ...}"""
    lines = machine.run('cat /proc/interrupts').output.splitlines()
    return {line.split()[-1]: sum(int(count) for count in line.split()[1:1 + CPUS])
            for line in lines if name in line}


class NvmeTest(unittest.TestCase):
    """One guest for all; each test leaves the disk unmounted and the driver bound."""

    @classmethod
    def setUpClass(cls):
        cls.process = cls.enterClassContext(DeviceProcess('nvme', disks=1))
        cls.machine = cls.enterClassContext(
            Machine('nvme', cpus=CPUS,
                    devices=[{'driver': 'pcie-root-port', 'id': 'bay', 'chassis': 1},
                             vfio_user(cls.process.socket(), bus='bay')]))

    def tearDown(self):
        self.assertEqual(self.machine.kernel_complaints(), '')

    def test_the_driver_finds_a_controller_with_a_queue_for_each_cpu(self):
        self.assertIn('4/0/0 default/read/poll queues', self.machine.run('dmesg | grep nvme0:').output)
        self.assertLessEqual({f'nvme0q{queue}' for queue in range(CPUS + 1)}, set(interrupts(self.machine, 'nvme')))
        self.assertEqual(self.machine.run('blockdev --getsize64 /dev/nvme0n1').output.strip(), str(96 << 20))

    def test_each_cpu_is_interrupted_by_its_own_queue(self):
        before = interrupts(self.machine, 'nvme')
        for cpu in range(CPUS):
            self.machine.run(f'taskset {1 << cpu:x} dd if=/dev/nvme0n1 of=/dev/null bs=4k count=32 iflag=direct')
        after = interrupts(self.machine, 'nvme')
        for queue in range(1, CPUS + 1):
            self.assertGreater(after[f'nvme0q{queue}'], before[f'nvme0q{queue}'], f'queue {queue}')

    def test_a_file_system_holds_what_was_written(self):
        self.machine.run('mkfs.ext4 -q /dev/nvme0n1 && mount -t ext4 -o discard /dev/nvme0n1 /mnt')
        self.machine.run(write_file('/run/verify.fio', VERIFY) + 'fio /run/verify.fio')
        self.machine.run('rm /mnt/verify && head -c 8m /dev/urandom >/mnt/kept && md5sum /mnt/kept >/run/sum && sync')
        self.machine.run('umount /mnt && fsck.ext4 -fn /dev/nvme0n1 && mount -t ext4 /dev/nvme0n1 /mnt')
        self.machine.run('md5sum -c /run/sum && umount /mnt')

    def test_trimmed_blocks_can_be_written_again(self):
        self.machine.run(write_file('/run/trim.fio', TRIM) + 'fio /run/trim.fio')
        self.machine.run('blkdiscard -o $((48 << 20)) -l $((16 << 20)) /dev/nvme0n1 && '
                         'dd if=/dev/nvme0n1 bs=1M skip=48 count=16 | cmp -n $((16 << 20)) - /dev/zero')

    def test_a_rebooted_guest_finds_its_data(self):
        self.machine.run('mkfs.ext4 -q /dev/nvme0n1 && mount -t ext4 /dev/nvme0n1 /mnt && '
                         'echo before the reboot >/mnt/file && umount /mnt')
        self.machine.reboot()
        output = self.machine.run('mount -t ext4 /dev/nvme0n1 /mnt && cat /mnt/file && umount /mnt').output
        self.assertEqual(output, 'before the reboot\n')

    def test_a_controller_is_removed_and_found_again(self):
        script = '''
            address=$(basename $(readlink /sys/class/nvme/nvme0/device))
            echo 1 >/sys/bus/pci/devices/$address/remove && [ ! -e /dev/nvme0n1 ] &&
            echo 1 >/sys/bus/pci/rescan && until [ -b /dev/nvme0n1 ]; do sleep 0.1; done
            dd if=/dev/nvme0n1 of=/dev/null bs=1M count=4 iflag=direct'''
        for _ in range(2):
            self.machine.run(script)

    def test_the_driver_is_unbound_and_bound_again(self):
        script = '''
            address=$(basename $(readlink /sys/class/nvme/nvme0/device))
            echo $address >/sys/bus/pci/drivers/nvme/unbind && [ ! -e /dev/nvme0n1 ] &&
            echo $address >/sys/bus/pci/drivers/nvme/bind && until [ -b /dev/nvme0n1 ]; do sleep 0.1; done
            dd if=/dev/nvme0n1 of=/dev/null bs=1M count=4 iflag=direct'''
        for _ in range(2):
            self.machine.run(script)

    def test_nvme_cli_reads_what_the_controller_says_of_itself(self):
        self.assertRegex(self.machine.run('nvme id-ctrl /dev/nvme0').output, r'mn\s+: gangway NVMe')
        self.assertRegex(self.machine.run('nvme id-ns /dev/nvme0n1').output, r'nsze\s+: 0x30000')
        self.assertRegex(self.machine.run('nvme list-ns /dev/nvme0').output, r'\[\s*0\]:0x1')
        self.assertIn('gangway NVMe', self.machine.run('nvme list').output)
        smart = self.machine.run('nvme smart-log /dev/nvme0').output
        self.assertRegex(smart, r'critical_warning\s+: 0')
        self.assertRegex(smart, r'media_errors\s+: 0')
        self.machine.run('nvme error-log /dev/nvme0 && nvme fw-log /dev/nvme0')
        for feature in (1, 2, 4, 6, 7, 8, 9, 10, 11):
            self.assertIn(f'get-feature:{feature:#04x}',
                          self.machine.run(f'nvme get-feature /dev/nvme0 -f {feature}').output)
        self.machine.run('nvme get-feature /dev/nvme0 -n 1 -f 5')  # this one belongs to a namespace
        self.assertRegex(self.machine.run('nvme get-feature /dev/nvme0 -f 7').output,
                         f'value:0x0*{CPUS - 1:x}000{CPUS - 1:x}')

    def test_the_write_cache_is_switched_by_a_feature(self):
        self.machine.run('nvme set-feature /dev/nvme0 -f 6 -V 0')
        self.assertRegex(self.machine.run('nvme get-feature /dev/nvme0 -f 6').output, r'value:0x?0+\b')
        self.machine.run('nvme set-feature /dev/nvme0 -f 6 -V 1')
        self.assertRegex(self.machine.run('nvme get-feature /dev/nvme0 -f 6').output, r'value:0x?0*1\b')

    def test_a_format_is_refused_and_changes_nothing(self):
        self.machine.run('echo untouched | dd of=/dev/nvme0n1 conv=sync bs=512 oflag=direct')
        refused = self.machine.run('nvme format /dev/nvme0n1 --force --lbaf=0', expect=None)
        self.assertNotEqual(refused.status, 0)
        self.assertRegex(refused.output, r'(?i)invalid (command )?opcode')
        self.assertIn('untouched', self.machine.run('dd if=/dev/nvme0n1 bs=512 count=1 iflag=direct').output)

    def test_a_reset_in_the_middle_of_io_loses_none(self):
        self.machine.run(f'''{WAIT_FOR_IO}
            fio --name=io --filename=/dev/nvme0n1 --size=16m --rw=randwrite --bs=4k --iodepth=8 --ioengine=libaio \\
                --direct=1 --verify=crc32c --randseed=7 &
            for round in 1 2 3; do wait_for_io nvme0n1; nvme reset /dev/nvme0 || exit 9; done
            wait $!''')

    def test_lspci_reads_a_sane_device(self):
        address = self.machine.run('basename $(readlink /sys/class/nvme/nvme0/device)').output.strip()
        text = lspci.describe(self.machine, address)
        self.assertRegex(text, r'MSI-X: Enable\+ Count=\d+ Masked-')
        self.assertRegex(text, r'Express \(v2\) Endpoint')
        self.assertRegex(text, r'FLReset\+')
        self.assertRegex(text, r'Memory at \w+ \(64-bit, non-prefetchable\)')
        self.assertIn('Kernel driver in use: nvme', text)
        self.assertEqual(lspci.oddities(text), [], text)


if __name__ == '__main__':
    unittest.main()
