#include "cli/serving.h"

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/command.h"

namespace gangway::cli {
namespace {

void wait_for_signal(const sigset_t& set) {
  int number = 0;
  while (::sigwait(&set, &number) != 0) {
  }
  log::info("signal {}: stopping", number);
}

// Clients bring a descriptor for every interrupt, and the usual limit of 1024, meant for who uses select(), is that of
// the whole process. Left as it is where it cannot be raised: a client whose descriptors have no room is told.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) log::debug("raise the limit of descriptors: {}", strerrordesc_np(errno));
}

// Servers go before the endpoints that they serve.
struct Served {
  Served() = default;
  Served(Served&&) = default;
  Served& operator=(Served&&) = delete;
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  ~Served() {
    for (const Stop& stop : servers) stop();
  }
  std::vector<NamedEndpoint> endpoints;
  std::vector<Stop> servers;
};

Result<Stop> serve_plainly(const std::string& socket, Endpoint& endpoint, const ServerOptions& options) {
  auto server = Server::listen(socket, endpoint, options);
  if (!server) return std::unexpected(server.error());
  if (auto started = (*server)->start(); !started) return std::unexpected(started.error());
  return [server = std::shared_ptr<Server>(*std::move(server))]() mutable { server.reset(); };
}

Result<ServerOptions> server_options(const ServeArguments& arguments) {
  constexpr std::string_view kLibvfioUser = "libvfio-user-client";
  if (arguments.quirk != "none" && arguments.quirk != kLibvfioUser) {
    return fail(EINVAL, fmt::format("--quirk {}: use {} or none", arguments.quirk, kLibvfioUser));
  }
  constexpr std::uint32_t kLongestMs = 3'600'000;
  if (arguments.client_timeout_ms == 0 || arguments.client_timeout_ms > kLongestMs) {
    return fail(EINVAL,
                fmt::format("--client-timeout {}: use 1 to {} milliseconds", arguments.client_timeout_ms, kLongestMs));
  }
  return ServerOptions{.spin = std::chrono::microseconds(arguments.spin_us),
                       .client_timeout = std::chrono::milliseconds(arguments.client_timeout_ms),
                       .quirks = {.libvfio_user_client = arguments.quirk == kLibvfioUser}};
}

Result<Served> start(const ServeArguments& arguments, std::vector<NamedEndpoint> endpoints) {
  const auto options = server_options(arguments);
  if (!options) return std::unexpected(options.error());
  Served served;
  for (std::size_t index = 0; index < endpoints.size(); ++index) {
    NamedEndpoint& named = served.endpoints.emplace_back(std::move(endpoints[index]));
    const std::string& socket = arguments.sockets[index];
    auto serving = (named.serve ? named.serve : serve_plainly)(socket, *named.endpoint, *options);
    if (!serving) return fail_within(named.name, serving.error());
    served.servers.push_back(*std::move(serving));
    fmt::print("ready: {} at {}\n", named.name, socket);
    std::fflush(stdout);  // whoever waits for the line reads a pipe
  }
  return served;
}

Result<Revisions> revisions(const ServeArguments& arguments) {
  if (arguments.no_migration) return Revisions{.v2 = false};
  if (arguments.interfaces.empty()) return Revisions{};
  Revisions exposed{.v2 = false};
  for (const std::string& name : arguments.interfaces) {
    const auto revision = contract::revision_from_name(name);
    if (!revision) return fail(EINVAL, fmt::format("--interface {}: use v2, v1 or region-v2", name));
    exposed.v2 |= *revision == Revision::V2;
    exposed.v1 |= *revision == Revision::V1;
    exposed.region_v2 |= *revision == Revision::RegionV2;
  }
  return exposed;
}

}  // namespace

sigset_t block_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // a client that is gone is an error of the call
  ::signal(SIGXFSZ, SIG_IGN);  // so is a write beyond the largest file that the process may make
  return set;
}

Result<EndpointOptions> endpoint_options(const ServeArguments& arguments) {
  const auto flags = MigrationFlags::from_bits(arguments.flags);
  if (!flags || arguments.flags > 7) {
    return fail(EINVAL, fmt::format("--flags {}: use 1 (STOP_COPY), 3 (and P2P), 5 (and PRE_COPY) or 7 (all)",
                                    arguments.flags));
  }
  const auto exposed = revisions(arguments);
  if (!exposed) return std::unexpected(exposed.error());
  return EndpointOptions{.flags = *flags, .revisions = *exposed};
}

Result<std::vector<NamedEndpoint>> make_endpoints(const ServeArguments& arguments,
                                                  Result<std::vector<NamedDevice>> devices) {
  if (!devices) return std::unexpected(devices.error());
  const auto options = endpoint_options(arguments);
  if (!options) return std::unexpected(options.error());
  std::vector<NamedEndpoint> endpoints;
  for (NamedDevice& named : *devices) {
    auto endpoint = Endpoint::create(std::move(named.device), *options);
    if (!endpoint) return fail_within(named.name, endpoint.error());
    endpoints.push_back({.name = named.name, .endpoint = std::move(*endpoint), .let_go = {}, .serve = {}});
  }
  return endpoints;
}

int serve(const ServeArguments& arguments, Result<std::vector<NamedEndpoint>> endpoints, const sigset_t& signals) {
  raise_descriptor_limit();
  auto served = endpoints ? start(arguments, std::move(*endpoints)) : std::unexpected(endpoints.error());
  if (!served) {
    log::error("{}", served.error().message);
    return kCannotRun;
  }
  wait_for_signal(signals);
  for (const NamedEndpoint& named : served->endpoints) {
    if (named.let_go) named.let_go();
  }
  return kSuccess;
}

void add_common(CLI::App& command, ServeArguments& arguments, NeedsSocket needs_socket) {
  command
      .add_option("--socket", arguments.sockets, "UNIX socket to serve a device at; replaced if nobody listens on it")
      ->required(needs_socket == NeedsSocket::Yes)
      ->type_name("PATH");
  command
      .add_option("--flags", arguments.flags, "Migration flags to advertise: 1 STOP_COPY, 2 P2P, 4 PRE_COPY, added up")
      ->capture_default_str();
  command
      .add_option("--interface", arguments.interfaces,
                  "Revisions of the migration interface to expose, separated by commas: v2 (the default), v1 (the "
                  "retired migration region), region-v2 (the region with the states of v2)")
      ->delimiter(',')
      ->type_name("REVISION");
  command.add_flag("--no-migration", arguments.no_migration, "As a device that cannot migrate");
  command
      .add_option("--quirk", arguments.quirk,
                  "Serve clients that show it against the specification: libvfio-user-client, whose replies of "
                  "migration data must be as long as asked; nobody else notices")
      ->capture_default_str()
      ->type_name("NAME");
  command
      .add_option("--client-timeout", arguments.client_timeout_ms,
                  "Milliseconds that a client may take to answer a DMA message or to take a reply off its socket; one "
                  "that takes longer is given up, and its guest loses the device")
      ->capture_default_str()
      ->type_name("MS");
  command
      .add_option("--spin", arguments.spin_us,
                  "Microseconds to poll after the last work before sleeping; 0 sleeps at once and costs latency")
      ->capture_default_str()
      ->type_name("US");
}

}  // namespace gangway::cli
