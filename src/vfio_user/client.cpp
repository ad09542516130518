#include "vfio_user/client.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "handle/region_capabilities.h"
#include "vfio_user/client_data.h"
#include "vfio_user/client_description.h"

namespace gangway::vfio_user {
namespace {

// While calls come more often than this they read their own replies, and the thread for DMA messages does not.
constexpr std::chrono::microseconds kQuiet{1000};

// A device that says more of itself would have its client ask for ever, or keep what it was told.
constexpr std::uint32_t kMostRegions = 4096;
constexpr std::uint32_t kMostIrqTypes = 64;

Channel::Options channel_options(const ClientOptions& options) {
  return {.spin = options.open.spin, .timeout = options.open.timeout};
}

Channel::Options main_options(const ClientOptions& options) {
  Channel::Options main = channel_options(options);
  main.quiet = kQuiet;
  return main;
}

}  // namespace

Client::Client(Fd socket, std::string target, const ClientOptions& options)
    : target_(std::move(target)),
      timeout_(options.open.timeout),
      own_{.max_msg_fds = kMaxMsgFds,
           .write_multiple = true,
           .twin_socket = options.twin_socket,
           .enomsg = options.extensions,
           .precopy_info = options.extensions,
           .shared_data = options.extensions && options.shared_data},
      channel_(std::move(socket), main_options(options)) {}

Client::~Client() {
  const Error reason{ECANCELED, "the client is closed", {}};
  channel_.close(reason);
  if (twin_) twin_->close(reason);
}

Result<std::unique_ptr<Client>> Client::connect(const std::filesystem::path& socket, const ClientOptions& options) {
  Result<Fd> connected = connect_unix(socket, options.open.timeout);
  if (!connected) return std::unexpected(connected.error());
  return create(*std::move(connected), "vfio-user:" + socket.native(), options);
}

Result<std::unique_ptr<Client>> Client::create(Fd socket, std::string target, const ClientOptions& options) {
  std::unique_ptr<Client> client(new Client(std::move(socket), std::move(target), options));
  if (Result<void> agreed = client->negotiate(options); !agreed) return std::unexpected(agreed.error());
  return client;
}

Result<void> Client::negotiate(const ClientOptions& options) {
  const Version asked{.major = kMajor, .minor = kMinor};
  Version answered;
  const std::string json = to_json(own_);
  Buffer reply_json;
  const std::array body{bytes_of(asked), std::as_bytes(std::span(json))};
  Result<Channel::Reply> reply =
      channel_.call(Command::Version, {body, {}}, room_for(answered), reply_json.resize(kMaxVersionJson));
  if (!reply) return std::unexpected(in_words("VERSION", reply.error()));
  if (reply->size < sizeof answered || answered.major != kMajor || answered.minor > kMinor) {
    return fail_protocol(fmt::format("VERSION answered with {}.{}, asked for {}.{}", answered.major, answered.minor,
                                     asked.major, asked.minor));
  }
  const Result<Capabilities> server = parse_capabilities(reply_json.bytes().first(reply->size - sizeof answered));
  if (!server) return fail_protocol(server.error().message);
  if (server->max_data_xfer_size == 0) return fail_protocol("the server's max_data_xfer_size is 0");
  server_ = common(*server, own_);
  return take_twin(*reply, options);
}

Result<void> Client::take_twin(Channel::Reply& reply, const ClientOptions& options) {
  if (!server_.twin_socket) {
    dma_.emplace(channel_, own_.max_data_xfer_size);
    return {};
  }
  const std::size_t index = server_.twin_fd_index.value_or(reply.fds.size());
  if (index >= reply.fds.size()) return fail_protocol("VERSION promised a twin socket and brought none");
  twin_.emplace(std::move(reply.fds[index]), channel_options(options));
  dma_.emplace(*twin_, own_.max_data_xfer_size);
  channel_.refuse_commands();
  return {};
}

// --- calls ---

Error Client::in_words(std::string_view doing, Error error) const {
  error.message = fmt::format("{}: {}: {}", target_, doing, error.message);
  return error;
}

std::unexpected<Error> Client::fail_protocol(std::string what) {
  Error error{EPROTO, fmt::format("{}: {}", target_, what), "WIR-FRAME"};
  channel_.close(error);
  return std::unexpected(std::move(error));
}

Result<Channel::Reply> Client::call_exactly(Command command, Outgoing outgoing, std::span<std::byte> head,
                                            std::span<std::byte> data) {
  Result<Channel::Reply> reply = channel_.call(command, outgoing, head, data);
  if (reply && reply->size != head.size() + data.size()) {
    return fail_protocol(fmt::format("command {} answered with {} bytes, {} belong to it", static_cast<int>(command),
                                     reply->size, head.size() + data.size()));
  }
  return reply;
}

Result<void> Client::call_without_payload(Command command, Outgoing outgoing) {
  if (Result<Channel::Reply> reply = call_exactly(command, outgoing, {}); !reply) return std::unexpected(reply.error());
  return {};
}

// --- what it is ---

Result<DeviceHandle::Info> Client::info() {
  const DeviceInfo asked{.argsz = sizeof asked};
  DeviceInfo answered;
  const std::array body{bytes_of(asked)};
  const Result<Channel::Reply> reply = call_exactly(Command::DeviceGetInfo, {body, {}}, room_for(answered));
  if (!reply) return std::unexpected(in_words("device info", reply.error()));
  if (answered.regions > kMostRegions || answered.irqs > kMostIrqTypes) {
    return fail_protocol(fmt::format("a device of {} regions and {} interrupt types, at most {} and {} are believed",
                                     answered.regions, answered.irqs, kMostRegions, kMostIrqTypes));
  }
  return Info{.reset = (answered.flags & kDeviceReset) != 0,
              .pci = (answered.flags & kDevicePci) != 0,
              .regions = answered.regions,
              .irqs = answered.irqs};
}

Result<DeviceHandle::Region> Client::region(std::uint32_t index) {
  auto described = describe<RegionInfo>(Command::DeviceGetRegionInfo, index, "the description");
  if (!described) return std::unexpected(described.error());
  std::shared_ptr<const Fd> file;
  if (!described->fds.empty()) file = std::make_shared<const Fd>(std::move(described->fds.front()));
  Result<Region> region = to_region(described->fixed, described->rest, std::move(file));
  if (!region) return fail_protocol(region.error().message);
  return region;
}

Result<gangway::IrqInfo> Client::irq(std::uint32_t index) {
  const IrqInfo asked{.argsz = sizeof asked, .index = index};
  IrqInfo answered;
  const std::array body{bytes_of(asked)};
  const Result<Channel::Reply> reply = call_exactly(Command::DeviceGetIrqInfo, {body, {}}, room_for(answered));
  if (!reply) return std::unexpected(in_words(fmt::format("interrupt type {}", index), reply.error()));
  return gangway::IrqInfo{.flags = answered.flags, .count = answered.count};
}

// --- accesses ---

Result<void> Client::read(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) {
  for (std::size_t done = 0; done < out.size();) {
    const std::size_t count = std::min<std::size_t>(out.size() - done, server_.max_data_xfer_size);
    const RegionAccess asked{.offset = offset + done, .region = region, .count = static_cast<std::uint32_t>(count)};
    RegionAccess answered;
    const std::array body{bytes_of(asked)};
    const Result<Channel::Reply> reply =
        call_exactly(Command::RegionRead, {body, {}}, room_for(answered), out.subspan(done, count));
    if (!reply) {
      return std::unexpected(
          in_words(fmt::format("region {}: read of {} bytes at {:#x}", region, count, asked.offset), reply.error()));
    }
    if (answered.count != count)
      return fail_protocol(fmt::format("REGION_READ of {} bytes: {}", count, answered.count));
    done += count;
  }
  return {};
}

Result<void> Client::write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) {
  for (std::size_t done = 0; done < in.size();) {
    const std::size_t count = std::min<std::size_t>(in.size() - done, server_.max_data_xfer_size);
    const RegionAccess asked{.offset = offset + done, .region = region, .count = static_cast<std::uint32_t>(count)};
    RegionAccess answered;
    const std::array body{bytes_of(asked), in.subspan(done, count)};
    const Result<Channel::Reply> reply = call_exactly(Command::RegionWrite, {body, {}}, room_for(answered));
    if (!reply) {
      return std::unexpected(
          in_words(fmt::format("region {}: write of {} bytes at {:#x}", region, count, asked.offset), reply.error()));
    }
    if (answered.count != count) {
      return fail_protocol(fmt::format("REGION_WRITE of {} bytes: {}", count, answered.count));
    }
    done += count;
  }
  return {};
}

