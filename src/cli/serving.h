// What the `gangway serve` commands share: their common options, and a process that serves endpoints until a signal.
#pragma once

#include <signal.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <gangway/endpoint.h>
#include <gangway/error.h>
#include <gangway/server.h>

namespace gangway::cli {

// What every device is served with.
struct ServeArguments {
  std::vector<std::string> sockets;
  std::uint64_t flags = 7;
  std::vector<std::string> interfaces;
  bool no_migration = false;
  std::uint32_t spin_us = 50;
  std::uint32_t client_timeout_ms = 5000;
  std::string quirk = "none";
};

// Ends what it stands for and frees it, once.
using Stop = std::function<void()>;

struct NamedEndpoint {
  std::string name;  // "nvme a.img"
  std::unique_ptr<Endpoint> endpoint;
  std::function<void()> let_go;  // called before its server is stopped; may be empty
  // How it is served at a socket; empty: by a Server.
  std::function<Result<Stop>(const std::string& socket, Endpoint& endpoint, const ServerOptions& options)> serve;
};

struct NamedDevice {
  std::string name;
  std::unique_ptr<Device> device;
};

// `--socket` is required of those that cannot do without.
enum class NeedsSocket { Yes, No };
void add_common(CLI::App& command, ServeArguments& arguments, NeedsSocket needs_socket = NeedsSocket::Yes);

Result<EndpointOptions> endpoint_options(const ServeArguments& arguments);
Result<std::vector<NamedEndpoint>> make_endpoints(const ServeArguments& arguments,
                                                  Result<std::vector<NamedDevice>> devices);

// SIGINT and SIGTERM end the program when serve() looks at them. Before any thread is started, which inherit the mask.
sigset_t block_signals();

// Serves the first endpoint at the first socket, and so on, until a signal. Returns the exit status.
int serve(const ServeArguments& arguments, Result<std::vector<NamedEndpoint>> endpoints, const sigset_t& signals);

// Further devices, each in a file of its own.
void add_serve_faulty(CLI::App& serve_command, int& status);

}  // namespace gangway::cli
