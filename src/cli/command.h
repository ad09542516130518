// A subcommand of the gangway program: declares its options on a CLI::App and leaves its work as the callback.
#pragma once

#include <CLI/CLI.hpp>

namespace gangway::cli {

// Exit statuses of every subcommand.
inline constexpr int kSuccess = 0;
inline constexpr int kFailure = 1;    // it ran and the answer is no (a check failed, a migration did not complete)
inline constexpr int kCannotRun = 2;  // wrong usage, or something it needs is missing

// Each adds one subcommand. The subcommand stores its exit status where `status` points.
void add_check(CLI::App& app, int& status);
void add_contract(CLI::App& app, int& status);
void add_demo(CLI::App& app, int& status);
void add_guest(CLI::App& app, int& status);
void add_inspect(CLI::App& app, int& status);
void add_migrate(CLI::App& app, int& status);
void add_profile(CLI::App& app, int& status);
void add_record(CLI::App& app, int& status);
void add_replay(CLI::App& app, int& status);
void add_serve(CLI::App& app, int& status);
void add_trace(CLI::App& app, int& status);

}  // namespace gangway::cli
