"""What the tests of kernel drivers boot: a Debian kernel with VFIO, and mtty, the kernel's sample of a migration driver.

Debian builds no samples. mtty comes from the kernel's source package and is compiled here, as a module against the
headers of the very kernel that is booted. That is the one of bookworm-backports, since the tools in its headers run on
Debian 12 and want Debian 12's compiler. Nothing is installed, as in guest_image.
"""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import guest_image
from guest_image import CACHE, digest, make_whole

SUITE = 'bookworm-backports'
MODULES = ('vfio', 'vfio_iommu_type1', 'mdev', 'vfio-pci')
DRIVER = 'samples/vfio-mdev/mtty.c'

ROOT = CACHE / f'linux-{digest(SUITE.encode())}'  # the packages, unpacked
FOLDER = CACHE / ('driver-' + digest(ROOT.name.encode(), repr(MODULES).encode(), pathlib.Path(__file__).read_bytes(),
                                     guest_image.INIT.read_bytes()))
KERNEL = ROOT / 'vmlinuz'
INITRAMFS = FOLDER / 'initramfs.cpio'


def prepare():
    """Makes what is missing; afterwards KERNEL, INITRAMFS and sources() are there."""
    guest_image.prepare()
    with (CACHE / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ROOT.exists():
            print(f'vm: fetching a kernel of {SUITE}, its headers and its sources into {CACHE}', flush=True)
            make_whole(ROOT, fetch_kernel)
        if not FOLDER.exists():
            print('vm: building mtty', flush=True)
            make_whole(FOLDER, make_initramfs)


def sources():
    """The archive of the kernel's sources."""
    (archive,) = (ROOT / 'usr/src').glob('linux-source-*.tar.xz')
    return archive


def fetch_kernel(root):
    """The kernel that the suite has now, its headers and its sources, all of one version."""
    root.mkdir()
    apt = guest_image.prepare_apt((SUITE,))
    try:
        subprocess.run([*apt, '-qq', 'update'], check=True)
        shown = subprocess.run(['apt-cache', *apt[1:], 'show', 'linux-image-amd64'], check=True, capture_output=True,
                               text=True).stdout
        release, version = re.search(r'^Depends: linux-image-(\S+)-amd64 \(= (\S+)\)', shown, re.M).groups()
        series = '.'.join(version.split('.')[:2])
        packages = [f'linux-image-{release}-amd64', f'linux-headers-{release}-amd64', f'linux-headers-{release}-common',
                    f'linux-kbuild-{release}', f'linux-source-{series}']
        subprocess.run([*apt, '-qq', 'download', *(f'{package}={version}' for package in packages)], check=True,
                       cwd=root)
    except subprocess.CalledProcessError as error:
        raise guest_image.NoNetwork(f'apt-get could not fetch the kernel of {SUITE} from {guest_image.MIRROR}, and '
                                    f'{CACHE} does not have it') from error
    for archive in root.glob('*.deb'):
        subprocess.run(['dpkg-deb', '--extract', archive, root], check=True)
        archive.unlink()
    shutil.copy(guest_image.kernel_image(root), root / KERNEL.name)
    shutil.rmtree(CACHE / 'apt')


def make_initramfs(folder):
    folder.mkdir()
    archive = guest_image.bare_archive()
    with tempfile.TemporaryDirectory() as scratch:
        mtty = build_driver(pathlib.Path(scratch))
        for position, module in enumerate([*guest_image.modules_in_order(MODULES, ROOT), mtty]):
            archive.add_file(f'modules/{position:02}-{module.name.removesuffix(".xz")}',
                             guest_image.module_code(module))
    (folder / INITRAMFS.name).write_bytes(archive.finish())


def build_driver(folder):
    """mtty.ko, in the folder."""
    headers = next(found for found in (ROOT / 'usr/src').glob('linux-headers-*') if (found / '.config').exists())
    (common,) = (ROOT / 'usr/src').glob('linux-headers-*-common')
    (headers / 'Makefile').write_text(f'include {common}/Makefile\n')  # which named /usr/src
    # With it, the module would get type information, by a tool that nothing else here needs.
    (headers / 'vmlinux').unlink(missing_ok=True)
    (folder / 'mtty.c').write_bytes(source_of(DRIVER))
    (folder / 'Makefile').write_text('obj-m := mtty.o\n')
    made = subprocess.run(['make', '-C', headers, f'M={folder}', 'modules'], capture_output=True, text=True,
                          env=dict(os.environ, MAKEFLAGS=''))
    if made.returncode != 0:
        raise RuntimeError(f'mtty could not be built:\n{made.stdout}\n{made.stderr}')
    return folder / 'mtty.ko'


def source_of(name):
    """One file of the kernel's sources."""
    return subprocess.run(['tar', '--extract', '--to-stdout', '--file', sources(), '--wildcards',
                           f'linux-source-*/{name}'], check=True, capture_output=True).stdout


if __name__ == '__main__':
    prepare()
