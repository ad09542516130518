"""What a VM test boots, from Debian packages: QEMU, a kernel, and an initramfs with the programs that tests use.

Nothing is installed: the packages are unpacked into a cache that every clone of the project shares, and QEMU runs from
there with the libraries it came with. What lies in the cache is named by what it was made from, so it is never changed
once it is there, and may be deleted whenever no test runs.
"""

import fcntl
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess

import cpio

PROJECT = pathlib.Path(__file__).resolve().parents[2]

SUITES = ('trixie', 'trixie-backports')  # QEMU with vfio-user is in the backports
NEWER = 'src:qemu src:ipxe src:seabios'  # and comes from there
PACKAGES = ('qemu-system-x86', 'linux-image-amd64', 'busybox-static', 'e2fsprogs', 'nvme-cli', 'fio', 'pciutils')

GUEST_PROGRAMS = ('usr/sbin/mke2fs', 'usr/sbin/e2fsck', 'usr/sbin/nvme', 'usr/bin/fio', 'usr/bin/lspci')
GUEST_MODULES = ('nvme', 'virtio_blk', 'crc32c_generic', 'ext4')  # ext4 finds its checksum by name
INIT = pathlib.Path(__file__).with_name('init')


def digest(*parts):
    return hashlib.sha256(b'\0'.join(parts)).hexdigest()[:16]


CACHE = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'gangway' / 'vm'
RECIPE = digest(repr((SUITES, NEWER, PACKAGES)).encode())
ROOT = CACHE / f'root-{RECIPE}'
LIBRARIES = ROOT / 'usr/lib/x86_64-linux-gnu'
PRIVATE_LIBRARIES = LIBRARIES / 'ceph'  # of which fio needs one
LOADER = LIBRARIES / 'ld-linux-x86-64.so.2'
INITRAMFS = CACHE / f'initramfs-{digest(RECIPE.encode(), pathlib.Path(__file__).read_bytes(), INIT.read_bytes())}.cpio'
KERNEL = ROOT / 'vmlinuz'

MIRROR = 'http://deb.debian.org/debian'
KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'


class NoNetwork(RuntimeError):
    """The packages are not in the cache, and could not be fetched."""


def prepare():
    """Makes what is missing; afterwards KERNEL, INITRAMFS and qemu_command() can be used."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ROOT.exists():
            print(f'vm: fetching QEMU, a kernel and the programs of the guest into {CACHE}', flush=True)
            make_whole(ROOT, unpack_packages)
        if not INITRAMFS.exists():
            make_whole(INITRAMFS, make_initramfs)


def make_whole(path, make):
    """Makes it beside its place and moves it there, so that what is there is complete."""
    unfinished = path.with_name(f'unfinished-{path.name}')
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    make(unfinished)
    unfinished.rename(path)


def qemu_command():
    """The words that start QEMU, without arguments."""
    return [str(LOADER), '--library-path', str(LIBRARIES), str(ROOT / 'usr/bin/qemu-system-x86_64'),
            '-L', str(ROOT / 'usr/share/qemu'), '-L', str(ROOT / 'usr/share/seabios'),
            '-L', str(ROOT / 'usr/lib/ipxe/qemu')]


def qemu_environment():
    return dict(os.environ, QEMU_MODULE_DIR=str(LIBRARIES / 'qemu'))


# --- packages ---

def unpack_packages(root):
    apt = prepare_apt()
    try:
        subprocess.run([*apt, '-qq', 'update'], check=True)
        subprocess.run([*apt, '-qq', 'install', '--yes', '--download-only', *PACKAGES], check=True,
                       stdout=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise NoNetwork(f'apt-get could not fetch the packages of the VM tests from {MIRROR}, and {root.parent} does '
                        f'not have them') from error
    archives = sorted((CACHE / 'apt/cache/archives').glob('*.deb'))
    # Where /lib and its like lead in a Debian system; a package that still ships a file there unpacks through the link.
    (root / 'usr/lib64').mkdir(parents=True)
    for name in ('bin', 'sbin', 'lib', 'lib64'):
        (root / 'usr' / name).mkdir(exist_ok=True)
        (root / name).symlink_to(f'usr/{name}')
    for archive in archives:
        contents = subprocess.Popen(['dpkg-deb', '--fsys-tarfile', archive], stdout=subprocess.PIPE)
        subprocess.run(['tar', '--extract', '--directory', root, '--no-same-owner', '--keep-directory-symlink'],
                       stdin=contents.stdout, check=True)
        if contents.wait() != 0:
            raise RuntimeError(f'{archive}: dpkg-deb could not unpack it')
    shutil.copy(kernel_image(root), root / KERNEL.name)
    shutil.rmtree(CACHE / 'apt')


def prepare_apt(suites=SUITES):
    """An apt of its own, that knows nothing installed and touches nothing outside the cache."""
    apt = CACHE / 'apt'
    shutil.rmtree(apt, ignore_errors=True)
    for folder in ('lists/partial', 'cache/archives/partial'):
        (apt / folder).mkdir(parents=True)
    (apt / 'status').touch()
    (apt / 'sources.list').write_text(
        ''.join(f'deb [signed-by={KEYRING}] {MIRROR} {suite} main\n' for suite in suites))
    (apt / 'preferences').write_text(f'Package: {NEWER}\nPin: release n={SUITES[1]}\nPin-Priority: 900\n')
    options = {'Dir::State::status': apt / 'status', 'Dir::State::lists': apt / 'lists', 'Dir::Cache': apt / 'cache',
               'Dir::Etc::sourcelist': apt / 'sources.list', 'Dir::Etc::sourceparts': '/dev/null',
               'Dir::Etc::preferences': apt / 'preferences', 'Dir::Etc::preferencesparts': '/dev/null',
               'APT::Architecture': 'amd64', 'APT::Install-Recommends': 'false', 'APT::Sandbox::User': '',
               'Acquire::Languages': 'none', 'APT::Update::Error-Mode': 'any', 'Acquire::Retries': '3', 'Debug::NoLocking': 'true'}
    return ['apt-get', *(f'-o{name}={value}' for name, value in options.items())]


def kernel_image(root):
    images = sorted((root / 'boot').glob('vmlinuz-*'))
    if len(images) != 1:
        raise RuntimeError(f'{root}/boot has {len(images)} kernels, one was meant to be there')
    return images[0]


# --- the initramfs ---

def bare_archive():
    """What a guest needs to run the harness's scripts, and nothing else: an init and a shell that stands alone."""
    archive = cpio.Archive()
    for folder in ('bin', 'dev/shm', 'mnt', 'proc', 'run', 'sbin', 'sys', 'tmp', 'usr/bin', 'usr/sbin'):
        archive.add_folder(folder)
    archive.add_file('init', INIT.read_bytes(), executable=True)
    archive.add_file('bin/busybox', (ROOT / 'usr/bin/busybox').read_bytes(), executable=True)
    return archive


