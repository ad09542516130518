"""What becomes of a device when QEMU migrates its guest today, and how the log shows it; docs/qemu.md says the same."""

import unittest

from device_process import DeviceProcess, wait_until
from machine import Machine, vfio_user

NOT_ASKED = 'has not asked whether it can migrate'
NOT_SAVED = 'had not saved the device'


class MigrationTest(unittest.TestCase):
    def test_qemu_migrates_the_guest_without_the_device_and_the_log_says_so(self):
        with DeviceProcess('nvme', disks=1) as process:
            with Machine('migrated', devices=[vfio_user(process.socket())]) as machine:
                machine.run('dd if=/dev/nvme0n1 of=/dev/null bs=1M count=1 iflag=direct')
                process.wait_for_log(NOT_ASKED)
                machine.qmp('migrate', uri=f'file:{machine.folder}/stream')
                wait_until(lambda: machine.qmp('query-migrate')['status'] in ('completed', 'failed'),
                           lambda: f"the migration to end: {machine.qmp('query-migrate')}")
                self.assertEqual(machine.qmp('query-migrate')['status'], 'completed')
                self.assertNotIn(NOT_SAVED, process.log())
            process.wait_for_log(NOT_SAVED)
            self.assertEqual(process.log().count(NOT_ASKED), 1)
            self.assertEqual(process.log().count(NOT_SAVED), 1)


if __name__ == '__main__':
    unittest.main()
