// The three things done with an eventfd: recognize it, signal it, and take what it counted.
// Thread-safety: stateless.
#pragma once

namespace gangway::eventfd {

// True for an eventfd; where /proc does not tell, for whatever descriptor is open.
[[nodiscard]] bool is_eventfd(int fd);

// Adds one, unless the counter is full. May block on a blocking eventfd that another fills at the same moment; for
// those of a client there is Interrupts::Signaller.
void signal(int fd);

// Takes the count. False when there was none.
bool consume(int fd);

}  // namespace gangway::eventfd
