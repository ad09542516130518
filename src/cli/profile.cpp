// gangway profile: a profile out of a recording.
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <fmt/core.h>

#include "base/log.h"
#include "cli/command.h"
#include "profile/compare.h"
#include "profile/derive.h"
#include "profile/library.h"
#include "record/act_reader.h"

namespace gangway::cli {
namespace {

struct ProfileArguments {
  std::string file;
  std::string name;
  std::string output;
  std::string against;
};

// Of a file's name what a profile's may have.
std::string name_of(const std::string& file) {
  std::string name;
  for (const char c : std::filesystem::path(file).stem().string()) {
    const char small = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const bool fits = (small >= 'a' && small <= 'z') || (small >= '0' && small <= '9') || small == '-' || small == '_';
    if (name.size() < 40) name += fits ? small : '-';
  }
  return name.empty() || name.front() == '-' ? "recorded" + name : name;
}

int compare(const profile::Profile& derived, const ProfileArguments& arguments) {
  const auto known = profile::find_profile(arguments.against);
  if (!known) return cannot_run(known.error().message);
  const auto other = profile::difference(derived, *known, arguments.file, arguments.against);
  fmt::print("{}\n", other ? *other : fmt::format("{} does what {} says", arguments.file, arguments.against));
  return other ? kFailure : kSuccess;
}

int derive(const ProfileArguments& arguments) {
  auto reader = record::ActReader::open(arguments.file);
  if (!reader) return cannot_run(reader.error().message);
  const auto acts = reader->rest();
  if (!acts) return cannot_run(fmt::format("{}: {}", arguments.file, acts.error().message));
  if (reader->cut()) log::warn("{}: {}", arguments.file, *reader->cut());
  const std::string name = arguments.name.empty() ? name_of(arguments.file) : arguments.name;
  const auto profile = profile::derive_profile(name, reader->meta(), *acts);
  if (!profile) {
    log::error("{}: {}", arguments.file, profile.error().message);
    return profile.error().code == ENODATA ? kFailure : kCannotRun;
  }
  if (!arguments.against.empty()) return compare(*profile, arguments);
  const std::string text = profile::to_text(*profile);
  if (arguments.output.empty()) {
    fmt::print("{}", text);
    return kSuccess;
  }
  std::ofstream out(arguments.output, std::ios::binary | std::ios::trunc);
  out << text << std::flush;
  if (!out) return cannot_run(fmt::format("cannot write {}", arguments.output));
  return kSuccess;
}

}  // namespace

void add_profile(CLI::App& app, int& status) {
  CLI::App* command =
      app.add_subcommand("profile", "Derive a profile from a recording: what its client does to a device");
  auto arguments = std::make_shared<ProfileArguments>();
  command->add_option("file", arguments->file, "A recording of `gangway record`")->required()->type_name("FILE");
  command->add_option("--name", arguments->name, "Of the profile; made from the file's name by default")
      ->type_name("NAME");
  command->add_option("--output", arguments->output, "Write it there instead of to standard output")->type_name("FILE");
  command
      ->add_option("--against", arguments->against,
                   "Compare it with this profile, one that is built in or a file, instead of writing it")
      ->type_name("NAME");
  command->footer(
      "A phase for each connection in which migration is driven, by the interface that is driven first (v2, v1, "
      "region-v2),\nsources before destinations. Where nobody migrates, a phase for each in which the device is reset, "
      "set up or enabled.\nWhat is done is kept, not how often, and accesses to the device's own registers are left "
      "out, so that it can be\nplayed on any device. docs/profiles.md has the language.\n\n"
      "Examples:\n"
      "  gangway profile vmm.trace > ours.profile\n"
      "  gangway check vfio-user:/run/nvme.sock --profile ./ours.profile\n"
      "  gangway profile boot.trace --against qemu-11.1-vfio-user-boot\n\n"
      "Exit status: 0 written, or as --against has it; 1 nobody uses the device in the recording, or not so; 2 could "
      "not run.");
  command->callback([arguments, &status] { status = derive(*arguments); });
}

}  // namespace gangway::cli
