#include <exception>

#include "base/log.h"
#include "cli/command.h"

int main(int argc, char** argv) {
  using namespace gangway;
  CLI::App app{
      "gangway: live migration for VFIO devices.\n\n"
      "Serves PCI devices as processes over vfio-user, migrates a running guest with its devices, and shows\n"
      "the contract that both rest on. Start with `gangway demo`."};
  app.name("gangway");
  app.set_version_flag("--version", "gangway " GANGWAY_VERSION);
  app.require_subcommand(1);
  app.footer("`gangway COMMAND --help` teaches each command. Exit status: 0 success, 1 failure, 2 could not run.");
  bool verbose = false;
  app.add_flag("-v,--verbose", verbose, "Log what happens, not only what goes wrong");
  app.parse_complete_callback([&] { log::set_up("gangway", verbose ? log::Level::Debug : log::Level::Warning); });

  int status = cli::kSuccess;
  cli::add_demo(app, status);
  cli::add_guest(app, status);
  cli::add_migrate(app, status);
  cli::add_check(app, status);
  cli::add_profile(app, status);
  cli::add_replay(app, status);
  cli::add_contract(app, status);
  cli::add_inspect(app, status);
  cli::add_serve(app, status);
  cli::add_record(app, status);
  cli::add_trace(app, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? cli::kSuccess : cli::kCannotRun;
  } catch (const std::exception& error) {
    log::error("{}", error.what());
    return cli::kCannotRun;
  }
  return status;
}
