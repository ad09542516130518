#include "vfio_user/message_relay.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <span>
#include <thread>

#include "vfio_user/socket.h"

namespace gangway::vfio_user {
namespace {

constexpr std::size_t kLongest = 256U << 20;  // what is said to be longer makes no message
constexpr std::chrono::milliseconds kUntilRead{200};
constexpr std::chrono::milliseconds kApart{2};

Result<void> read_all(int socket, std::span<std::byte> out, std::vector<Fd>& fds) {
  while (!out.empty()) {
    std::array<iovec, 1> into{{{out.data(), out.size()}}};
    const Result<std::size_t> got = receive(socket, into, fds, Wait::Yes);
    if (!got) return std::unexpected(got.error());
    out = out.subspan(*got);
  }
  return {};
}

Result<void> write_all(int socket, std::span<iovec> from, std::span<const int> fds) {
  while (!from.empty()) {
    const Result<std::size_t> sent = send(socket, from, fds);
    if (!sent && sent.error().code == EAGAIN) {
      pollfd room{.fd = socket, .events = POLLOUT, .revents = 0};
      ::poll(&room, 1, -1);
      continue;
    }
    if (!sent) return std::unexpected(sent.error());
    fds = {};
    from = skip(from, *sent);
  }
  return {};
}

// The reader has the header and is in want of the rest.
void wait_until_read(int socket) {
  const auto deadline = std::chrono::steady_clock::now() + kUntilRead;
  int unread = 1;
  while (::ioctl(socket, SIOCOUTQ, &unread) == 0 && unread != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  std::this_thread::sleep_for(kApart);
}

Result<void> write_message(int socket, RelayedMessage& message) {
  using enum RelayedMessage::Leaves;
  if (message.leaves == NotAtAll) return {};
  std::vector<int> fds;
  for (const Fd& fd : message.fds) fds.push_back(fd.get());
  std::array<iovec, 2> parts{{{&message.header, sizeof message.header}, {message.body.data(), message.body.size()}}};
  std::span<iovec> all(parts);
  if (message.body.empty()) all = all.first(1);
  if (message.leaves == Whole || all.size() == 1) return write_all(socket, all, fds);
  if (Result<void> header = write_all(socket, all.first(1), fds); !header) return header;
  wait_until_read(socket);
  return write_all(socket, all.subspan(1), {});
}

}  // namespace

void change_capabilities(RelayedMessage& message, const std::function<void(Capabilities&)>& change) {
  if (!message.is_command() || !message.is(Command::Version) || message.body.size() < sizeof(Version)) return;
  Result<Capabilities> said = parse_capabilities(std::span(message.body).subspan(sizeof(Version)));
  if (!said) return;
  change(*said);
  const std::string json = to_json(*said);
  std::vector<std::byte> body(message.body.begin(), message.body.begin() + sizeof(Version));
  std::ranges::copy(std::as_bytes(std::span(json)), std::back_inserter(body));
  message.replace_body(std::move(body));
}

void MessageRelay::run() {
  const std::jthread replies([this] { pass(server_, client_, &MessageEditor::to_client, true); });
  pass(client_, server_, &MessageEditor::to_server, editor_.takes_split_headers());
}

void MessageRelay::stop() {
  shut_down(client_);
  shut_down(server_);
}

void MessageRelay::pass(int from, int to, Edit edit, bool split_headers) {
  RelayedMessage message;
  while (pass_message(from, to, edit, split_headers, message)) message = {.body = std::move(message.body)};
  // A client that is gone is still owed what it asked for; without a server there is nothing more to say.
  if (from == server_) return stop();
  ::shutdown(client_, SHUT_RD);
  ::shutdown(server_, SHUT_WR);
}

Result<void> MessageRelay::pass_message(int from, int to, Edit edit, bool split_headers, RelayedMessage& message) {
  const auto header = std::as_writable_bytes(std::span(&message.header, 1));
  std::array<iovec, 1> into{{{header.data(), header.size()}}};
  const Result<std::size_t> got = receive(from, into, message.fds, Wait::Yes);
  if (!got) return std::unexpected(got.error());
  if (*got < header.size() && !split_headers) {
    stop();
    return fail(EPROTO, "a header in pieces");
  }
  if (Result<void> rest = read_all(from, header.subspan(*got), message.fds); !rest) return rest;
  if (message.header.size < sizeof message.header || message.header.size > kLongest) {
    message.body.clear();
    if (Result<void> written = write_message(to, message); !written) return written;
    return pass_raw(from, to);
  }
  message.body.resize(message.header.size - sizeof message.header);
  if (Result<void> read = read_all(from, message.body, message.fds); !read) return read;
  (editor_.*edit)(message);
  return write_message(to, message);
}

Result<void> MessageRelay::pass_raw(int from, int to) {
  std::vector<std::byte> room(64U << 10);
  for (;;) {
    std::vector<Fd> fds;
    std::array<iovec, 1> into{{{room.data(), room.size()}}};
    const Result<std::size_t> got = receive(from, into, fds, Wait::Yes);
    if (!got) return std::unexpected(got.error());
    std::array<iovec, 1> bytes{{{room.data(), *got}}};
    if (Result<void> written = write_all(to, bytes, {}); !written) return written;
  }
}

}  // namespace gangway::vfio_user
