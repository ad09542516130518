"""Linux's 8250 driver finds our serial card, and text goes both ways."""

import contextlib
import pathlib
import re
import shutil
import socket
import tempfile
import unittest

from device_process import DeviceProcess
from machine import PATIENCE, Machine, vfio_user

TEXT = ''.join(f'{number:05} the quick brown fox jumps over the lazy dog\n' for number in range(40))


@contextlib.contextmanager
def listener():
    """Somebody for the card's first port to connect to."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix='gangway-vm-line-'))
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(folder / 'line'))
            listening.listen(1)
            listening.settimeout(PATIENCE)
            yield listening
    finally:
        shutil.rmtree(folder)


class SerialTest(unittest.TestCase):
    """The first port leads to this program, the second back to itself."""

    @classmethod
    def setUpClass(cls):
        listening = cls.enterClassContext(listener())
        cls.process = cls.enterClassContext(DeviceProcess('serial', '--line', f'unix:{listening.getsockname()}'))
        cls.line = cls.enterClassContext(listening.accept()[0])
        cls.line.settimeout(PATIENCE)
        cls.machine = cls.enterClassContext(Machine('serial', devices=[vfio_user(cls.process.socket(), id='card')]))
        found = cls.machine.run('dmesg | grep 16550A | grep 0000:').output
        cls.ports = re.findall(r'(ttyS\d+) at I/O', found)
        for port in cls.ports:  # which stay open: the driver clears what had come when it opens one
            cls.machine.run(f'sleep 1000000 <>/dev/{port} & stty -F /dev/{port} 115200 raw -echo')

    def tearDown(self):
        self.assertEqual(self.machine.kernel_complaints(), '')

    def test_the_driver_finds_two_ports(self):
        self.assertEqual(len(self.ports), 2, self.machine.run('dmesg | grep tty').output)

    def test_text_goes_out(self):
        before = self.interrupts()
        self.machine.start(f"cat >/dev/{self.ports[0]} <<'END'\n{TEXT}END\n")
        self.assertEqual(self.receive(len(TEXT)), TEXT)
        self.machine.finish()
        self.assertGreater(self.interrupts(), before)

    def test_text_comes_in(self):
        before = self.interrupts()
        self.machine.start(f'head -c {len(TEXT)} /dev/{self.ports[0]}')
        self.line.sendall(TEXT.encode())
        self.assertEqual(self.machine.finish().output, TEXT)
        self.assertGreater(self.interrupts(), before)

    def test_text_goes_both_ways_at_once(self):
        self.machine.start(f"cat >/dev/{self.ports[0]} <<'END' &\n{TEXT}END\n"
                           f'head -c {len(TEXT)} /dev/{self.ports[0]}; wait')
        self.line.sendall(TEXT.encode())
        self.assertEqual(self.receive(len(TEXT)), TEXT)
        self.assertEqual(self.machine.finish().output, TEXT)

    def test_what_leaves_a_port_that_leads_to_itself_comes_in(self):
        self.machine.run(f"head -c {len(TEXT)} /dev/{self.ports[1]} >/run/came &\n"
                         f"cat >/run/sent <<'END'\n{TEXT}END\ncat /run/sent >/dev/{self.ports[1]}; wait; "
                         'cmp /run/sent /run/came')

    def interrupts(self):
        """Those that were counted for the port's line."""
        table = self.machine.run('cat /proc/interrupts').output.splitlines()
        cpus = len(table[0].split())
        return sum(int(count) for line in table if self.ports[0] in line for count in line.split()[1:1 + cpus])

    def receive(self, length):
        received = b''
        while len(received) < length:
            received += self.line.recv(length - len(received))
        return received.decode()


class SerialPluggingTest(unittest.TestCase):
    def test_a_card_is_unplugged_and_plugged_again(self):
        with DeviceProcess('serial') as process, \
                Machine('plugging', devices=[{'driver': 'pcie-root-port', 'id': 'bay', 'chassis': 1},
                                             vfio_user(process.socket(), id='card', bus='bay')]) as machine:
            for _ in range(2):
                self.assertEqual(machine.run('ls -d /sys/bus/pci/drivers/serial/0000*').output.count('\n'), 1)
                machine.unplug('card')
                machine.run('ls -d /sys/bus/pci/drivers/serial/0000*', expect=1)
                machine.plug(vfio_user(process.socket(), id='card'), bus='bay')
                machine.run('until ls -d /sys/bus/pci/drivers/serial/0000*; do sleep 0.1; done')
            self.assertEqual(machine.kernel_complaints(), '')


if __name__ == '__main__':
    unittest.main()
