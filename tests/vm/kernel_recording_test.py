"""`gangway record --kernel` of programs that drive a real VFIO driver, mtty: static, with forks and with threads."""

import json
import unittest

import driver_image
from driver_test import MTTY, DriverMachine

# One device, one session, and everything that has a form of its own in the kernel's interface.
MIGRATE = '''
set STOP_COPY
read all by 4096
keep
set STOP
set RESUMING
write all
set RUNNING
get
'''


class KernelRecordingTest(unittest.TestCase):
    image = driver_image
    target = f'vfio:{MTTY}'
    unopened = 1  # descriptors that come by no open: the device's, from its group

    @classmethod
    def setUpClass(cls):
        cls.machine = DriverMachine(cls.image)
        cls.addClassCleanup(cls.machine.kill)
        cls.machine.run(f'''
            echo {MTTY} > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create
            cat > /run/migrate <<'END'\n{MIGRATE}END''')

    def record(self, command, expect=0):
        """Runs the command, recorded; (what it said, the acts)."""
        said = self.machine.run(f'rm -f /run/trace; gangway record --kernel --out /run/trace -- {command}', expect)
        return said.output, self.acts()

    def acts(self, *words):
        shown = self.machine.run(f'gangway trace show /run/trace --json {" ".join(words)} 2>/dev/null').output
        return [act for act in map(json.loads, shown.splitlines()) if 'act' in act]

    def of_device(self, acts):
        """Those about the one device that was looked at."""
        (number,) = {act['connection'] for act in acts if act['act'] == 'get_info'}
        return [act for act in acts if act['connection'] == number]

    def test_what_a_static_program_does_to_a_driver_is_recorded_ioctl_by_ioctl(self):
        said, acts = self.record(f'gangway inspect {self.target} --json')
        described = json.loads(said[said.index('{'):said.rindex('}') + 1])
        fields = {act['act']: act['fields'] for act in self.of_device(acts)}
        self.assertLessEqual({'get_info', 'get_region', 'get_irq', 'read_region', 'get_migration_flags', 'get_state',
                              'probe_feature'}, set(fields))
        # What the program said is what the recording has.
        self.assertEqual(fields['get_migration_flags'], {'flags': described['migration']['flags']})
        self.assertEqual(fields['get_state'], {'state': described['migration']['state']})
        identity = [act['fields']['data'] for act in self.of_device(acts)
                    if act['act'] == 'read_region' and act['fields']['offset'] == 0]
        vendor = int(described['identity']['vendor'], 16).to_bytes(2, 'little').hex()
        self.assertTrue(any(data.startswith(vendor) for data in identity), identity)
        opened = [act['fields']['what'] for act in acts if act['act'] == 'open']
        self.assertTrue(any('/dev/vfio' in path for path in opened), opened)
        self.assertEqual(sum(act['act'] == 'close' for act in acts), len(opened) + self.unopened)

    def test_a_migration_is_recorded_compared_derived_and_replayed(self):
        _, acts = self.record(f'gangway check {self.target} --script /run/migrate')
        states = [act['fields']['state'] for act in acts if act['act'] == 'set_state']
        self.assertEqual(states, ['STOP_COPY', 'STOP', 'RESUMING', 'RUNNING'])
        moved = {word: sum(int(act['fields']['data'].split()[0]) for act in acts if act['act'] == word)
                 for word in ('read_data', 'write_data')}
        self.assertGreater(moved['read_data'], 0)
        self.assertEqual(moved['read_data'], moved['write_data'])
        # Its container, its group and its data are the device's session.
        session = {act['connection'] for act in acts
                   if act['act'] in ('open', 'get_info', 'set_state', 'read_data', 'write_data', 'close_data')}
        self.assertEqual(len(session), 1, session)

        profile = self.machine.run('gangway profile /run/trace').output
        self.assertIn('interface v2', profile)
        self.assertRegex(profile, r'  set STOP_COPY\n(  .*\n)*    read 4096\n')
        self.assertRegex(profile, r'  set RESUMING\n(  .*\n)*  write all')
        self.machine.run(f'gangway replay /run/trace {self.target}')

        # The same program does the same again.
        self.machine.run(f'mv /run/trace /run/first; '
                         f'gangway record --kernel --out /run/trace -- gangway check {self.target} --script /run/migrate')
        self.machine.run('gangway trace diff /run/first /run/trace')
        self.assertEqual(self.machine.run('gangway profile /run/trace --output /run/own; '
                                          'gangway profile /run/first --against /run/own').status, 0)

    def test_children_and_threads_are_followed_into_the_driver(self):
        # The shell forks for each; the suite drives the device from a thread of its own.
        script = (f'gangway inspect {self.target} >/dev/null & echo $! >/run/looked; wait; '
                  f'gangway check {self.target} --script /run/migrate & echo $! >/run/migrated; wait $!')
        _, acts = self.record(f"sh -c '{script}'")
        looked, migrated = map(int, self.machine.run('cat /run/looked /run/migrated').output.split())
        threads = {}
        for act in acts:
            threads.setdefault(act['connection'], set()).add(act['thread'])
        self.assertEqual(len(threads), 2, threads)
        (driven,) = {act['connection'] for act in acts if act['act'] == 'set_state'}
        (seen,) = threads.keys() - {driven}
        self.assertEqual(threads[seen], {looked})
        self.assertTrue(threads[driven] - {looked, migrated}, threads)
        self.assertEqual([act['fields']['state'] for act in acts if act['act'] == 'set_state'],
                         ['STOP_COPY', 'STOP', 'RESUMING', 'RUNNING'])

    def test_a_recorder_that_is_killed_takes_the_program_along_and_leaves_the_file(self):
        self.machine.run(f'''
            rm -f /run/trace
            gangway record --kernel --out /run/trace -- sh -c 'gangway inspect {self.target} >/dev/null; : > /run/done; sleep 1000' &
            recorder=$!
            until [ -e /run/done ]; do kill -0 $recorder || exit 1; sleep 0.1; done
            kill -9 $recorder
            wait $recorder
            while ps -o args | grep -q '[s]leep 1000'; do sleep 0.1; done''')
        self.assertIn('get_migration_flags', [act['act'] for act in self.acts()])

    def test_the_exit_status_is_the_programs(self):
        self.record("sh -c 'exit 7'", expect=7)
        self.record(f'gangway check {self.target} --profile no-such-profile', expect=2)


if __name__ == '__main__':
    unittest.main()
