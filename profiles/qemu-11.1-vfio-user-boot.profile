# A machine that boots with a device of another process, and never asks whether that device can migrate.
profile qemu-11.1-vfio-user-boot
userspace QEMU 11.1 with vfio-user-pci, its firmware, and a guest of Linux 6.12
interface none
known from a recording of QEMU 11.1.3 that boots Linux 6.12 of Debian, with nvme and with serial; `make test-vm` records anew and compares
known from qemu/qemu hw/vfio-user/pci.c, hw/vfio/pci.c: the functions named at the acts
note Its client of vfio-user has no migration: no DEVICE_FEATURE is ever sent.
note BARs are sized with PCI_COMMAND off meanwhile, which is left out here.

phase boot on source
  from vfio_user_pci_realize
  config
  interrupts arm
  from vfio_user_pci_reset
  command clear
  reset
  config
  interrupts arm
  from the guest
  command enable
