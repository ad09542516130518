// The language of profiles, and the profiles that are shipped.
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include <fmt/core.h>

#include "profile/compare.h"
#include "profile/library.h"
#include "profile/profile.h"

namespace gangway::profile {
namespace {

constexpr std::string_view kSmall =
    "profile small\n"
    "userspace somebody   # who does little\n"
    "interface v2\n"
    "known from repository file: function\n"
    "\n"
    "phase source on source together\n"
    "  from begin\n"
    "  if not PRE_COPY\n"
    "    set STOP else RUNNING\n"
    "  else\n"
    "    set PRE_COPY else reset\n"
    "  end\n"
    "  repeat until end\n"
    "    read 4096\n"
    "  end\n"
    "  region read 3735928559 0x0 4\n"
    "  expect EINVAL by WIR-FRAME\n";

Profile parsed(std::string_view text) {
  Result<Profile> profile = parse_profile(text);
  if (!profile) {
    ADD_FAILURE() << profile.error().message << "\n" << text;
    return {};
  }
  return *std::move(profile);
}

TEST(Profile, a_file_says_who_does_what_and_how_it_is_known) {
  const Profile profile = parsed(kSmall);
  EXPECT_EQ(profile.name, "small");
  EXPECT_EQ(profile.userspace, "somebody");
  EXPECT_EQ(profile.known_from, std::vector<std::string>{"repository file: function"});
  ASSERT_EQ(profile.phases.size(), 1U);
  const Phase& phase = profile.phases.front();
  EXPECT_EQ(phase.side, Side::Source);
  EXPECT_TRUE(phase.together);
  ASSERT_EQ(phase.steps.size(), 4U);
  const Step& choice = phase.steps.front();
  EXPECT_EQ(choice.line, 8U);
  EXPECT_EQ(choice.from, "begin");
  ASSERT_EQ(choice.body.size(), 1U);
  EXPECT_EQ(choice.body.front().recovery->state, DeviceState::Running);
  ASSERT_EQ(choice.otherwise.size(), 1U);
  EXPECT_FALSE(choice.otherwise.front().recovery->state.has_value());
  EXPECT_EQ(phase.steps.back().code, EINVAL);
}

TEST(Profile, conditions_go_by_what_the_device_has) {
  const Profile profile = parsed(kSmall);
  const Step& choice = profile.phases.front().steps.front();
  EXPECT_TRUE(choice.condition.holds({.flags = {.p2p = true, .pre_copy = false}}));
  EXPECT_FALSE(choice.condition.holds({.flags = {.p2p = false, .pre_copy = true}}));
}

TEST(Profile, every_profile_is_read_as_it_is_written) {
  std::vector<std::string> texts{std::string(kSmall)};
  for (const BuiltIn& built_in : built_in_profiles()) texts.emplace_back(built_in.text);
  for (const std::string& text : texts) {
    const std::string written = to_text(parsed(text));
    EXPECT_EQ(to_text(parsed(written)), written);
  }
}

TEST(Profile, those_that_are_shipped_say_where_they_are_known_from) {
  for (const char* name : {"qemu-7.2-v1", "qemu-10-v2", "qemu-10-v2-multifd", "qemu-config-late",
                           "cloud-hypervisor-2026", "libvfio-user-client"}) {
    const Result<Profile> profile = find_profile(name);
    ASSERT_TRUE(profile.has_value()) << profile.error().message;
    EXPECT_EQ(profile->name, name);
    EXPECT_FALSE(profile->userspace.empty()) << name;
    EXPECT_FALSE(profile->known_from.empty()) << name;
    for (const Side side : {Side::Source, Side::Destination}) {
      EXPECT_TRUE(std::ranges::find(profile->phases, side, &Phase::side) != profile->phases.end())
          << name << " has no " << to_text(side);
    }
    for (const Phase& phase : profile->phases) {
      for (const Step& step : phase.steps) EXPECT_FALSE(step.from.empty()) << name << " line " << step.line;
    }
  }
}

TEST(Profile, the_sample_client_of_libvfio_user_writes_more_at_once_than_it_reads) {
  const Result<Profile> client = find_profile("libvfio-user-client");
  ASSERT_TRUE(client.has_value()) << client.error().message;
  std::size_t largest_write = 0;
  std::uint64_t largest_read = 0;
  const auto look = [&](const std::vector<Step>& steps, const auto& self) -> void {
    for (const Step& step : steps) {
      if (step.act.kind == conformance::Act::Kind::RegionWrite) {
        largest_write = std::max(largest_write, step.act.bytes.size());
      }
      if (step.act.kind == conformance::Act::Kind::Read) largest_read = std::max(largest_read, step.act.number);
      self(step.body, self);
    }
  };
  for (const Phase& phase : client->phases) look(phase.steps, look);
  EXPECT_EQ(largest_read, 1024U);
  EXPECT_EQ(largest_write, 12U << 10);
}

TEST(Profile, a_long_write_is_a_fill_and_a_short_one_is_spelled) {
  EXPECT_EQ(conformance::to_text(*conformance::parse_act("region write 1 0x0 fill 12288")),
            "region write 1 0x0 fill 12288");
  EXPECT_EQ(conformance::to_text(*conformance::parse_act("region write 1 0x8 5a 5a")), "region write 1 0x8 5a 5a");
  for (const char* wrong : {"fill", "fill 64", "fill 65537", "fill 100 1", "fill x"}) {
    EXPECT_FALSE(conformance::parse_act(std::string("region write 1 0x0 ") + wrong)) << wrong;
  }
}

TEST(Profile, one_that_is_a_recording_drives_no_migration_and_plays_a_boot) {
  const Result<Profile> boot = find_profile("qemu-11.1-vfio-user-boot");
  ASSERT_TRUE(boot.has_value()) << boot.error().message;
  EXPECT_FALSE(boot->interface.has_value());
  ASSERT_EQ(boot->phases.size(), 1U);
  EXPECT_EQ(boot->phases.front().name, "boot");
}

TEST(Profile, those_that_do_the_same_are_told_from_those_that_do_not) {
  const Profile small = parsed(kSmall);
  std::string text(kSmall);
  const auto changed = [&text](std::string_view what, std::string_view into) {
    std::string other = text;
    other.replace(other.find(what), what.size(), into);
    return parsed(other);
  };
  // What a profile says of itself is no difference.
  for (const auto& [what, into] : {std::pair{"profile small", "profile other"},
                                   {"somebody", "nobody"},
                                   {"from begin", "from elsewhere"},
                                   {"phase source", "phase named"}}) {
    EXPECT_EQ(difference(small, changed(what, into), "a", "b"), std::nullopt) << what;
  }
  for (const auto& [what, into, said] :
       {std::tuple{"on source", "on destination", "'on source together'"},
        {"read 4096", "read 512", "'read 512'"},
        {"not PRE_COPY", "PRE_COPY", "'if PRE_COPY'"},
        {"else reset", "else STOP", "'set PRE_COPY else STOP'"},
        {"  region read 3735928559 0x0 4\n  expect EINVAL by WIR-FRAME\n", "", "nothing more"},
        {"interface v2", "interface region-v2", "interface v2 of a, region-v2 of b"}}) {
    if (std::string_view(into) == "interface region-v2")
      text = "profile x\ninterface v2\nphase p on source\nset STOP\n";
    const auto told = difference(parsed(text), changed(what, into), "a", "b");
    ASSERT_TRUE(told.has_value()) << what;
    EXPECT_NE(told->find(said), std::string::npos) << *told;
  }
  Profile longer = small;
  longer.phases.push_back(small.phases.front());
  EXPECT_EQ(difference(small, longer, "a", "b"), "1 phases of a, 2 of b");
}

void find_p2p(const std::vector<Step>& steps, bool allowed, const std::string& name) {
  for (const Step& step : steps) {
    const bool sets = step.kind == Step::Kind::Act && step.act.kind == conformance::Act::Kind::Set;
    if (sets && contract::is_p2p(static_cast<DeviceState>(step.act.number))) {
      EXPECT_TRUE(allowed) << name << " line " << step.line << ": P2P of every device";
    }
    const bool asks = step.kind == Step::Kind::If && step.condition.what == Condition::What::P2p;
    find_p2p(step.body, allowed || (asks && !step.condition.negated), name);
    find_p2p(step.otherwise, allowed || (asks && step.condition.negated), name);
  }
}

TEST(Profile, p2p_states_are_entered_only_where_the_device_has_them) {
  for (const BuiltIn& built_in : built_in_profiles()) {
    const Profile profile = parsed(built_in.text);
    for (const Phase& phase : profile.phases) find_p2p(phase.steps, false, profile.name);
  }
}

TEST(Profile, what_is_no_profile_is_refused_with_its_line) {
  const std::string head = "profile x\nphase p on source\n";
  const std::pair<std::string, std::string> wrong[] = {
      {"", "no 'profile NAME'"},
      {"profile x\n", "no phase"},
      {"profile X Y\n", "line 1"},
      {"profile x\nprofile y\n", "line 2"},
      {"profile x\ninterface v3\n", "v2, v1, region-v2 or none"},
      {"profile x\ninterface none\nphase p on source\nset STOP\n", "of interface v2 and region-v2"},
      {"profile x\ninterface region-v2\nphase p on source\nread 4\n", "of interface v2"},
      {"profile x\ninterface region-v2\nphase p on source\nbits 011\n", "of interface v1"},
      {head + "chunk by 8\n", "of interface v1 and region-v2"},
      {"profile x\nset STOP\n", "before the first phase"},
      {"profile x\nphase p\n", "on source"},
      {"profile x\nphase p on moon\n", "on source"},
      {head + "phase p on source\n", "second phase"},
      {head + "jump\n", "line 3"},
      {head + "open\n", "just opened"},
      {head + "set STOP else NOWHERE\n", "a state, or reset"},
      {head + "if LUCK\n", "P2P, PRE_COPY or LOGGING"},
      {head + "if P2P\n", "line 3: 'if P2P' has no end"},
      {head + "end\n", "'end' of nothing"},
      {head + "else\n", "'else' belongs"},
      {head + "if P2P\nelse\nelse\nend\n", "line 5"},
      {head + "repeat 0\nend\n", "repeat"},
      {head + "repeat 99999\nend\n", "repeat"},
      {head + "thread\nthread\nend\nend\n", "a thread within a thread"},
      {head + "expect EINVAL\n", "its clause"},
      {head + "expect EINVAL by LAW\n", "no clause"},
      {head + "expect ESOMETHING by WIR-FRAME\n", "such as EINVAL"},
      {head + "read 99999999999\n", "at once"},
      {head + "bits 011\n", "of interface v1"},
      {"profile x\ninterface v1\nphase p on source\nset STOP\n", "of interface v2"},
      {"profile x\ninterface v1\nphase p on source\nbits 12\n", "three bits"},
      {"profile x\ninterface v1\nphase p on source\nchunk by 0\n", "bytes of an access"},
      {head + "pending now\n", "takes nothing"},
      {head + std::string(9, 'x'), "line 3"},
  };
  for (const auto& [text, why] : wrong) {
    const Result<Profile> profile = parse_profile(text);
    ASSERT_FALSE(profile.has_value()) << text;
    EXPECT_NE(profile.error().message.find(why), std::string::npos) << text << "gave: " << profile.error().message;
  }
}

TEST(Profile, a_file_is_bounded) {
  std::string deep = "profile x\nphase p on source\n";
  for (std::size_t i = 0; i <= kDeepest; ++i) deep += "repeat 2\n";
  EXPECT_FALSE(parse_profile(deep).has_value());
  std::string is_long = "profile x\nphase p on source\n";
  for (std::size_t i = 0; i <= kMostSteps; ++i) is_long += "get\n";
  EXPECT_FALSE(parse_profile(is_long).has_value());
  EXPECT_FALSE(parse_profile(std::string(kLargestFile + 1, '\n')).has_value());
}

TEST(Profile, a_name_that_is_neither_built_in_nor_a_file_is_refused) {
  const Result<Profile> nobody = find_profile("no-such-profile");
  ASSERT_FALSE(nobody.has_value());
  EXPECT_NE(nobody.error().message.find("no profile of that name"), std::string::npos) << nobody.error().message;
}

}  // namespace
}  // namespace gangway::profile
