"""Linux's 8250 driver finds our serial card, and text goes both ways."""

import contextlib
import pathlib
import re
import select
import shutil
import signal
import socket
import tempfile
import unittest

import lspci
from device_process import DeviceProcess, wait_until
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


def open_ports(machine):
    """The names of the card's two ports. They stay open: the driver clears what had come when it opens one."""
    found = re.findall(r'(ttyS\d+) at I/O', machine.run('dmesg | grep 16550A | grep 0000:').output)[-2:]
    for port in found:
        machine.run(f'sleep 1000000 <>/dev/{port} & stty -F /dev/{port} 115200 raw -echo')
    return found


def send(port, text):
    """A script that sends it out by the port."""
    return f"cat >/dev/{port} <<'END'\n{text}END\n"


def both_ways(port, text):
    """A script that sends it, and prints as much of what comes in meanwhile."""
    return f"cat >/dev/{port} <<'END' &\n{text}END\nhead -c {len(text)} /dev/{port}; wait"


def receive(line, length):
    received = b''
    while len(received) < length:
        more = line.recv(length - len(received))
        if not more:
            raise AssertionError(f'the line ended after {received!r}')
        received += more
    return received.decode()


class SerialTest(unittest.TestCase):
    """The first port leads to this program, the second back to itself."""

    @classmethod
    def setUpClass(cls):
        listening = cls.enterClassContext(listener())
        cls.process = cls.enterClassContext(DeviceProcess('serial', '--line', f'unix:{listening.getsockname()}'))
        cls.line = cls.enterClassContext(listening.accept()[0])
        cls.line.settimeout(PATIENCE)
        cls.machine = cls.enterClassContext(Machine('serial', devices=[vfio_user(cls.process.socket(), id='card')]))
        cls.ports = open_ports(cls.machine)

    def tearDown(self):
        self.assertEqual(self.machine.kernel_complaints(), '')

    def test_the_driver_finds_two_ports(self):
        self.assertEqual(len(self.ports), 2, self.machine.run('dmesg | grep tty').output)

    def test_text_goes_out(self):
        before = self.interrupts()
        self.machine.start(send(self.ports[0], TEXT))
        self.assertEqual(receive(self.line, len(TEXT)), TEXT)
        self.machine.finish()
        self.assertGreater(self.interrupts(), before)

    def test_text_comes_in(self):
        before = self.interrupts()
        self.machine.start(f'head -c {len(TEXT)} /dev/{self.ports[0]}')
        self.line.sendall(TEXT.encode())
        self.assertEqual(self.machine.finish().output, TEXT)
        self.assertGreater(self.interrupts(), before)

    def test_text_goes_both_ways_at_once(self):
        self.machine.start(both_ways(self.ports[0], TEXT))
        self.line.sendall(TEXT.encode())
        self.assertEqual(receive(self.line, len(TEXT)), TEXT)
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

    def test_lspci_reads_a_sane_device(self):
        address = self.machine.run('basename /sys/bus/pci/drivers/serial/0000*').output.strip()
        text = lspci.describe(self.machine, address)
        self.assertRegex(text, r'Class 0700: .* \(prog-if 02\)')
        self.assertRegex(text, r'Interrupt: pin A routed to IRQ \d+')
        self.assertRegex(text, r'I/O ports at \w+')
        self.assertIn('Kernel driver in use: serial', text)
        self.assertEqual(lspci.oddities(text), [], text)


class SerialLifeTest(unittest.TestCase):
    """Guests, drivers and machines end in whatever way, and the next one finds the card as the first did."""

    def setUp(self):
        listening = self.enterContext(listener())
        self.process = self.enterContext(DeviceProcess('serial', '--line', f'unix:{listening.getsockname()}'))
        self.line = self.enterContext(listening.accept()[0])
        self.line.settimeout(PATIENCE)

    def boot(self, name):
        return Machine(name, devices=[vfio_user(self.process.socket())])

    def assert_text_goes_both_ways(self, machine):
        ports = open_ports(machine)
        self.assertEqual(len(ports), 2)
        machine.start(both_ways(ports[0], TEXT))
        self.line.sendall(TEXT.encode())
        self.assertEqual(receive(self.line, len(TEXT)), TEXT)
        self.assertEqual(machine.finish().output, TEXT)

    def test_a_rebooted_guest_finds_its_ports(self):
        with self.boot('rebooted') as machine:
            self.assert_text_goes_both_ways(machine)
            machine.reboot()
            self.assert_text_goes_both_ways(machine)
            self.assertEqual(machine.kernel_complaints(), '')
            machine.power_off()

    def test_the_driver_is_unbound_and_bound_again(self):
        with self.boot('rebound') as machine:
            for _ in range(2):
                self.assert_text_goes_both_ways(machine)
                machine.run('''
                    address=$(basename /sys/bus/pci/drivers/serial/0000*)
                    killall sleep  # which holds the ports open
                    echo $address >/sys/bus/pci/drivers/serial/unbind && [ ! -e /sys/bus/pci/drivers/serial/$address ] &&
                    echo $address >/sys/bus/pci/drivers/serial/bind && [ -e /sys/bus/pci/drivers/serial/$address ]''')
            self.assert_text_goes_both_ways(machine)
            self.assertEqual(machine.kernel_complaints(), '')
            machine.power_off()

    def test_a_guest_that_is_killed_in_the_middle_of_text_leaves_the_card_to_the_next(self):
        unused = self.process.descriptors()
        with self.boot('victim') as victim:
            victim.start(f'yes >/dev/{open_ports(victim)[0]}')
            receive(self.line, 1000)
            victim.signal(signal.SIGKILL)
        wait_until(lambda: self.process.descriptors() == unused,
                   lambda: f'{self.process.descriptors()} descriptors to become {unused} again')
        while select.select([self.line], [], [], 0)[0]:  # the victim's last words
            self.line.recv(4096)
        with self.boot('heir') as heir:
            self.assert_text_goes_both_ways(heir)
            self.assertEqual(heir.kernel_complaints(), '')
            heir.power_off()

    def test_a_guest_that_is_stopped_in_the_middle_of_text_loses_none(self):
        text = 16 * TEXT
        with self.boot('sleeper') as machine:
            machine.start(both_ways(open_ports(machine)[0], text))
            self.line.sendall(text.encode())
            came = receive(self.line, 1)
            machine.signal(signal.SIGSTOP)
            self.assertTrue(machine.busy(), 'it was stopped after its text had ended')
            while select.select([self.line], [], [], 10)[0]:  # until nothing has come for so long
                came += receive(self.line, 1)
            self.assertLess(len(came), len(text))
            machine.signal(signal.SIGCONT)
            self.assertEqual(came + receive(self.line, len(text) - len(came)), text)
            self.assertEqual(machine.finish().output, text)
            self.assertEqual(machine.kernel_complaints(), '')
            machine.power_off()


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