Result<void> Client::reset() {
  if (const Result<void> ready = before_state_change(); !ready) log::debug("{}", ready.error().message);
  Result<void> done = call_without_payload(Command::DeviceReset, {});
  after_state_change();
  if (!done) return std::unexpected(in_words("reset", done.error()));
  return done;
}

// --- interrupts ---

Result<void> Client::set_irqs(gangway::IrqSet request) {
  using Data = gangway::IrqSet::Data;
  if (request.data == Data::Bool && request.bools.size() != request.count) {
    return fail(EINVAL,
                fmt::format("{}: {} interrupts with {} booleans", target_, request.count, request.bools.size()));
  }
  if (request.data != Data::Eventfd || request.eventfds.empty()) return send_irqs(request, 0, request.count);
  if (request.eventfds.size() != request.count) {
    return fail(EINVAL,
                fmt::format("{}: {} interrupts with {} descriptors", target_, request.count, request.eventfds.size()));
  }
  const auto is_there = [](const Fd& fd) { return static_cast<bool>(fd); };
  if (server_.max_msg_fds == 0 && std::ranges::any_of(request.eventfds, is_there)) {
    return fail(ENOTSUP,
                fmt::format("{}: set interrupts of type {}: the server takes no descriptors (max_msg_fds 0)", target_,
                            to_number(request.type)),
                "WIR-NEGOTIATE");
  }
  // A message has descriptors for all its interrupts or for none, and as many as the server takes.
  for (std::uint32_t first = 0; first < request.count;) {
    const auto present = [&](std::uint32_t i) { return static_cast<bool>(request.eventfds[i]); };
    std::uint32_t count = 1;
    while (first + count < request.count && present(first + count) == present(first) &&
           (!present(first) || count < server_.max_msg_fds)) {
      ++count;
    }
    if (Result<void> sent = send_irqs(request, first, count); !sent) return sent;
    first += count;
  }
  return {};
}

