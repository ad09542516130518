# How QEMU moves device state over the multifd channels: each device is saved and loaded by a thread of its own.
profile qemu-10-v2-multifd
userspace QEMU 10.0 and later with multifd device state transfer (x-migration-multifd-transfer)
interface v2
known from qemu/qemu hw/vfio/migration-multifd.c (commit 11b8b9d53d8b): vfio_multifd_save_complete_precopy_thread, vfio_load_bufs_thread
known from qemu/qemu hw/vfio/migration.c: the rest is as in qemu-10-v2
note every device is brought to STOP_COPY and read by a thread of its own, at once with the others; its configuration is sent last, behind its data
note the thread that loads a device restores its configuration itself, as soon as the device's data is in

phase source on source together
  from vfio_save_setup
  size
  if PRE_COPY
    set PRE_COPY else RUNNING
    info
    repeat until end
      read 1048576
    end
  end
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if PRE_COPY
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
    from vfio_save_complete_precopy_thread_config_state
    config
    command keep
  end
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
    from vfio_load_bufs_thread_load_config
    command restore
    interrupts arm
  end
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set RUNNING else reset
  from vfio_load_cleanup
  close data

phase cancel on source together
  note Cancelled while the threads read: each stops where it is, and the machine goes on.
  from vfio_save_setup
  size
  if PRE_COPY
    set PRE_COPY else RUNNING
    read 1048576
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
    read 4096
  end
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set RUNNING else reset
  close data