def make_initramfs(path):
    archive = bare_archive()
    archive.add_file('lib64/ld-linux-x86-64.so.2', LOADER.read_bytes(), executable=True)
    for program in GUEST_PROGRAMS:
        archive.add_file(program, (ROOT / program).read_bytes(), executable=True)
    for library in sorted(libraries_of(GUEST_PROGRAMS)):
        archive.add_file(f'usr/lib/x86_64-linux-gnu/{library.name}', library.read_bytes())
    for name, link in (('usr/sbin/mkfs.ext4', 'mke2fs'), ('usr/sbin/fsck.ext4', 'e2fsck')):
        archive.add_link(name, link)
    archive.add_file('etc/mke2fs.conf', (ROOT / 'etc/mke2fs.conf').read_bytes())
    for position, module in enumerate(modules_in_order(GUEST_MODULES)):
        name = module.name.removesuffix('.xz')
        archive.add_file(f'modules/{position:02}-{name}', module_code(module))
    path.write_bytes(archive.finish())


def libraries_of(programs):
    """Every library that the programs load, by the loader's own account."""
    found = set()
    for program in programs:
        listed = subprocess.run([LOADER, '--library-path', f'{LIBRARIES}:{PRIVATE_LIBRARIES}', '--list', ROOT / program],
                                check=True, capture_output=True, text=True).stdout
        found.update(pathlib.Path(path) for path in re.findall(rf'=> ({re.escape(str(LIBRARIES))}/\S+)', listed))
    return found


def module_code(path):
    return lzma.decompress(path.read_bytes()) if path.suffix == '.xz' else path.read_bytes()


def modules_in_order(names, root=ROOT):
    """The kernel modules and what they need, each after what it needs."""
    files = {re.sub(r'\.ko(\.xz)?$', '', path.name).replace('-', '_'): path
             for folder in ('lib/modules', 'usr/lib/modules') for path in (root / folder).rglob('*.ko*')
             if stat.S_ISREG(path.lstat().st_mode)}
    ordered = []

    def add(name):
        path = files.get(name.replace('-', '_'))
        if path is None:
            raise RuntimeError(f'the kernel has no module {name}')
        if path in ordered:
            return
        depends = re.search(rb'\0depends=([^\0]*)\0', module_code(path))
        for needed in depends.group(1).decode().split(',') if depends else ():
            if needed:
                add(needed)
        ordered.append(path)

    for name in names:
        add(name)
    return ordered


if __name__ == '__main__':
    prepare()
