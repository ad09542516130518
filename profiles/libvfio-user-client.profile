# How the sample client of libvfio-user migrates the device of its server.
profile libvfio-user-client
userspace libvfio-user samples/client.c, with and without the twin socket
interface v2
known from nutanix/libvfio-user samples/client.c: main, migrate_from, do_migrate, migrate_to
known from nutanix/libvfio-user lib/tran_sock.c: tran_sock_recv_fds, which takes no reply that is shorter than was asked
note reads of 1024 bytes (CLIENT_MAX_DATA_XFER_SIZE); writes as they were read
note it reads replies of MIG_DATA_READ only when they are as long as asked; `gangway serve --quirk libvfio-user-client` pads them for it
note its guest writes 12 KiB to BAR 1 at once, having said that 1024 bytes are the most it transfers; what it said no profile can say

phase source on source
  from main
  region read 0xdeadbeef 0x0 4
  expect EINVAL by WIR-FRAME
  config
  reset
  interrupts arm
  log start all
  if LOGGING
    log report
    log stop
  end
  from migrate_from
  if PRE_COPY
    set PRE_COPY
    from fake_guest
    region write 1 0x0 fill 12288
    from do_migrate
    repeat 4
      read 1024
    end
  end
  from migrate_from
  set STOP_COPY
  from do_migrate
  repeat until end
    read 1024
  end
  from migrate_from
  set STOP

phase destination on destination
  note A new server: RESUMING in one call, before anything is mapped and before any interrupt is set up.
  from migrate_to
  set RESUMING
  write all by 1024
  set STOP
  region read 1 0x0 4096
  region read 0 0x0 8
  set RUNNING
  from main
  interrupts arm
