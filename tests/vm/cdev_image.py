"""A kernel with VFIO's device nodes and iommufd, which Debian's kernels leave out: built from Debian's sources.

It is tinyconfig with what tests/vm/cdev.config says, mtty built in. It takes minutes to build and is kept in the cache.
"""

import fcntl
import os
import pathlib
import subprocess
import tempfile

import driver_image
import guest_image
from guest_image import CACHE, digest, make_whole

CONFIG = pathlib.Path(__file__).with_name('cdev.config')
RECIPE = digest(driver_image.ROOT.name.encode(), CONFIG.read_bytes(), pathlib.Path(__file__).read_bytes())
FOLDER = CACHE / f'cdev-{RECIPE}'
KERNEL = FOLDER / 'bzImage'
INITRAMFS = FOLDER / 'initramfs.cpio'


def prepare():
    """Makes what is missing; afterwards KERNEL and INITRAMFS are there."""
    driver_image.prepare()
    with (CACHE / 'cdev.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not FOLDER.exists():
            print('vm: building a kernel with iommufd; this takes minutes', flush=True)
            make_whole(FOLDER, make_folder)


def make_folder(folder):
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=folder) as sources:
        subprocess.run(['tar', '--extract', '--file', driver_image.sources(), '--directory', sources,
                        '--strip-components=1'], check=True)
        make(sources, 'tinyconfig')
        with (pathlib.Path(sources) / '.config').open('a') as config:
            config.write(CONFIG.read_text())
        make(sources, 'olddefconfig')
        check_options(pathlib.Path(sources) / '.config')
        make(sources, f'-j{os.cpu_count()}', 'bzImage')
        (pathlib.Path(sources) / 'arch/x86/boot/bzImage').rename(folder / KERNEL.name)
    (folder / INITRAMFS.name).write_bytes(guest_image.bare_archive().finish())


def make(sources, *arguments):
    made = subprocess.run(['make', '-s', '-C', sources, *arguments], capture_output=True, text=True,
                          env=dict(os.environ, MAKEFLAGS=''))
    if made.returncode != 0:
        raise RuntimeError(f'make {" ".join(arguments)} of the kernel failed:\n{made.stdout}\n{made.stderr[-4000:]}')


def check_options(config):
    """Whether the kernel knows every option: one that it does not would only be left out."""
    has = set(config.read_text().splitlines())
    lacks = [line for line in CONFIG.read_text().splitlines() if line.startswith('CONFIG_') and line not in has]
    if lacks:
        raise RuntimeError(f'the kernel does not take {", ".join(lacks)}')


if __name__ == '__main__':
    prepare()
