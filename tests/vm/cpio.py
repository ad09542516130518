"""An initramfs, as the kernel unpacks it: a cpio archive of the "newc" kind, owned by root whoever makes it.

Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import pathlib
import stat

ALIGNMENT = 4


class Archive:
    def __init__(self):
        self._bytes = bytearray()
        self._entries = 0
        self._folders = {'.'}

    def add_folder(self, name):
        """With what it lies in."""
        if name in self._folders:
            return
        self.add_folder(str(pathlib.PurePath(name).parent))
        self._folders.add(name)
        self._add(name, stat.S_IFDIR | 0o755, b'')

    def add_file(self, name, contents, executable=False):
        self.add_folder(str(pathlib.PurePath(name).parent))
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644), contents)

    def add_link(self, name, leads_to):
        self.add_folder(str(pathlib.PurePath(name).parent))
        self._add(name, stat.S_IFLNK | 0o777, leads_to.encode())

    def add_node(self, name, major, minor):
        """A character device."""
        self.add_folder(str(pathlib.PurePath(name).parent))
        self._add(name, stat.S_IFCHR | 0o600, b'', (major, minor))

    def finish(self):
        """The archive. Another may follow it in the same file, and adds to it."""
        self._add('TRAILER!!!', 0, b'')
        return bytes(self._bytes)

    def _add(self, name, mode, contents, device=(0, 0)):
        self._entries += 1
        name = name.encode() + b'\0'
        no_time = no_device = no_check = owner = 0
        fields = (self._entries, mode, owner, owner, 1, no_time, len(contents), no_device, no_device, *device,
                  len(name), no_check)
        self._bytes += b'070701' + b''.join(b'%08x' % field for field in fields) + name
        self._pad()
        self._bytes += contents
        self._pad()

    def _pad(self):
        self._bytes += b'\0' * (-len(self._bytes) % ALIGNMENT)
