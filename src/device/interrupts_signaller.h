// Adds to the eventfds that a client gave, and never waits for what the client does with them.
//
// A write to a full eventfd waits unless its open file says O_NONBLOCK, which the client may set and clear at any time;
// and whoever asks first whether it is full may be overtaken by a client that fills it. The kernel itself signals
// eventfds without waiting, as it does for devices of its own: a full one just stays full. It does so for us when an
// asynchronous operation completes, and polling what is always ready completes at once.
// Where there are no such operations (some sandboxes forbid them) we ask and write: then a client that fills its
// eventfd at the very moment holds up its own device. Source: Linux io_submit(2), IOCB_FLAG_RESFD, IOCB_CMD_POLL (4.18
// and newer).
//
// Thread-safety: one thread at a time.
#pragma once

#include <linux/aio_abi.h>

#include <gangway/fd.h>
#include <gangway/interrupts.h>

namespace gangway {

class Interrupts::Signaller {
 public:
  Signaller();  // opens a descriptor; all else comes with the first signal
  ~Signaller();
  Signaller(const Signaller&) = delete;
  Signaller& operator=(const Signaller&) = delete;

  void signal(int event);

 private:
  void begin();
  bool submit(int event);
  void end();

  Fd ready_;  // an eventfd that is never empty
  bool begun_ = false;
  aio_context_t context_ = 0;  // 0: there is none
};

}  // namespace gangway
