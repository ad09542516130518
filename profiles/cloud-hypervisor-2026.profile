# How cloud-hypervisor drives migration by v2: no reset, and most ways in one call.
profile cloud-hypervisor-2026
userspace cloud-hypervisor since July 2026
interface v2
known from cloud-hypervisor/cloud-hypervisor pci/src/vfio.rs: the functions named at the acts
known from cloud-hypervisor/cloud-hypervisor pull request 8303: snapshot and restore, with the table of its transitions
known from cloud-hypervisor/cloud-hypervisor pull request 8528: live migration, DMA logging, recovery
note it knows no PRE_COPY and no P2P; a device that has them is driven without
note a device is opened and goes to RESUMING in one call, without a reset: what relied on a reset before fails here

phase snapshot on source
  from VfioPciDevice::pause
  set STOP else RUNNING
  from save_migration_data
  set STOP_COPY else STOP
  read all by 65536
  set STOP else reset
  close data
  from VfioPciDevice::resume
  set RUNNING else reset

phase restore on destination
  from VfioCommon::new
  command keep
  from load_migration_data
  set RESUMING else STOP
  write all by 1048576
  from sync_command_and_interrupts
  command restore
  interrupts arm
  from VfioPciDevice::resume
  set RUNNING else reset

phase source on source
  from start_dirty_log
  if LOGGING
    log start
  end
  from dirty_log
  if LOGGING
    log report
    log report
  end
  from VfioPciDevice::pause
  set STOP else RUNNING
  from dirty_log
  if LOGGING
    log report
  end
  from save_migration_data
  set STOP_COPY else STOP
  read all by 65536
  set STOP else reset
  close data
  from stop_dirty_log
  if LOGGING
    log stop
  end

phase destination on destination
  from VfioCommon::new
  command keep
  from load_migration_data
  set RESUMING else STOP
  write all by 1048576
  from sync_command_and_interrupts
  command restore
  interrupts arm
  from VfioPciDevice::resume
  set RUNNING else reset

phase cancel on source
  note The machine goes on where it was stopped; its next migration begins from there.
  from start_dirty_log
  if LOGGING
    log start
    log report
  end
  from VfioPciDevice::pause
  set STOP else RUNNING
  from save_migration_data
  set STOP_COPY else STOP
  read 65536
  set STOP else reset
  close data
  from stop_dirty_log
  if LOGGING
    log stop
  end
  from VfioPciDevice::resume
  set RUNNING else reset

phase failure on destination
  note A stream that is not whole: the state it names, then a reset, then PCI_COMMAND and the interrupts as after a restore.
  from VfioCommon::new
  command keep
  from load_migration_data
  set RESUMING else STOP
  stream cut 40
  write all
  from VfioPciDevice::resume, transition_migration_state_with_recovery
  set RUNNING else STOP
  from reset_and_rearm
  command restore
  interrupts arm
  from load_migration_data
  set RESUMING else STOP
  stream good
  write all
  from VfioPciDevice::resume
  set RUNNING else reset
