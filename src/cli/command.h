// A subcommand of the gangway program: declares its options on a CLI::App and leaves its work as the callback.
#pragma once

#include <chrono>
#include <string_view>

#include <CLI/CLI.hpp>

namespace gangway::cli {

// Exit statuses of every subcommand.
inline constexpr int kSuccess = 0;
inline constexpr int kFailure = 1;    // it ran and the answer is no (a check failed, a migration did not complete)
inline constexpr int kCannotRun = 2;  // wrong usage, or something it needs is missing

// Says why, and is kCannotRun.
int cannot_run(std::string_view why);

// For an option that is a time limit: no less and no more than a wait can be, and a number.
inline constexpr double kShortestLimit = 0.001;
inline constexpr double kLongestLimit = 1e6;
[[nodiscard]] CLI::Validator seconds_in_reach();
// Of what passed that.
[[nodiscard]] std::chrono::milliseconds limit_of(double seconds);

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
