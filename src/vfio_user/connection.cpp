#include "vfio_user/connection.h"

#include <utility>

#include "base/log.h"

namespace gangway::vfio_user {
namespace {

Channel::Options channel_options(const ServerOptions& options) {
  return {.spin = options.spin,
          .timeout = options.client_timeout,
          .max_command_body = std::max(options.max_data_xfer_size, kDefaultMaxDataXferSize) + kMessageOverhead};
}

Channel::Options command_options(const ServerOptions& options) {
  Channel::Options main = channel_options(options);
  main.calls = false;
  main.limits = true;
  return main;
}

}  // namespace

Connection::Connection(Fd socket, std::string name, Endpoint& endpoint, const ServerOptions& options,
                       Counters& counters, MigrationWatch& watch)
    : name_(std::move(name)),
      options_(options),
      counters_(counters),
      watch_(watch),
      session_{.endpoint = endpoint,
               .offered = capabilities_of(endpoint, options.max_data_xfer_size),
               .quirks = options.quirks},
      channel_(std::move(socket), command_options(options)) {}

Connection::~Connection() { session_.endpoint.dma().set_messenger(nullptr); }

Error Connection::run() {
  Message message;
  for (;;) {
    if (const Result<void> came = channel_.next(message, this); !came) {
      close(came.error());
      say_what_is_lost(came.error());
      return came.error();
    }
    counters_.messages.fetch_add(1, std::memory_order_relaxed);
    {
      const Turns::Command command(in_turn_ ? &turns_ : nullptr);
      answer(message);
    }
    message.fds.clear();
    if (session_.end) channel_.close(*session_.end);
    // Looked at with the next message only: until then the device finds zeros, which costs nobody else anything.
    if (session_.endpoint.dma().failed()) {
      channel_.close(Error{EFAULT, "the client shortened a file that it had mapped for DMA", {}});
    }
  }
}

void Connection::close(const Error& reason) {
  channel_.close(reason);
  const std::scoped_lock lock(twin_mutex_);
  if (twin_) twin_->close(reason);
}

void Connection::answer(Message& message) {
  answer_.clear();
  const bool negotiated_before = session_.negotiated.has_value();
  if (const Result<void> handled = handle(session_, message, answer_); !handled) {
    counters_.refused.fetch_add(1, std::memory_order_relaxed);
    log::debug("refused: {}", handled.error().message);
    (void)channel_.refuse(message, handled.error().code);  // a failure to send ends next()
    return;
  }
  // Ready before the client knows: it may map and start the device with its next message.
  if (!negotiated_before && session_.negotiated) begin();
  (void)channel_.reply(message, answer_.outgoing());
  if (const auto warning = watch_.carried_out(message, session_.endpoint)) {
    log::warn("{}: {}", name_, *warning);
  }
}

void Connection::say_what_is_lost(const Error& reason) {
  if (reason.code == ECANCELED) return;  // it is we who end
  if (const auto warning = watch_.gone(session_.endpoint)) log::warn("{}: {}", name_, *warning);
}

void Connection::begin() {
  counters_.clients.fetch_add(1, std::memory_order_relaxed);
  Channel* carrier = &channel_;
  if (session_.twin) {
    Channel::Options options = channel_options(options_);
    options.commands = false;
    options.limits = true;
    const std::scoped_lock lock(twin_mutex_);
    carrier = &twin_.emplace(std::move(session_.twin), options);
    if (const std::optional<Error> reason = channel_.broken()) carrier->close(*reason);
  }
  const Capabilities& client = session_.negotiated->client;
  // Only who names a key of old and what the sample client of libvfio-user never does is asked how it lays out DMA
  // messages: QEMU does, and QEMU's are another.
  const bool may_pack = client.named_migration && client.named_dma_limits;
  // Who reads one message at a time shall find that which it waits for.
  in_turn_ = session_.negotiated->padded_replies && carrier == &channel_;
  dma_.emplace(*carrier, channel_,
               DmaChannel::Options{.max_transfer = client.max_data_xfer_size,
                                   .layout = may_pack ? DmaChannel::Layout::Unknown : DmaChannel::Layout::Specified,
                                   .turns = in_turn_ ? &turns_ : nullptr});
  session_.endpoint.dma().set_messenger(&*dma_);
}

}  // namespace gangway::vfio_user
