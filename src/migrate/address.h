// Where a migration goes to: "tcp:HOST:PORT" or "unix:PATH"; connecting, listening, accepting.
//
// Waiting here ends at once when the caller's stop token asks for it.
#pragma once

#include <chrono>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "base/unix_socket.h"

namespace gangway::migrate {

struct Address {
  enum class Kind { Tcp, Unix };
  Kind kind = Kind::Tcp;
  std::string host;  // or path; an IPv6 host without its brackets
  std::string port;  // Tcp

  // EINVAL with the forms in the message.
  static Result<Address> parse(std::string_view text);
  [[nodiscard]] std::string text() const;
};

// A file descriptor that becomes readable when a stop is requested; to poll beside a socket.
class StopEvent {
 public:
  static Result<StopEvent> create();
  [[nodiscard]] int fd() const { return event_.get(); }
  void signal();

 private:
  explicit StopEvent(Fd event) : event_(std::move(event)) {}
  Fd event_;
};

// ECANCELED when stopped; ETIMEDOUT after `limit`.
Result<Fd> connect_to(const Address& address, std::chrono::milliseconds limit, const std::stop_token& stop);

struct Listening {
  Fd socket;
  SocketFile file;  // Unix
  Address address;  // with the port that was given
};
// A UNIX socket's file as listen_unix() has it.
Result<Listening> listen_on(const Address& address);

// No limit: waits until somebody comes or a stop is requested.
Result<Fd> accept_on(const Fd& listener, std::optional<std::chrono::milliseconds> limit, const std::stop_token& stop);

}  // namespace gangway::migrate
