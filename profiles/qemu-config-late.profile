# The configuration of every device restored when the data of all of them is in.
profile qemu-config-late
userspace QEMU 10.1 and later with x-migration-load-config-after-iter: the default on Arm, for machines of 10.1 and later
interface v2
known from qemu/qemu commit 6380b0a02fbd (hw/vfio/migration-multifd.c, hw/vfio/pci.c): the property, and vfio_load_config_after_iter
known from qemu/qemu docs/devel/migration/vfio.rst: on Arm the interrupt controller has to be loaded before a device's configuration
note differs from qemu-10-v2-multifd in the destination: the thread that loads the data is gone when the configuration is restored, and another thread does it

phase source on source together
  from vfio_save_setup
  size
  if PRE_COPY
    set PRE_COPY else RUNNING
    info
    repeat until end
      read 1048576
    end
    if P2P
      set PRE_COPY_P2P else reset
    end
    set STOP_COPY else reset
  else
    if P2P
      set RUNNING_P2P else reset
    end
    set STOP else reset
  end
  thread
    from vfio_multifd_save_complete_precopy_thread
    set STOP_COPY else STOP
    repeat until end
      read 1048576
    end
  end
  from vfio_save_state
  config
  from vfio_save_cleanup
  set STOP else reset
  close data

phase destination on destination
  from vfio_pci_reset
  command keep
  reset
  from vfio_load_setup
  set RESUMING else RUNNING
  thread
    from vfio_load_state_buffer_write
    write all by 1048576
  end
  from vfio_load_state, vfio_load_device_config_state
  config
  command restore
  interrupts arm
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set RUNNING else reset
  from vfio_load_cleanup
  close data

phase config-first on destination
  note The other way round, as QEMU had it before 6.0 (vfio_save_complete_precopy sent it before the data): the configuration, then the data.
  from vfio_pci_reset
  reset
  from vfio_load_setup
  set RESUMING else RUNNING
  from vfio_load_device_config_state
  command enable
  interrupts arm
  from vfio_load_state
  write all by 1048576
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set RUNNING else reset
  command check
  from vfio_load_cleanup
  close data
