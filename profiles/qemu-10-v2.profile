# How QEMU drives migration by v2, one device after the other.
profile qemu-10-v2
userspace QEMU 9.1 to 10.2 with vfio-pci; from 8.1 but for the names
interface v2
known from qemu/qemu hw/vfio/migration.c (9.1, commit 019d9e6cc408): the functions named at the acts
known from qemu/qemu hw/vfio/pci.c: vfio_pci_reset at machine init, vfio_pci_load_config
known from qemu/qemu hw/vfio/container-base.c, common.c: DMA logging is started before save_setup, reported in rounds, stopped at the end
note read size: the smaller of 1 MiB and MIG_DATA_SIZE (VFIO_MIG_DEFAULT_DATA_BUFFER_SIZE)
note the configuration of a device is the last of its stream, behind its data, since 6.0; before, it stood between the pre-copy data and the rest

phase source on source
  from vfio_listener_log_global_start
  if LOGGING
    log start
  end
  from vfio_save_setup
  size
  if PRE_COPY
    set PRE_COPY else RUNNING
    info
    from vfio_save_iterate, vfio_state_pending_exact
    repeat until end
      read 1048576
    end
    size
    info
    read 1048576
  end
  from vfio_listener_log_sync
  if LOGGING
    log report
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
  from vfio_save_complete_precopy
  set STOP_COPY else STOP
  repeat until end
    read 1048576
  end
  from vfio_listener_log_sync
  if LOGGING
    log report
  end
  from vfio_save_state
  config
  from vfio_save_cleanup
  set STOP else reset
  close data
  from vfio_listener_log_global_stop
  if LOGGING
    log stop
  end

phase destination on destination
  note The machine is reset when it is made, so a device is always reset before RESUMING. No device may rely on it.
  from vfio_pci_reset
  command keep
  reset
  from vfio_load_setup
  set RESUMING else RUNNING
  from vfio_load_state
  write all by 1048576
  from vfio_pci_load_config
  command restore
  interrupts arm
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set RUNNING else reset
  from vfio_load_cleanup
  close data

phase paused on destination
  note A machine that was paused stays so: RESUMING lasts until it is continued, and its registers are looked at meanwhile.
  from vfio_pci_reset
  reset
  from vfio_load_setup
  set RESUMING else RUNNING
  from vfio_load_state
  write all by 1048576
  from vfio_load_cleanup
  close data
  from vfio_pci_read_config
  config
  interrupts
  config
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set RUNNING else reset

phase cancel on source
  note Cancelled while the machine runs: the data descriptor goes before PRE_COPY is left.
  from vfio_save_setup
  size
  if PRE_COPY
    set PRE_COPY else RUNNING
    info
    from vfio_save_iterate
    read 1048576
    size
    info
  end
  from vfio_save_cleanup
  close data
  from vfio_migration_state_notifier
  set RUNNING else reset

phase failure on source
  note Failed when the machine had stopped: it is started again, and migrates at the next attempt.
  from vfio_save_setup
  repeat 2
    size
    if PRE_COPY
      set PRE_COPY else RUNNING
      info
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
    from vfio_save_complete_precopy
    set STOP_COPY else STOP
    read 4096
    from vfio_vmstate_change_prepare, vfio_vmstate_change
    if P2P
      set RUNNING_P2P else reset
    end
    set RUNNING else reset
    from vfio_migration_state_notifier
    set RUNNING else reset
    close data
  end

phase refused on destination
  note What came is not whole: leaving RESUMING fails, and a reset gives the device back.
  from vfio_pci_reset
  reset
  from vfio_load_setup
  set RESUMING else RUNNING
  from vfio_load_state
  stream cut 40
  write all
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  else
    set RUNNING else reset
  end
  from vfio_pci_reset
  reset
  from vfio_load_setup
  set RESUMING else RUNNING
  stream good
  write all
  set RUNNING else reset

phase savevm on source
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set STOP else reset
  from vfio_save_setup
  size
  from vfio_save_complete_precopy
  set STOP_COPY else STOP
  repeat until end
    read 1048576
  end
  from vfio_save_state
  config
  from vfio_save_cleanup
  set STOP else reset
  close data
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set RUNNING else reset

phase loadvm on destination
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set STOP else reset
  from vfio_pci_reset
  command keep
  reset
  from vfio_load_setup
  set RESUMING else RUNNING
  from vfio_load_state
  write all by 1048576
  from vfio_pci_load_config
  command restore
  interrupts arm
  from vfio_load_cleanup
  close data
  from vfio_vmstate_change_prepare, vfio_vmstate_change
  if P2P
    set RUNNING_P2P else reset
  end
  set RUNNING else reset