Result<void> Client::send_irqs(const gangway::IrqSet& request, std::uint32_t first, std::uint32_t count) {
  using Data = gangway::IrqSet::Data;
  constexpr std::array kData{kIrqDataNone, kIrqDataBool, kIrqDataEventfd};
  constexpr std::array kAction{kIrqActionMask, kIrqActionUnmask, kIrqActionTrigger};
  const std::span<const std::byte> bools = request.data == Data::Bool
                                               ? std::span<const std::byte>(request.bools).subspan(first, count)
                                               : std::span<const std::byte>();
  std::vector<int> fds;
  if (request.data == Data::Eventfd && !request.eventfds.empty() && request.eventfds[first]) {
    for (std::uint32_t i = first; i < first + count; ++i) fds.push_back(request.eventfds[i].get());
  }
  const IrqSet set{
      .argsz = static_cast<std::uint32_t>(sizeof set + bools.size()),
      .flags = kData.at(static_cast<std::size_t>(request.data)) | kAction.at(static_cast<std::size_t>(request.action)),
      .index = to_number(request.type),
      .start = request.start + first,
      .count = count};
  const std::array body{bytes_of(set), bools};
  Result<void> done = call_without_payload(Command::DeviceSetIrqs, {body, fds});
  if (!done) return std::unexpected(in_words(fmt::format("set interrupts of type {}", set.index), done.error()));
  return done;
}

}  // namespace gangway::vfio_user
