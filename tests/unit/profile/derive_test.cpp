// Profiles out of recordings.
#include <gtest/gtest.h>

#include "profile/derive.h"
#include "unit/record/kernel_calls.h"

namespace gangway::profile {
namespace {

using record::Act;

constexpr std::uint32_t number(DeviceState state) { return static_cast<std::uint32_t>(state); }

class Recorded {
 public:
  Recorded& in(std::uint32_t connection) {
    connection_ = connection;
    return *this;
  }
  Recorded& did(record::Doing doing, int error = 0) {
    acts_.push_back({.doing = std::move(doing), .connection = connection_, .answered = true, .error = error});
    return *this;
  }
  Recorded& set(DeviceState state, int error = 0) { return did(record::SetState{number(state)}, error); }
  Recorded& read(std::uint64_t asked, std::uint64_t got) {
    return did(record::ReadData{.asked = asked, .got = {.size = got}});
  }
  [[nodiscard]] Result<Profile> profile() const { return derive_profile("derived", record::Meta{}, acts_); }
  [[nodiscard]] std::string text() const {
    const Result<Profile> made = profile();
    if (!made) return made.error().message;
    const std::string all = to_text(*made);
    return all.substr(all.find("\nphase") + 1);
  }

 private:
  std::vector<Act> acts_;
  std::uint32_t connection_ = 1;
};

TEST(Derive, a_source_keeps_what_it_did_and_not_how_often) {
  Recorded recorded;
  recorded.did(record::GetDataSize{}).set(DeviceState::PreCopy).did(record::GetPrecopyInfo{});
  for (int i = 0; i < 5; ++i) recorded.read(4096, 4096).did(record::GetPrecopyInfo{});
  recorded.did(record::ReadData{.asked = 4096}, ENOMSG).set(DeviceState::PreCopyP2p).set(DeviceState::StopCopy);
  recorded.read(4096, 4096).read(4096, 4096).read(4096, 0).set(DeviceState::Stop);
  EXPECT_EQ(recorded.text(),
            "phase connection-1 on source\n"
            "  size\n"
            "  if PRE_COPY\n"
            "    set PRE_COPY\n"
            "    info\n"
            "    repeat until end\n"
            "      read 4096\n"
            "    end\n"
            "    if P2P\n"
            "      set PRE_COPY_P2P\n"
            "    end\n"
            "  end\n"
            "  set STOP_COPY\n"
            "  repeat until end\n"
            "    read 4096\n"
            "  end\n"
            "  set STOP\n");
}

TEST(Derive, a_destination_comes_behind_its_source) {
  Recorded recorded;
  recorded.in(1).did(record::Reset{}).set(DeviceState::Resuming);
  recorded.did(record::WriteData{.given = {.size = 100}}).did(record::WriteData{.given = {.size = 7}});
  recorded.did(
      record::WriteRegion{.region = 7, .offset = 4, .size = 2, .data = std::vector<std::byte>(2), .payload = {}});
  recorded.did(record::SetIrqs{.type = 2, .flags = 0x24, .start = 0, .count = 1, .bools = {}, .descriptors = 1});
  recorded.did(record::ReadRegion{.region = 0, .offset = 0, .size = 4, .data = {}, .payload = {}});
  recorded.set(DeviceState::RunningP2p).set(DeviceState::Running);
  recorded.in(2).set(DeviceState::StopCopy).read(10, 3).set(DeviceState::Stop);
  EXPECT_EQ(recorded.text(),
            "phase connection-2 on source\n"
            "  set STOP_COPY\n"
            "  repeat until end\n"
            "    read 10\n"
            "  end\n"
            "  set STOP\n"
            "\n"
            "phase connection-1 on destination\n"
            "  command keep\n"
            "  reset\n"
            "  set RESUMING\n"
            "  write all by 100\n"
            "  command restore\n"
            "  interrupts arm\n"
            "  if P2P\n"
            "    set RUNNING_P2P\n"
            "  end\n"
            "  set RUNNING\n");
}

TEST(Derive, a_program_of_the_kernel_has_one_phase_a_device) {
  const auto acts = test::kernel_migration().acts();
  const Result<Profile> made = derive_profile("derived", record::Meta{.subject = record::Subject::Kernel}, acts);
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const std::string text = to_text(*made);
  EXPECT_EQ(text.substr(text.find("\nphase") + 1),
            "phase connection-3 on destination\n"
            "  set STOP_COPY\n"
            "  repeat until end\n"
            "    read 4096\n"
            "  end\n"
            "  set STOP\n"
            "  set RESUMING\n"
            "  write all by 2000\n"
            "  close data\n"
            "  set RUNNING\n");
}

TEST(Derive, a_short_read_of_a_descriptor_is_no_end_and_waiting_for_data_is_no_act) {
  Recorded recorded;
  recorded.set(DeviceState::PreCopy).did(record::ReadData{.asked = 4096, .by_descriptor = true}, EAGAIN);
  recorded.did(record::ReadData{.asked = 4096, .got = {.size = 10}, .by_descriptor = true});
  EXPECT_EQ(recorded.set(DeviceState::Running).text(),
            "phase connection-1 on source\n"
            "  if PRE_COPY\n"
            "    set PRE_COPY\n"
            "    read 4096\n"
            "  end\n"
            "  set RUNNING\n");
}

TEST(Derive, what_follows_a_refused_state_is_its_recovery) {
  EXPECT_EQ(Recorded().set(DeviceState::StopCopy, EIO).set(DeviceState::Stop).set(DeviceState::Running).text(),
            "phase connection-1 on source\n  set STOP_COPY else STOP\n  set RUNNING\n");
  EXPECT_EQ(Recorded().set(DeviceState::StopCopy, EIO).did(record::Reset{}).text(),
            "phase connection-1 on source\n  set STOP_COPY else reset\n");
}

TEST(Derive, logging_with_and_without_ranges_is_told_apart) {
  EXPECT_NE(Recorded().did(record::StartLogging{}).set(DeviceState::Stop).text().find("log start all"),
            std::string::npos);
  const std::string ranges =
      Recorded().did(record::StartLogging{.page_size = 4096, .ranges = {{{0}, 4096}}}).set(DeviceState::Stop).text();
  EXPECT_NE(ranges.find("if LOGGING\n    log start\n"), std::string::npos) << ranges;
}

// --- a migration region ---

constexpr std::uint32_t kRegion = 9;

template <class T>
std::vector<std::byte> bytes(T value) {
  const auto whole = std::as_bytes(std::span(&value, 1));
  return {whole.begin(), whole.end()};
}

// The accesses of a client of v1 or region-v2.
class RegionClient : public Recorded {
 public:
  explicit RegionClient(std::uint32_t subtype) {
    did(record::GetRegion{
        .region = kRegion, .room = 64, .flags = 3, .size = 1U << 20, .type = std::pair{3U, subtype}, .mappable = {}});
  }
  RegionClient& state(std::uint32_t value, int error = 0) {
    did(record::WriteRegion{.region = kRegion, .offset = 0, .size = 4, .data = bytes(value), .payload = {}}, error);
    return *this;
  }
  RegionClient& field(std::uint64_t offset, std::uint64_t value) {
    did(record::ReadRegion{.region = kRegion, .offset = offset, .size = 8, .data = bytes(value), .payload = {}});
    return *this;
  }
  RegionClient& pending(std::uint64_t bytes) { return field(8, bytes); }
  // Of data that moves in accesses, or by a mapping where there is none.
  RegionClient& chunk(std::uint64_t size, std::uint32_t access, std::uint32_t accesses) {
    field(16, 4096).field(24, size);
    for (std::uint32_t i = 0; i < accesses; ++i) {
      did(record::ReadRegion{
          .region = kRegion, .offset = 4096 + i * access, .size = access, .data = {}, .payload = {.size = access}});
    }
    return *this;
  }
  RegionClient& load(std::uint64_t size, std::uint32_t access, std::uint32_t accesses) {
    field(16, 4096);
    for (std::uint32_t i = 0; i < accesses; ++i) {
      did(record::WriteRegion{
          .region = kRegion, .offset = 4096 + i * access, .size = access, .data = {}, .payload = {.size = access}});
    }
    did(record::WriteRegion{.region = kRegion, .offset = 24, .size = 8, .data = bytes(size), .payload = {}});
    return *this;
  }
};

TEST(Derive, accesses_of_v1_are_its_bits_and_chunks) {
  RegionClient recorded(1);
  recorded.state(3).pending(20).chunk(20, 8, 2).pending(0);
  recorded.state(2).state(2).pending(50).chunk(40, 8, 5).pending(10).chunk(10, 8, 1).pending(0).state(0);
  recorded.in(2);
  recorded.state(3).pending(7).state(5, EINVAL).state(1);
  recorded.in(3);
  recorded.state(2).pending(9).chunk(9, 8, 1).state(1);
  recorded.in(4);
  recorded.did(record::Reset{});
  recorded.state(4).load(40, 8, 5).load(10, 4, 3).state(1);
  EXPECT_EQ(recorded.profile()->interface, Revision::V1);
  EXPECT_EQ(recorded.text(),
            "phase connection-1 on source\n"
            "  bits 011\n"
            "  repeat until end\n"
            "    pending\n"
            "    chunk by 8\n"
            "  end\n"
            "  bits 010\n"
            "  bits 010\n"
            "  repeat until end\n"
            "    pending\n"
            "    chunk by 8\n"
            "  end\n"
            "  bits 000\n"
            "\n"
            "phase connection-2 on source\n"
            "  bits 011\n"
            "  pending\n"
            "  bits 001\n"
            "\n"
            "phase connection-3 on source\n"
            "  bits 010\n"
            "  pending\n"
            "  chunk by 8\n"
            "  bits 001\n"
            "\n"
            "phase connection-4 on destination\n"
            "  reset\n"
            "  bits 100\n"
            "  load by 8\n"
            "  bits 001\n");
}

TEST(Derive, region_v2_has_the_states_of_v2_and_data_that_is_mapped_is_said_to_be) {
  RegionClient recorded(2);
  recorded.state(number(DeviceState::PreCopy)).pending(0).state(number(DeviceState::PreCopyP2p));
  recorded.state(number(DeviceState::StopCopy)).pending(50).chunk(50, 0, 0).pending(0);
  recorded.state(number(DeviceState::Stop), EIO).state(number(DeviceState::Running));
  EXPECT_EQ(recorded.profile()->interface, Revision::RegionV2);
  EXPECT_EQ(recorded.text(),
            "phase connection-1 on source\n"
            "  note data went through the mapped part of the region\n"
            "  if PRE_COPY\n"
            "    set PRE_COPY\n"
            "    pending\n"
            "    if P2P\n"
            "      set PRE_COPY_P2P\n"
            "    end\n"
            "  end\n"
            "  set STOP_COPY\n"
            "  repeat until end\n"
            "    pending\n"
            "    chunk by 65536\n"
            "  end\n"
            "  set STOP else RUNNING\n");
}

TEST(Derive, a_profile_is_of_one_interface) {
  RegionClient recorded(1);
  recorded.set(DeviceState::StopCopy);
  recorded.state(2, EBUSY).read(10, 0).set(DeviceState::Stop);
  recorded.in(2);
  recorded.state(2).pending(0).state(0);
  // The first connection was of v1, whose state it wrote, however little came of it.
  const Result<Profile> profile = recorded.profile();
  ASSERT_TRUE(profile.has_value()) << profile.error().message;
  EXPECT_EQ(profile->interface, Revision::V1);
  ASSERT_EQ(profile->phases.size(), 1U);
  EXPECT_EQ(profile->phases.front().name, "connection-2");
}

TEST(Derive, where_nobody_migrates_it_is_how_a_machine_starts) {
  const auto command = [](std::uint16_t value) {
    return record::WriteRegion{.region = 7, .offset = 4, .size = 2, .data = bytes(value), .payload = {}};
  };
  Recorded recorded;
  recorded.did(record::ReadRegion{.region = 7, .offset = 0, .size = 4, .data = {}, .payload = {}});
  recorded.did(command(0)).did(record::Reset{});
  recorded.did(record::SetIrqs{.type = 0, .flags = 0x24, .start = 0, .count = 1, .bools = {}, .descriptors = 1});
  recorded.did(command(3)).did(command(0)).did(command(3)).did(command(7));
  EXPECT_EQ(recorded.profile()->interface, std::nullopt);
  EXPECT_EQ(recorded.text(),
            "phase connection-1 on source\n"
            "  config\n"
            "  command clear\n"
            "  reset\n"
            "  interrupts arm\n"
            "  command enable\n");
  recorded.did(command(0));
  EXPECT_NE(recorded.text().find("  command enable\n  command clear\n"), std::string::npos) << recorded.text();
}

TEST(Derive, a_recording_of_nobody_who_uses_a_device_gives_none) {
  const Result<Profile> none = Recorded().did(record::GetInfo{}).profile();
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, ENODATA);
}

TEST(Derive, senseless_acts_do_no_harm) {
  Recorded recorded;
  recorded.did(record::SetState{77}).read(0, 0).read(~0ULL, ~0ULL).did(record::WriteData{.given = {.size = ~0ULL}});
  recorded.set(DeviceState::Error).set(DeviceState::PreCopyP2p).read(~0ULL, 1).set(DeviceState::Resuming);
  recorded.did(record::WriteData{})
      .did(record::WriteRegion{.region = ~0U, .offset = ~0ULL, .size = ~0U, .data = {}, .payload = {}});
  EXPECT_TRUE(recorded.profile().has_value()) << recorded.text();
}

}  // namespace
}  // namespace gangway::profile
