// Profiles out of recordings.
#include <gtest/gtest.h>

#include "profile/derive.h"

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

TEST(Derive, a_recording_without_migration_gives_none) {
  const Result<Profile> none = Recorded().did(record::Reset{}).did(record::GetInfo{}).profile();
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
