"""A guest behind `gangway record`: it works as without, and the recording tells what QEMU did."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from device_process import DeviceProcess, GANGWAY, wait_until
from machine import Machine, PATIENCE, vfio_user

BOOT = 'qemu-11.1-vfio-user-boot'  # in profiles/
PROFILED = re.match(r'qemu-(\d+\.\d+)-', BOOT)[1]  # the backports have one version at a time, and not always this one
# A folder to leave the recordings in, for who wants to look at one: GANGWAY_RECORDINGS=DIR tests/vm/run recording
KEEP = os.environ.get('GANGWAY_RECORDINGS')


@contextlib.contextmanager
def recorder(target):
    """(socket, file) of a recorder in front of a device; it has ended in order when the block does."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix='gangway-vm-record-'))
    socket, trace = folder / 'recorder.sock', folder / 'boot.trace'
    process = subprocess.Popen([GANGWAY, 'record', '--listen', socket, '--to', f'vfio-user:{target}', '--out', trace],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, lambda: 'the recorder to listen')
        yield socket, trace, process
        if process.poll() is None:
            process.terminate()
        if process.wait(PATIENCE) != 0:
            raise AssertionError(f'the recorder ended with status {process.returncode}')
        if KEEP:
            shutil.copy(trace, pathlib.Path(KEEP) / f'{pathlib.Path(target).parent.name}.trace')
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def acts_of(trace, *words):
    shown = subprocess.run([GANGWAY, 'trace', 'show', trace, '--json', *words], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in shown.stdout.splitlines()][1:]


def profile_words(*words):
    """(exit status, output) of `gangway profile`."""
    made = subprocess.run([GANGWAY, 'profile', *words], capture_output=True, text=True)
    return made.returncode, made.stdout + made.stderr


def version_of(machine):
    """Of QEMU: '11.1'."""
    version = machine.qmp('query-version')['qemu']
    return f"{version['major']}.{version['minor']}"


class RecordingTest(unittest.TestCase):
    def test_a_boot_of_qemu_is_recorded_and_the_guest_works_as_without(self):
        with DeviceProcess('nvme', disks=1) as process, recorder(process.socket()) as (socket, trace, _):
            with Machine('recorded', cpus=4, devices=[vfio_user(socket)]) as machine:
                self.assertIn('4/0/0 default/read/poll queues', machine.run('dmesg | grep nvme0:').output)
                machine.run('mkfs.ext4 -q /dev/nvme0n1 && mount -t ext4 /dev/nvme0n1 /mnt && '
                            'head -c 8m /dev/urandom >/mnt/kept && md5sum /mnt/kept >/run/sum && sync && '
                            'echo 3 >/proc/sys/vm/drop_caches && md5sum -c /run/sum && umount /mnt')
                self.assertEqual(machine.kernel_complaints(), '')
                version = version_of(machine)
                machine.power_off()
            acts = acts_of(trace)
            did = [act['act'] for act in acts]
            self.assertEqual(did[:2], ['open', 'negotiate'])
            self.assertLessEqual({'get_info', 'get_region', 'get_irq', 'set_irqs', 'map_dma', 'read_region', 'write_region',
                                  'reset', 'close'}, set(did))
            self.assertEqual([act for act in acts if act['fields'].get('unanswered')], [])
            self.assertEqual([act for act in acts if act['fields'].get('error') not in (None, 'ENOTTY', 'EINVAL')], [])
            self.assert_boots_as_shipped(trace, process, version)

    def assert_boots_as_shipped(self, trace, process, version):
        """The profile that is derived is the one in profiles/, it plays, and the recording replays on the device."""
        target = f'vfio-user:{process.socket()}'
        for words in (['check', target, '--profile', BOOT], ['replay', trace, target]):
            done = subprocess.run([GANGWAY, *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(profile_words(trace, '--against', 'qemu-10-v2')[0], 1)
        status, said = profile_words(trace, '--against', BOOT)
        if status != 0 and version != PROFILED:
            self.skipTest(f'this is QEMU {version} and boots otherwise than QEMU {PROFILED}, of which profiles/{BOOT} is. '
                          f'Nothing is wrong with the device; make a profile of {version} from a recording '
                          f'(docs/replay.md) and name it in BOOT. What differs:\n{said}')
        self.assertEqual(status, 0, said + profile_words(trace)[1])

    def test_two_boots_negotiate_and_set_up_alike(self):
        traces = []
        with contextlib.ExitStack() as stack:
            for number in range(2):
                process = stack.enter_context(DeviceProcess('serial'))
                socket, trace, _ = stack.enter_context(recorder(process.socket()))
                traces.append(trace)
                with Machine(f'alike{number}', devices=[vfio_user(socket)]) as machine:
                    version = version_of(machine)
                    machine.power_off()
            words = ['--act', 'negotiate,get_info,get_region,get_irq,set_state']
            same = subprocess.run([GANGWAY, 'trace', 'diff', *traces, *words], capture_output=True, text=True)
            self.assertEqual(same.returncode, 0, same.stdout + same.stderr)
            self.assert_boots_as_shipped(trace, process, version)

    def test_a_recorder_that_is_killed_leaves_its_recording(self):
        with DeviceProcess('nvme', disks=1) as process:
            with contextlib.suppress(AssertionError), recorder(process.socket()) as (socket, trace, running):
                with Machine('killed', devices=[vfio_user(socket)]) as machine:
                    machine.run('dd if=/dev/nvme0n1 of=/dev/null bs=1M count=4 iflag=direct')
                    running.kill()
                    running.wait()
                    acts = acts_of(trace)
                    self.assertGreater(len(acts), 100)


if __name__ == '__main__':
    unittest.main()
