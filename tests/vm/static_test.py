"""The static binary runs where nothing else is: no library, no loader, no other program."""

import json
import pathlib
import re
import tempfile
import unittest

import cpio
import guest_image
import machine

PROGRAM = guest_image.PROJECT / 'build/static/gangway'


class Static(unittest.TestCase):
    def setUp(self):
        self.assertTrue(PROGRAM.exists(), f'{PROGRAM} is not there: make static')
        folder = tempfile.TemporaryDirectory(prefix='gangway-vm-static-')
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_is_the_only_program_of_a_machine(self):
        """The kernel starts it as its first program, with its arguments; that it ends is the end of the machine."""
        archive = cpio.Archive()
        archive.add_file('gangway', PROGRAM.read_bytes(), executable=True)
        archive.add_node('dev/console', major=5, minor=1)
        initramfs = self.folder / 'initramfs.cpio'
        initramfs.write_bytes(archive.finish())
        said = machine.boot_to_the_end('static', initramfs, 'rdinit=/gangway -- contract --json', memory_mib=1024)
        printed = re.search(r'^\{.*?^\}', said, re.MULTILINE | re.DOTALL) or re.search(r'\{.*\}', said)
        self.assertTrue(printed, said[-2000:])
        self.assertEqual(json.loads(printed[0])['paths']['7']['RUNNING']['STOP'], ['RUNNING_P2P', 'STOP'])
        self.assertIn('exitcode=0x00000000', said, 'it ended with status 0')

    def test_serves_and_inspects_a_disk_beside_a_shell(self):
        guest_image.prepare()
        initramfs = self.folder / 'initramfs.cpio'
        initramfs.write_bytes(guest_image.bare_archive().finish())
        with machine.Machine('static', memory_mib=1024, files={'bin/gangway': PROGRAM}, initramfs=initramfs) as guest:
            self.assertEqual(guest.run('ls -d /lib* /usr/lib* 2>/dev/null', expect=1).output, '')
            guest.run('''
                truncate -s 16M /tmp/disk.img
                gangway serve nvme --socket /run/disk.sock --disk /tmp/disk.img >/tmp/served 2>&1 &
                until [ -S /run/disk.sock ]; do kill -0 $! || { cat /tmp/served; exit 1; }; usleep 100000; done
            ''')
            shown = json.loads(guest.run('gangway inspect vfio-user:/run/disk.sock --json').output)
            self.assertIn('v2', json.dumps(shown))
            guest.run('kill $(pidof gangway)')


if __name__ == '__main__':
    unittest.main()
