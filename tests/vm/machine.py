"""A guest under QEMU: boot with these devices, run this script, give me its output and status.

    with Machine('name', devices=[vfio_user('/run/a.sock')]) as machine:
        print(machine.run('nvme list').output)

A guest that panics or does not answer in time fails the test that waits for it, with the end of its console.
"""

import base64
import contextlib
import dataclasses
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import tempfile
import time

import cpio
import guest_image
from guest_image import PROJECT  # noqa: F401 - used by the tests

# Everything takes as long as it takes on a slow, shared machine without KVM; this only ends what hangs.
PATIENCE = 180  # seconds
CONSOLE_TAIL = 60  # lines

# What a kernel says when something is wrong, and what it says all the same on an emulated machine that is slow.
COMPLAINT = r'error|timeout|abort|BUG:|WARNING:|hung|corrupt|fail'
NOISE = r'TSC calibration|calibrate_delay|ACPI|RAS: |ERST'

PANICS = ('Kernel panic', 'BUG: ', 'Oops: ')


class Hang(AssertionError):
    """The guest did not answer."""


class Failed(AssertionError):
    """A script ended with a status that was not expected."""


# For scripts: `wait_for_io nvme0n1` returns when the disk has done 100 more I/Os and has some under way.
WAIT_FOR_IO = '''
ios_done() { set -- $(cat /sys/block/$1/stat); echo $(($1 + $5)); }
ios_under_way() { set -- $(cat /sys/block/$1/stat); echo $9; }
wait_for_io() {
    enough=$(($(ios_done $1) + 100))
    until [ $(ios_done $1) -ge $enough ] && [ $(ios_under_way $1) -gt 0 ]; do usleep 10000; done
}
'''


@dataclasses.dataclass
class Result:
    status: int
    output: str


def vfio_user(path, **properties):
    """QEMU's words for a device of ours. It would give up on one that needs 5 s for an answer, as a busy host may."""
    return {'driver': 'vfio-user-pci', 'socket': {'type': 'unix', 'path': str(path)}, 'x-msg-timeout': 1000 * PATIENCE,
            **properties}


