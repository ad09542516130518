"""The conformance suite on drivers of the kernel: mtty, its sample of a migration driver, and a device without migration."""

import json
import os
import pathlib
import re
import unittest

import driver_image
from machine import PROJECT, Machine

GANGWAY = pathlib.Path(os.environ.get('GANGWAY_STATIC', PROJECT / 'build/static/gangway'))
MTTY = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'
PLAIN = '0000:00:0a.0'  # a PCI device that vfio-pci serves and that does not migrate

MINUTES = 60
PATIENCE = 20 * MINUTES  # for the whole suite, where every act may have to run into its time limit

IOMMU = {'driver': 'intel-iommu', 'intremap': 'off'}
EDU = {'driver': 'edu', 'addr': '0a.0'}


class DriverMachine(Machine):
    append = 'intel_iommu=on'
    panics = ('Kernel panic',)  # a guest that goes on after an oops is as good as any: that is what the suite is for

    def __init__(self, image, devices=(IOMMU, EDU), files=None, arguments=()):
        image.prepare()
        self.kernel = image.KERNEL
        super().__init__('driver', devices=devices, memory_mib=512, shared_memory=False, initramfs=image.INITRAMFS,
                         files={'/bin/gangway': GANGWAY, **(files or {})}, arguments=arguments)

    def bind(self, address):
        """Gives a PCI device that has no driver to vfio-pci."""
        self.run(f'''
            echo vfio-pci > /sys/bus/pci/devices/{address}/driver_override
            echo {address} > /sys/bus/pci/drivers_probe''')


def documented_findings():
    """The clauses of docs/findings.md: its headings name them."""
    text = (PROJECT / 'docs/findings.md').read_text()
    return {clause for heading in re.findall(r'^### (.*)$', text, re.M)
            for clause in re.findall(r'\b[A-Z0-9]+(?:-[A-Z0-9]+)+\b', heading)}


class DriverTest(unittest.TestCase):
    image = driver_image
    target = f'vfio:{MTTY}'

    def setUp(self):
        self.machine = DriverMachine(self.image)
        self.addCleanup(self.machine.kill)

    def make_mtty(self):
        self.machine.run(f'echo {MTTY} > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create')

    def check(self, arguments):
        """What the suite finds. It ends by itself or, where a thread of it is stuck in the driver, with its report."""
        self.machine.run(f'''
            (gangway check {arguments} --output /run/report.json > /run/said 2>&1; echo $? > /run/status) &
            for second in $(seq {PATIENCE}); do
              [ -s /run/status ] && break
              [ -s /run/report.json ] && sleep 10 && break
              sleep 1
            done''', patience=2 * PATIENCE)
        report = self.machine.run('cat /run/report.json || cat /run/said', patience=PATIENCE).output
        self.assertTrue(report.startswith('{'), f'the suite did not end:\n{report}\n{self.machine.tail()}')
        return json.loads(report)

    def test_mtty_is_described(self):
        self.make_mtty()
        described = json.loads(self.machine.run(f'gangway inspect {self.target} --json').output)
        self.assertEqual(described['identity']['vendor'], '0x4348')
        self.assertEqual(described['migration']['flags'], 7)
        self.assertEqual(described['migration']['state'], 'RUNNING')
        self.assertEqual({feature['name'] for feature in described['features']},
                         {'MIGRATION', 'MIG_DEVICE_STATE', 'MIG_DATA_SIZE', 'DMA_LOGGING_START', 'DMA_LOGGING_STOP',
                          'DMA_LOGGING_REPORT'})

    def test_the_suite_finds_in_mtty_what_is_documented(self):
        self.make_mtty()
        report = self.check(self.target)
        found = {clause['id']: clause for clause in report['clauses'] if clause['verdict'] == 'fail'}
        print('\n'.join(f'{name}: {test["name"]}: {test["message"]}' for name, clause in found.items()
                        for test in clause['tests'] if test['verdict'] == 'fail'), flush=True)
        self.assertEqual(set(found), documented_findings())
        self.assertGreater(report['summary']['passed'], len(found))

    def test_a_device_without_migration_is_reported_as_such(self):
        self.machine.bind(PLAIN)
        said = self.machine.run(f'gangway inspect vfio:{PLAIN}', expect=2).output
        self.assertIn('its IOMMU remaps no interrupts', said)
        self.machine.run('echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts')
        described = json.loads(self.machine.run(f'gangway inspect vfio:{PLAIN} --json').output)
        self.assertEqual(described['identity']['vendor'], '0x1234')
        self.assertIsNone(described['migration']['revision'])
        self.assertIn('the driver does not have it', described['migration']['why'])
        report = self.check(f'vfio:{PLAIN}')
        verdicts = {clause['id']: clause['verdict'] for clause in report['clauses']}
        self.assertEqual([name for name, verdict in verdicts.items() if verdict == 'fail'], [])
        self.assertEqual(verdicts['FSM-ARC'], 'not_supported')
        self.assertIsNone(report['flags'])

    def test_what_the_kernel_lacks_is_said(self):
        self.make_mtty()
        said = self.machine.run('gangway inspect /dev/vfio/devices/vfio0', expect=2).output
        self.assertIn('this kernel has no iommufd: use vfio:', said)
        said = self.machine.run(f'gangway inspect vfio:{PLAIN}', expect=2).output
        self.assertIn(f'bind {PLAIN} to a VFIO driver', said)

    def test_nobody_needs_to_be_root(self):
        self.make_mtty()
        self.machine.run('''
            mkdir -p /etc
            echo 'somebody:x:1000:1000::/:/bin/sh' > /etc/passwd
            chmod 666 /dev/vfio/vfio''')
        inspect = f"su somebody -c 'gangway inspect {self.target}'"
        said = self.machine.run(inspect, expect=2).output
        self.assertRegex(said, r'/dev/vfio/\d+: permission denied: as root, chown USER /dev/vfio/\d+')
        self.machine.run('chown somebody /dev/vfio/[0-9]*')
        self.machine.run(inspect)


if __name__ == '__main__':
    unittest.main()
