// Bytes and descriptors over a UNIX stream socket.
//
// A write that carries descriptors carries them with its first byte, and a message's header leaves in the same write as
// its body (WIR-REPLY): a peer may read the header with one call and give up on a part of it. A read says which
// descriptors came with it; they are close-on-exec and owned from the first moment (WIR-FDS).
//
// Thread-safety: one reader and one writer at a time; shut_down from any thread.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway::vfio_user {

inline constexpr std::size_t kMaxDescriptors = 253;  // SCM_MAX_FD, the most that one message can carry

enum class Wait : bool { No, Yes };
enum class Descriptors : bool { Closed, Taken };  // what becomes of those that come with a read

// One read: EAGAIN when nothing is there (or, waiting, came within the socket's receive time limit), ECONNRESET at the
// end of the stream. Descriptors are appended to `fds`. When the kernel could not deliver all of them the read fails
// with EMSGSIZE: the rest is lost, and with it the sense of the stream.
Result<std::size_t> receive(int socket, std::span<iovec> into, std::vector<Fd>& fds, Wait wait);

// The same where none are expected: those that come all the same are closed by the kernel. It costs a read of few bytes
// less, since the kernel has no description of a message to take over and to give back.
Result<std::size_t> receive_bytes(int socket, std::span<iovec> into, Wait wait);

// One write of as much as fits, EAGAIN when nothing does.
Result<std::size_t> send(int socket, std::span<iovec> from, std::span<const int> fds);

// Drops `bytes` from the front of the vector and returns what remains.
std::span<iovec> skip(std::span<iovec> vector, std::size_t bytes);

// The time limit of a waiting receive.
void set_receive_timeout(int socket, std::chrono::milliseconds timeout);

// How much the socket holds of what is sent; less where the machine allows less.
void make_room_for_sending(int socket, std::size_t bytes);

void shut_down(int socket);

}  // namespace gangway::vfio_user
