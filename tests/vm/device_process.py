"""`gangway serve`, as the tests run it."""

import os
import pathlib
import re
import resource
import select
import shutil
import subprocess
import tempfile
import time

from machine import PATIENCE, PROJECT

GANGWAY = pathlib.Path(os.environ.get('GANGWAY', PROJECT / 'build/test/gangway'))


class DeviceProcess:
    """with DeviceProcess('nvme', disks=2) as process: ... process.socket(0), process.disk(0)"""

    def __init__(self, kind, *arguments, disks=0, disk_mib=96, sockets=None, largest_file_mib=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='gangway-vm-serve-'))
        self._log = self.folder / 'log'
        self.sockets = sockets or disks or 1
        command = [GANGWAY, 'serve', kind]
        for index in range(self.sockets):
            command += ['--socket', self.socket(index)]
        for index in range(disks):
            with self.disk(index).open('wb') as image:
                image.truncate(disk_mib << 20)
            command += ['--disk', self.disk(index)]
        limit = None if largest_file_mib is None else (largest_file_mib << 20, resource.RLIM_INFINITY)
        with self._log.open('wb') as log:
            self._process = subprocess.Popen([str(word) for word in [*command, *arguments]], stdin=subprocess.DEVNULL,
                                             stdout=subprocess.PIPE, stderr=log, bufsize=0)  # see select below
        if limit is not None:
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, limit)
        self._wait_until_ready()

    def socket(self, index=0):
        return self.folder / f'device{index}.sock'

    def disk(self, index=0):
        return self.folder / f'disk{index}.img'

    def log(self):
        return self._log.read_text(errors='replace')

    def wait_for_log(self, text):
        """What the process says about a client that has gone may come after the client."""
        wait_until(lambda: text in self.log(), lambda: f'{text!r} in the log of the device process:\n{self.log()}')

    def descriptors(self):
        return len(os.listdir(f'/proc/{self._process.pid}/fd'))

    def resident_kib(self):
        status = pathlib.Path(f'/proc/{self._process.pid}/status').read_text()
        return int(re.search(r'VmRSS:\s+(\d+)', status).group(1))

    def locks_on_disks(self):
        images = {str(self.disk(index).stat().st_ino) for index in range(self.sockets) if self.disk(index).exists()}
        held = pathlib.Path('/proc/locks').read_text().splitlines()
        return [line for line in held if line.split()[-3].split(':')[-1] in images]

    def stop(self):
        """In order; fails if the process had died or ends otherwise."""
        early = self._process.poll()
        self._process.terminate()
        status = self._process.wait(PATIENCE)
        if early is not None or status != 0:
            raise AssertionError(f'the device process ended with status {status}, by itself: {early is not None}\n'
                                 f'{self.log()}')

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        try:
            if failed is None:
                self.stop()
            else:
                print(f'--- the device process said\n{self.log()}')
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_ready(self):
        for _ in range(self.sockets):
            if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
                raise AssertionError(f'the device process is not ready\n{self.log()}')
            if not self._process.stdout.readline().startswith(b'ready: '):
                raise AssertionError(f'the device process does not start\n{self.log()}')


def wait_until(holds, what):
    """Polls for what another process does soon; `what` says what was waited for."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f'waited in vain for {what()}')
        time.sleep(0.05)
