// Stands at a socket in a server's place: each client that comes is led to the server, and what they say is written.
//
// One client after another, as a server serves them. Who is refused by the server, or finds none, is let go.
//
// Thread-safety: run() from one thread, stop() from any.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "base/unix_socket.h"
#include "record/scribe.h"
#include "record/trace_file.h"
#include "vfio_user/forwarder.h"

namespace gangway::record {

struct RecorderOptions {
  std::filesystem::path listen;
  std::filesystem::path server;
  std::filesystem::path out;
  KeepPayload payload = KeepPayload::No;
  std::chrono::microseconds spin{50};
};

class Recorder {
 public:
  static Result<std::unique_ptr<Recorder>> create(const RecorderOptions& options);

  // Until stop(). The reason for which the recording is not whole, where there is one: what was said passed all the
  // same.
  Result<void> run();
  void stop();

  [[nodiscard]] std::uint32_t clients() const { return clients_; }

 private:
  Recorder(RecorderOptions options, UnixListener listener, Fd stop_event, TraceWriter writer);
  [[nodiscard]] std::optional<Fd> accept_client();
  void serve(Fd client);

  const RecorderOptions options_;
  const UnixListener listener_;
  const Fd stop_event_;
  const Scribe::Clock::time_point began_ = Scribe::Clock::now();
  TraceWriter writer_;
  std::uint32_t clients_ = 0;
  bool told_of_failure_ = false;

  std::mutex mutex_;
  bool stopping_ = false;
  vfio_user::Forwarder* forwarder_ = nullptr;
};

// What stands at the front of a recording that begins now.
[[nodiscard]] Meta meta_now(Subject subject, std::string target, KeepPayload payload);

}  // namespace gangway::record
