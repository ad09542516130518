// The three things done with an eventfd that a client gave: recognize it, signal it, and take what it counted.
// None of them ever blocks on what the client does with its end.
// Thread-safety: stateless.
#pragma once

namespace gangway::eventfd {

// True for an eventfd; where /proc does not tell, for whatever descriptor is open.
[[nodiscard]] bool is_eventfd(int fd);

// Adds one, unless the counter is full: the client then has more to read than it can miss.
void signal(int fd);

// Takes the count. False when there was none.
bool consume(int fd);

}  // namespace gangway::eventfd
