"""How many messages an I/O costs, by how the doorbells are rung."""

import json
import unittest

from device_process import DeviceProcess
from machine import Machine, vfio_user

JOB = ('fio --name=io --filename=/dev/nvme0n1 --rw=randread --bs=4k --size=32m --io_size={size} --ioengine=libaio '
       '--direct=1 --iodepth={depth} --randseed=5 --minimal')
IOS = 1024
SENT = 'vfio_user_send_write'


def commands_read(machine):
    """Read commands that the controller has carried out, by its own count."""
    said = machine.run('nvme smart-log /dev/nvme0 -o json').output
    return int(json.loads(said[said.index('{'):])['host_read_commands'])


def messages_per_io(machine, depth):
    """Of those that QEMU sent, by its own trace."""
    job = JOB.format(size=f'{IOS * 4}k', depth=depth)
    before = commands_read(machine)
    with machine.traced(SENT) as sent:
        done = machine.run(job)
    if int(done.output.splitlines()[-1].split(';')[5]) != IOS * 4:
        raise AssertionError(f'fio did not read {IOS} blocks:\n{done.output}')
    commands = commands_read(machine) - before
    if not IOS * 0.9 < commands < IOS * 1.1:  # the guest may join neighbours, and reads a block or two by itself
        raise AssertionError(f'the controller has carried out {commands} read commands for {IOS} I/Os')
    return sent[0] / commands


def messages_of_a_reset(machine):
    """Whatever way the doorbells are rung, a reset writes registers: the trace must show it."""
    with machine.traced(SENT) as sent:
        machine.run('nvme reset /dev/nvme0')
    return sent[0]


class DoorbellTest(unittest.TestCase):
    def messages(self, doorbells):
        with DeviceProcess('nvme', '--doorbells', doorbells, disks=1) as process, \
                Machine(doorbells, devices=[vfio_user(process.socket())]) as machine:
            counts = {depth: messages_per_io(machine, depth) for depth in (1, 32)}
            self.assertGreater(messages_of_a_reset(machine), 0, f'{SENT} is traced no more')
            self.assertEqual(machine.kernel_complaints(), '')
            machine.power_off()
        print(f'messages for each I/O, doorbells {doorbells}: '
              + ', '.join(f'{count:.3f} at depth {depth}' for depth, count in counts.items()), flush=True)
        return counts

    def test_mapped_doorbells_need_no_messages(self):
        for count in self.messages('mapped').values():
            self.assertLess(count, 0.05)

    def test_shadow_doorbells_need_fewer_messages_than_registers(self):
        # Without them it is two: one for the submission, one for the completion. A head that is taken rings nobody.
        for count in self.messages('messages').values():
            self.assertLess(count, 1.3)
            self.assertGreater(count, 0)  # a controller that has gone to sleep is rung


if __name__ == '__main__':
    unittest.main()
