# How QEMU drove migration by v1, the migration region, before the kernel retired it.
profile qemu-7.2-v1
userspace QEMU 6.1 to 7.2 with vfio-pci on Linux 5.8 to 5.17; 5.2 and 6.0 but for savevm
interface v1
known from qemu/qemu hw/vfio/migration.c (5.2, commit 3336d2171013): the functions named at the acts; those of 7.2 have _v1 in their names
known from qemu/qemu hw/vfio/migration.c of 6.1 to 7.2: vfio_vmstate_change enters 010 for savevm
note every write of device_state is preceded by a read of it, and its other bits are kept (vfio_migration_set_state)
note data that is not mapped is moved in accesses of at most 8 bytes, naturally aligned (vfio_mig_rw)

phase source on source
  from vfio_save_setup
  bits 011
  from vfio_save_pending, vfio_save_iterate, vfio_save_buffer
  repeat until end
    pending
    chunk by 8
  end
  from vfio_vmstate_change
  bits 010
  from vfio_save_complete_precopy
  bits 010
  repeat until end
    pending
    chunk by 8
  end
  bits 000

phase destination on destination
  from vfio_pci_reset
  command keep
  reset
  from vfio_load_setup
  bits 100
  from vfio_load_buffer
  load by 8
  from vfio_load_device_config_state
  command restore
  interrupts arm
  from vfio_vmstate_change
  bits 001

phase cancel on source
  note The notifier is called when a migration is being cancelled and again when it was.
  from vfio_save_setup
  bits 011
  from vfio_save_pending
  pending
  from vfio_migration_state_notifier
  bits 001
  bits 001

phase failure on source
  note After the machine had stopped: it is started again, and the notifier comes after that.
  from vfio_save_setup
  bits 011
  from vfio_vmstate_change
  bits 010
  from vfio_save_complete_precopy
  bits 010
  pending
  chunk by 8
  from vfio_vmstate_change
  bits 001
  from vfio_migration_state_notifier
  bits 001

phase savevm on source
  from vfio_vmstate_change
  bits 010
  from vfio_save_setup
  bits 010
  from vfio_save_complete_precopy
  bits 010
  repeat until end
    pending
    chunk by 8
  end
  bits 000
  from vfio_vmstate_change
  bits 001

phase loadvm on destination
  from vfio_vmstate_change
  bits 000
  from vfio_pci_reset
  command keep
  reset
  from vfio_load_setup
  bits 100
  from vfio_load_buffer
  load by 8
  from vfio_load_device_config_state
  command restore
  from vfio_vmstate_change
  bits 001