class Machine:
    # What boots, more for its command line, and what on its console ends a wait; a deriving machine may have others.
    kernel = guest_image.KERNEL
    append = ''
    panics = PANICS

    def __init__(self, name, devices=(), cpus=2, memory_mib=256, shared_memory=True, files=None, arguments=(),
                 events=(), initramfs=None):
        """`files` are more files of the guest: path in the guest -> path here, executable if they are so here.
        `initramfs` is what they are added to, guest_image.INITRAMFS if it is not given.
        `events` are trace events of QEMU; see traced()."""
        self.name = name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f'gangway-vm-{name}-'))
        self.console = self.folder / 'console'
        self.log = self.folder / 'qemu.log'
        self._base = initramfs
        self._process = None
        self._unread = b''
        self._complaints = []
        try:
            self._start(devices, cpus, memory_mib, shared_memory, files or {}, arguments, events)
        except BaseException:
            self.kill()
            raise

    # --- what a test does with it ---

    def run(self, script, expect=0, patience=PATIENCE):
        """Runs a shell script in the guest; `expect` is its exit status, or None for any."""
        self.start(script)
        return self.finish(script, expect, patience)

    def start(self, script):
        """Lets the script run while the test does something else; finish() has its result."""
        self._agent.sendall(base64.b64encode(script.encode()) + b'\n')

    def busy(self):
        """Whether the script that was started has not ended."""
        return b'\n' not in self._unread and not select.select([self._agent], [], [], 0)[0]

    def finish(self, script='the script', expect=0, patience=PATIENCE):
        status, _, output = self._answer(patience, f'end of: {script}').partition(' ')
        result = Result(int(status), base64.b64decode(output).decode(errors='replace'))
        if expect is not None and result.status != expect:
            raise Failed(f'{self.name}: status {result.status}, not {expect}, of:\n{script}\n{result.output}\n'
                         f'{self.tail()}')
        return result

    def reboot(self):
        self.start('sync; reboot -f')
        self.wait_until_up()

    def wait_until_up(self):
        answer = self._answer(PATIENCE, 'boot')
        if answer != 'ready':
            raise Hang(f'{self.name}: the guest said {answer!r} instead of having booted\n{self.tail()}')

    def plug(self, device, bus):
        self.qmp('device_add', **device, bus=bus)

    def unplug(self, identifier):
        """Asks the guest to let the device go, and returns when it has."""
        self.qmp('device_del', id=identifier)
        self._monitor_wait(lambda message: message.get('event') == 'DEVICE_DELETED'
                           and message['data'].get('device') == identifier, f'unplugging {identifier}')

    def qmp(self, command, **arguments):
        self._monitor.sendall(json.dumps({'execute': command, 'arguments': arguments}).encode())
        answer = self._monitor_wait(lambda message: 'return' in message or 'error' in message, command)
        if 'error' in answer:
            raise Failed(f"{self.name}: {command}: {answer['error']['desc']}")
        return answer['return']

    def kernel_complaints(self):
        """What a healthy guest's kernel does not say, and has not said to an earlier call."""
        said = self.run(f"dmesg | grep -iE '{COMPLAINT}' | grep -vE '{NOISE}' || true").output.splitlines()
        new = [line for line in said if line not in self._complaints]
        self._complaints = said
        return '\n'.join(new)

    @contextlib.contextmanager
    def traced(self, event):
        """Counts an event of QEMU while the block runs: `with machine.traced('vfio_user_send_write') as count: ...`,
        then count[0]."""
        self.qmp('trace-event-set-state', name=event, enable=True)
        before = self.log.read_text(errors='replace').count(event)
        count = [0]
        yield count
        self.qmp('trace-event-set-state', name=event, enable=False)
        count[0] = self.log.read_text(errors='replace').count(event) - before

    # --- its process ---

    def signal(self, number):
        os.kill(self._process.pid, number)

    def power_off(self):
        """By the guest, in order; QEMU ends with it."""
        self.start('sync; poweroff -f')
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Hang(f'{self.name}: QEMU still runs after the guest powered off\n{self.tail()}') from None
        if status != 0:
            raise Failed(f'{self.name}: QEMU ended with status {status}\n{self.tail()}')

    def kill(self):
        """At once, as by kill -9; nothing of it is left."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for end in ('_agent', '_monitor'):
            if hasattr(self, end):
                getattr(self, end).close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def tail(self):
        """The end of the console and what QEMU said."""
        return tail_of(self.console, self.log)

    # --- inside ---

    def _start(self, devices, cpus, memory_mib, shared_memory, files, arguments, events):
        guest_image.prepare()
        command = [*boot_command(self.kernel, self._initramfs(files), f'rdinit=/init {self.append}', self.console),
                   '-smp', str(cpus), *memory_arguments(memory_mib, shared_memory), '-D', self.log]
        listeners = {name: self._listen(name) for name in ('agent', 'monitor')}
        command += ['-chardev', f'socket,id=agent,path={self.folder}/agent',
                    '-device', 'virtio-serial-pci', '-device', 'virtserialport,chardev=agent,name=agent',
                    '-chardev', f'socket,id=monitor,path={self.folder}/monitor',
                    '-mon', 'chardev=monitor,mode=control']
        for event in events:
            command += ['-trace', event]
        for device in devices:
            command += ['-device', json.dumps(device)]
        with self.log.open('ab') as log:
            self._process = subprocess.Popen([str(word) for word in [*command, *arguments]], stdin=subprocess.DEVNULL,
                                             stdout=log, stderr=log, env=guest_image.qemu_environment())
        self._agent = self._accept(listeners['agent'])
        self._monitor = self._accept(listeners['monitor'])
        self._messages = self._monitor.makefile('r')
        self._monitor_wait(lambda message: 'QMP' in message, 'greeting')
        self.qmp('qmp_capabilities')
        self.wait_until_up()

    def _initramfs(self, files):
        base = self._base or guest_image.INITRAMFS
        if not files:
            return base
        more = cpio.Archive()
        for inside, path in files.items():
            more.add_file(inside.lstrip('/'), pathlib.Path(path).read_bytes(), os.access(path, os.X_OK))
        combined = self.folder / 'initramfs.cpio'
        combined.write_bytes(base.read_bytes() + more.finish())
        return combined

    def _listen(self, name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / name))
        listener.listen(1)
        return listener

    def _accept(self, listener):
        with listener:
            end = time.monotonic() + PATIENCE
            while not select.select([listener], [], [], 0.2)[0]:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise Failed(f'{self.name}: QEMU did not start\n{self.tail()}')
            return listener.accept()[0]

    def _answer(self, patience, waited_for):
        """The next line of the guest."""
        end = time.monotonic() + patience
        while b'\n' not in self._unread:
            if select.select([self._agent], [], [], 1)[0]:
                received = self._agent.recv(1 << 20)
                if not received:
                    raise Failed(f'{self.name}: QEMU ended while the test waited for the {waited_for}\n{self.tail()}')
                self._unread += received
                continue
            console = self.console.read_text(errors='replace')
            if time.monotonic() > end or any(panic in console for panic in self.panics):
                raise Hang(f'{self.name}: no {waited_for} (within {patience} s)\n{self.tail()}')
        line, _, self._unread = self._unread.partition(b'\n')
        return line.decode()

    def _monitor_wait(self, wanted, waited_for):
        """The next message of the monitor that is wanted; the others are events that nobody asked for."""
        self._monitor.settimeout(PATIENCE)
        try:
            for line in self._messages:
                message = json.loads(line)
                if wanted(message):
                    return message
        except TimeoutError:
            raise Hang(f'{self.name}: no answer of QEMU to {waited_for}\n{self.tail()}') from None
        raise Failed(f'{self.name}: QEMU ended during {waited_for}\n{self.tail()}')


def boot_to_the_end(name, initramfs, append, memory_mib):
    """The console of a guest whose first program ends by itself, and with it the machine."""
    guest_image.prepare()
    with tempfile.TemporaryDirectory(prefix=f'gangway-vm-{name}-') as folder:
        console, log = (pathlib.Path(folder) / part for part in ('console', 'qemu.log'))
        command = [*boot_command(guest_image.KERNEL, initramfs, f'panic=-1 {append}', console),
                   *memory_arguments(memory_mib, shared=False), '-no-reboot']
        with log.open('wb') as said:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=said,
                                       stderr=said, env=guest_image.qemu_environment())
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Hang(f'{name}: the machine has not ended within {PATIENCE} s\n{tail_of(console, log)}') from None
        finally:
            process.kill()
            process.wait()
        if status != 0:
            raise Failed(f'{name}: QEMU ended with status {status}\n{tail_of(console, log)}')
        return console.read_text(errors='replace')


def boot_command(kernel, initramfs, append, console):
    return [*guest_image.qemu_command(), '-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'q35',
            '-accel', 'tcg,thread=multi', '-cpu', 'max', '-kernel', kernel, '-initrd', initramfs,
            '-append', f'console=ttyS0 quiet no_timer_check {append}', '-serial', f'file:{console}']


def tail_of(console, log):
    lines = console.read_text(errors='replace').splitlines() if console.exists() else []
    said = log.read_text(errors='replace')[-2000:] if log.exists() else ''
    return '\n'.join(['--- the guest\'s console', *lines[-CONSOLE_TAIL:], '--- QEMU', said])


def memory_arguments(mib, shared):
    if not shared:
        return ['-m', str(mib)]
    return ['-m', str(mib), '-object', f'memory-backend-memfd,id=ram,size={mib}M,share=on',
            '-machine', 'memory-backend=ram']

