// gangway record: writes down what a client and a device say to each other.
#include <signal.h>

#include <memory>
#include <string_view>
#include <thread>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/serving.h"
#include "record/recorder.h"
#include "record/tracer.h"

namespace gangway::cli {
namespace {

struct RecordArguments {
  std::string listen;
  std::string to;
  std::string out;
  bool payload = false;
  bool kernel = false;
  std::string folder = "/dev/vfio";
  std::vector<std::string> command;
  std::uint32_t spin_us = 50;
};

std::string socket_of(std::string_view target) {
  constexpr std::string_view kScheme = "vfio-user:";
  return std::string(target.starts_with(kScheme) ? target.substr(kScheme.size()) : target);
}

int record_socket(const RecordArguments& arguments) {
  if (arguments.listen.empty() || arguments.to.empty()) {
    log::error("record: give --listen SOCKET and --to TARGET");
    return kCannotRun;
  }
  const sigset_t signals = block_signals();
  auto recorder =
      record::Recorder::create({.listen = arguments.listen,
                                .server = socket_of(arguments.to),
                                .out = arguments.out,
                                .payload = arguments.payload ? record::KeepPayload::Yes : record::KeepPayload::No,
                                .spin = std::chrono::microseconds(arguments.spin_us)});
  if (!recorder) {
    log::error("{}", recorder.error().message);
    return kCannotRun;
  }
  fmt::print("ready: {} leads to {}, recorded in {}\n", arguments.listen, arguments.to, arguments.out);
  std::fflush(stdout);
  std::thread stopper([&] {
    int number = 0;
    while (::sigwait(&signals, &number) != 0) {
    }
    (*recorder)->stop();
  });
  const Result<void> recorded = (*recorder)->run();  // until the signal
  stopper.join();
  if (!recorded) {
    log::error("the recording is not whole: {}", recorded.error().message);
    return kFailure;
  }
  return kSuccess;
}

int record_kernel(const RecordArguments& arguments) {
  if (arguments.command.empty() || !arguments.listen.empty() || !arguments.to.empty()) {
    log::error("record --kernel: give the command to run behind --, and neither --listen nor --to");
    return kCannotRun;
  }
  ::signal(SIGXFSZ, SIG_IGN);
  const auto ended =
      record::Tracer::run({.command = arguments.command,
                           .out = arguments.out,
                           .folder = arguments.folder,
                           .payload = arguments.payload ? record::KeepPayload::Yes : record::KeepPayload::No});
  if (!ended) {
    log::error("{}", ended.error().message);
    return kCannotRun;
  }
  if (ended->failure) log::error("the recording is not whole: {}", ended->failure->message);
  return ended->status;
}

}  // namespace

void add_record(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("record", "Record what a client and a device say to each other");
  auto arguments = std::make_shared<RecordArguments>();
  command->add_option("--listen", arguments->listen, "UNIX socket that clients connect to instead of the device's")
      ->type_name("SOCKET");
  command->add_option("--to", arguments->to, "The device: vfio-user:SOCKET")->type_name("TARGET");
  command->add_option("--out", arguments->out, "File to record to; it must not exist")->required()->type_name("FILE");
  command->add_flag("--payload", arguments->payload,
                    "Keep memory and migration data, too; otherwise their size and hash");
  command
      ->add_option("--spin", arguments->spin_us,
                   "Microseconds to poll before sleeping; 0 sleeps at once and costs latency")
      ->capture_default_str()
      ->type_name("US");
  command->add_flag("--kernel", arguments->kernel, "Run a command, and record what it does to the kernel's devices");
  command->add_option("--device-path", arguments->folder, "With --kernel: the folder of the devices")
      ->capture_default_str()
      ->type_name("FOLDER");
  command->add_option("command", arguments->command, "With --kernel: the command and its arguments, behind --");
  command->footer(
      "Everything passes unchanged. Clients come one after the other; SIGINT or SIGTERM ends the recording.\n"
      "`gangway trace show FILE` prints it. Without --payload it still has what drivers write to registers, the names\n"
      "in VERSION, and addresses of the guest: treat it as you treat the guest's logs.\n"
      "With --kernel the exit status is the command's; every process that it starts is recorded, too.\n"
      "Examples: gangway record --listen /run/rec.sock --to vfio-user:/run/nvme.sock --out boot.trace\n"
      "          gangway record --kernel --out vmm.trace -- cloud-hypervisor --device path=...");
  command->callback(
      [arguments, &status] { status = arguments->kernel ? record_kernel(*arguments) : record_socket(*arguments); });
}

}  // namespace gangway::cli
