// gangway serve: a device process.
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/serving.h"
#include "devices/nvme/controller.h"
#include "devices/serial/card.h"
#include "devices/serial/fd_backend.h"

namespace gangway::cli {
namespace {

struct NvmeArguments {
  ServeArguments serve;
  std::vector<std::string> disks;
  std::vector<std::string> namespaces;
  // The two in the order they were given in.
  enum class Image : std::uint8_t { Disk, Namespace };
  std::vector<Image> order;
  std::vector<std::string> serials;
  std::uint32_t block_size = 512;
  bool read_only = false;
  std::uint16_t queues = 16;
  std::string doorbells = "messages";
  std::uint32_t poll_queues_us = 200;
  std::string backend = "auto";
};

struct SerialArguments {
  ServeArguments serve;
  std::vector<std::string> lines;
};

// --- nvme ---

// Stable for an image at a path, so that source and destination of a migration agree without being told.
std::string default_serial(const std::string& disk) {
  std::error_code ignored;
  const std::string path = std::filesystem::weakly_canonical(disk, ignored).string();
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a
  for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x0000'0100'0000'01b3;
  return fmt::format("GW{:016X}", hash);
}

Result<nvme::BackendFactory> backend(const std::string& name) {
  static const std::map<std::string, nvme::BackendFactory> known{{"auto", nvme::make_backend},
                                                                 {"io_uring", nvme::make_uring_backend},
                                                                 {"threads", nvme::make_thread_pool_backend}};
  const auto found = known.find(name);
  if (found == known.end()) return fail(EINVAL, fmt::format("--backend {}: use auto, io_uring or threads", name));
  return found->second;
}

std::vector<NvmeArguments::Image> order_of_images(const CLI::App& command) {
  std::vector<NvmeArguments::Image> order;
  for (const CLI::Option* option : command.parse_order()) {
    if (option->check_lname("disk")) order.push_back(NvmeArguments::Image::Disk);
    if (option->check_lname("namespace")) order.push_back(NvmeArguments::Image::Namespace);
  }
  return order;
}

// Two controllers may have one image, of which one runs; a controller that has it twice could never lock it.
Result<void> check_new(const std::string& image, std::span<const std::string> others) {
  for (const std::string& other : others) {
    std::error_code ignored;  // an image that is not there is refused when it is opened
    if (!std::filesystem::equivalent(other, image, ignored)) continue;
    return fail(EINVAL, fmt::format("--namespace {}: the controller writes this image already, as {}", image, other));
  }
  return {};
}

// The images of each controller: its --disk, and every --namespace up to the next one.
Result<std::vector<std::vector<std::string>>> images_of_controllers(const NvmeArguments& arguments) {
  std::vector<std::vector<std::string>> controllers;
  if (arguments.namespaces.empty()) {
    for (const std::string& disk : arguments.disks) controllers.push_back({disk});
    return controllers;
  }
  // "[A,B]" is two of a repeated option at once, of which the order does not tell.
  if (arguments.order.size() != arguments.disks.size() + arguments.namespaces.size()) {
    return fail(EINVAL, "--namespace: give each --disk and each --namespace by itself");
  }
  auto disk = arguments.disks.begin();
  auto next = arguments.namespaces.begin();
  for (const NvmeArguments::Image kind : arguments.order) {
    if (kind == NvmeArguments::Image::Disk) {
      controllers.push_back({*disk++});
      continue;
    }
    const std::string& image = *next++;
    if (controllers.empty()) {
      return fail(EINVAL,
                  fmt::format("--namespace {}: give it after the --disk whose controller it belongs to", image));
    }
    if (!arguments.read_only) {
      if (auto fresh = check_new(image, controllers.back()); !fresh) return std::unexpected(fresh.error());
    }
    controllers.back().push_back(image);
  }
  return controllers;
}

std::vector<nvme::NamespaceOptions> namespaces_on(const std::vector<std::string>& images,
                                                  const NvmeArguments& arguments) {
  std::vector<nvme::NamespaceOptions> namespaces;
  for (const std::string& image : images) {
    namespaces.push_back({.path = image, .block_size = arguments.block_size, .read_only = arguments.read_only});
  }
  return namespaces;
}

Result<std::vector<NamedDevice>> make_nvme(const NvmeArguments& arguments) {
  const std::size_t count = arguments.disks.size();
  if (arguments.serve.sockets.size() != count) {
    return fail(EINVAL, fmt::format("{} --socket and {} --disk: each socket serves one disk, in the order given",
                                    arguments.serve.sockets.size(), count));
  }
  if (!arguments.serials.empty() && arguments.serials.size() != count) {
    return fail(EINVAL,
                fmt::format("{} --serial for {} disks: give each one, or none", arguments.serials.size(), count));
  }
  if (arguments.doorbells != "messages" && arguments.doorbells != "mapped") {
    return fail(EINVAL, fmt::format("--doorbells {}: use messages or mapped", arguments.doorbells));
  }
  auto factory = backend(arguments.backend);
  if (!factory) return std::unexpected(factory.error());
  const auto images = images_of_controllers(arguments);
  if (!images) return std::unexpected(images.error());
  std::vector<NamedDevice> devices;
  for (std::size_t index = 0; index < count; ++index) {
    const std::string& disk = arguments.disks[index];
    auto controller =
        nvme::Controller::create({.serial = arguments.serials.empty() ? default_serial(disk) : arguments.serials[index],
                                  .namespaces = namespaces_on((*images)[index], arguments),
                                  .io_queue_pairs = arguments.queues,
                                  .mapped_doorbells = arguments.doorbells == "mapped",
                                  .spin = std::chrono::microseconds(arguments.poll_queues_us),
                                  .backend = *factory});
    if (!controller) return std::unexpected(controller.error());
    log::info("nvme {}: image through {}", disk, (*controller)->backend_name());
    devices.push_back({.name = fmt::format("nvme {}", disk), .device = std::move(*controller)});
  }
  return devices;
}

// --- serial ---

Result<std::unique_ptr<serial::Backend>> connect_line(const std::string& line) {
  constexpr std::string_view kUnix = "unix:";
  if (line == "loopback") return nullptr;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = line.starts_with(kUnix) ? line.substr(kUnix.size()) : "";
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(EINVAL, fmt::format("--line {}: use loopback or unix:SOCKET", line));
  }
  path.copy(address.sun_path, path.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(fmt::format("connect a serial line to {}", path));
  }
  return serial::FdBackend::create(std::move(socket));
}

Result<std::vector<NamedDevice>> make_serial(const SerialArguments& arguments) {
  if (arguments.serve.sockets.size() != 1) {
    return fail(EINVAL, fmt::format("{} --socket: a serial card has one", arguments.serve.sockets.size()));
  }
  if (arguments.lines.size() > serial::kPorts) {
    return fail(EINVAL, fmt::format("{} --line: the card has {} ports", arguments.lines.size(), serial::kPorts));
  }
  serial::CardOptions options;
  for (std::size_t port = 0; port < arguments.lines.size(); ++port) {
    auto line = connect_line(arguments.lines[port]);
    if (!line) return std::unexpected(line.error());
    options.backends[port] = std::move(*line);
  }
  std::vector<NamedDevice> devices;
  devices.push_back({.name = "serial", .device = std::make_unique<serial::Card>(std::move(options))});
  return devices;
}

// --- options ---

void add_nvme(CLI::App& serve_command, int& status) {
  CLI::App* command = serve_command.add_subcommand("nvme", "NVMe controllers, each on a disk image or block device");
  auto arguments = std::make_shared<NvmeArguments>();
  add_common(*command, arguments->serve);
  command->add_option("--disk", arguments->disks, "Image or block device; the first --disk is for the first --socket")
      ->required()
      ->type_name("PATH");
  command
      ->add_option("--namespace", arguments->namespaces,
                   "One more namespace of the controller of the --disk before it: an image or block device")
      ->type_name("PATH");
  command->add_option("--serial", arguments->serials,
                      "Serial number of each controller, the same at a migration's source and destination; made from "
                      "the disk's path by default");
  command->add_option("--block-size", arguments->block_size, "Logical blocks: 512 or 4096 bytes")
      ->capture_default_str();
  command->add_flag("--read-only", arguments->read_only, "Refuse writes; several may read one image");
  command->add_option("--queues", arguments->queues, "I/O queue pairs, 1 to 16")->capture_default_str();
  command
      ->add_option(
          "--doorbells", arguments->doorbells,
          "messages: idle costs no CPU. mapped: the client writes them in shared memory, which saves a message "
          "an I/O; the controller looks for them every millisecond when idle")
      ->capture_default_str();
  command
      ->add_option("--poll-queues", arguments->poll_queues_us,
                   "Microseconds to poll the queues after the last work, at most: a quarter where the host has several "
                   "commands at a time, less where nothing comes meanwhile; 0 sleeps at once")
      ->capture_default_str()
      ->type_name("US");
  command->add_option("--backend", arguments->backend, "auto, io_uring or threads")->capture_default_str();
  command->footer(
      "An image is locked while a controller that uses it is enabled and runs; the lock passes with a migration, so\n"
      "source and destination may be started on the same image.\n\n"
      "Examples:\n"
      "  gangway serve nvme --socket /run/a.sock --disk a.img\n"
      "  gangway serve nvme --socket /run/a.sock --disk a.img --socket /run/b.sock --disk b.img\n"
      "  gangway serve nvme --socket /run/a.sock --disk a.img --namespace a2.img\n"
      "  gangway inspect vfio-user:/run/a.sock\n\n"
      "Runs until SIGINT or SIGTERM. Exit status: 0 stopped, 2 could not serve.");
  command->callback([arguments, command, &status] {
    arguments->order = order_of_images(*command);
    const sigset_t signals = block_signals();
    status = serve(arguments->serve, make_endpoints(arguments->serve, make_nvme(*arguments)), signals);
  });
}

void add_serial(CLI::App& serve_command, int& status) {
  CLI::App* command = serve_command.add_subcommand("serial", "A card with two 16550A serial ports");
  auto arguments = std::make_shared<SerialArguments>();
  add_common(*command, arguments->serve);
  command
      ->add_option(
          "--line", arguments->lines,
          "Where a port leads: loopback (default), or unix:SOCKET, on which somebody listens; the first --line "
          "is for the first port")
      ->type_name("LINE");
  command->footer(
      "Examples:\n"
      "  gangway serve serial --socket /run/serial.sock\n"
      "  gangway serve serial --socket /run/serial.sock --line unix:/run/console.sock\n\n"
      "Runs until SIGINT or SIGTERM. Exit status: 0 stopped, 2 could not serve.");
  command->callback([arguments, &status] {
    const sigset_t signals = block_signals();
    status = serve(arguments->serve, make_endpoints(arguments->serve, make_serial(*arguments)), signals);
  });
}

}  // namespace

void add_serve(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("serve", "Serve devices over vfio-user, each at a UNIX socket");
  command->require_subcommand(1);
  command->footer(
      "`gangway serve nvme --help` and `gangway serve serial --help` teach each device, `gangway serve faulty --help`\n"
      "those with a known defect.");
  add_nvme(*command, status);
  add_serial(*command, status);
  add_serve_faulty(*command, status);
}

}  // namespace gangway::cli
