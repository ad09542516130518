// Recordings replayed: what may differ and what may not.
#include <gtest/gtest.h>

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>

#include <gangway/server.h>

#include "devices/faulty/defect.h"
#include "profile/replay.h"
#include "unit/record/kernel_calls.h"

namespace gangway::profile {
namespace {

using record::Act;
using enum DeviceState;

// The card of the faulty devices, served in this process.
class ServedCard {
 public:
  explicit ServedCard(std::string_view defect = {}) {
    std::string folder = (std::filesystem::temp_directory_path() / "gangway-replay-XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) throw std::runtime_error("no folder for a socket");
    folder_ = folder;
    const faulty::Defect* const known = defect.empty() ? nullptr : faulty::find_defect(defect);
    if (known == nullptr && !defect.empty()) throw std::runtime_error("no such defect");
    auto endpoint = faulty::FaultyEndpoint::create(known, EndpointOptions{.flags = {.p2p = true, .pre_copy = true}});
    if (!endpoint) throw std::runtime_error(endpoint.error().message);
    endpoint_ = std::move(*endpoint);
    auto server = Server::listen(folder_ / "card.sock", *endpoint_);
    if (!server || !(*server)->start()) throw std::runtime_error("the card is not served");
    server_ = std::move(*server);
  }
  ~ServedCard() {
    endpoint_->release();
    server_.reset();
    std::filesystem::remove_all(folder_);
  }
  [[nodiscard]] ReplayOptions options() const {
    const std::chrono::milliseconds limit(5000);
    return {.target = conformance::named_target("vfio-user:" + (folder_ / "card.sock").string(), limit),
            .settings = {.limit = limit}};
  }
  [[nodiscard]] Result<ReplayReport> replay(const std::vector<Act>& acts) const {
    return profile::replay(acts, options());
  }

 private:
  std::filesystem::path folder_;
  std::unique_ptr<faulty::FaultyEndpoint> endpoint_;
  std::unique_ptr<Server> server_;
};

class Recording {
 public:
  Recording& in(std::uint32_t connection) {
    connection_ = connection;
    return *this;
  }
  Recording& did(record::Doing doing, int error = 0) {
    acts_.push_back({.doing = std::move(doing), .connection = connection_, .answered = true, .error = error});
    return *this;
  }
  Recording& set(DeviceState state, int error = 0) {
    return did(record::SetState{static_cast<std::uint32_t>(state)}, error);
  }
  Recording& read(std::uint64_t asked, std::uint64_t got) {
    return did(record::ReadData{.asked = asked, .got = {.size = got}});
  }
  Recording& write(std::uint64_t size) { return did(record::WriteData{.given = {.size = size}}); }
  [[nodiscard]] const std::vector<Act>& acts() const { return acts_; }

 private:
  std::vector<Act> acts_;
  std::uint32_t connection_ = 1;
};

// A live migration as somebody may have recorded it, with streams of other lengths than the card's.
Recording migration() {
  Recording recording;
  recording.in(1).did(record::GetMigrationFlags{7}).did(record::GetState{2}).did(record::GetDataSize{12345});
  recording.did(record::StartLogging{.page_size = 4096, .ranges = {{{0}, 1U << 20}}});
  recording.set(PreCopy).did(record::GetPrecopyInfo{.initial = 1000});
  recording.read(65536, 65536).did(record::ReadData{.asked = 65536}, ENOMSG);
  recording.did(record::ReportLogging{.range = {{0}, 1U << 20}, .page_size = 4096});
  recording.set(PreCopyP2p).set(StopCopy).read(65536, 65536).read(65536, 5).read(65536, 0).set(Stop);
  recording.did(record::StopLogging{});
  recording.in(2).set(Resuming).write(65536).write(100).set(RunningP2p).set(Running);
  return recording;
}

ReplayReport replayed(const ServedCard& card, const std::vector<Act>& acts) {
  Result<ReplayReport> report = card.replay(acts);
  if (!report) throw std::runtime_error(report.error().message);
  return *std::move(report);
}

TEST(Replay, a_migration_passes_on_a_good_device_whatever_its_stream_is_like) {
  const ServedCard card;
  const ReplayReport report = replayed(card, migration().acts());
  EXPECT_TRUE(report.deviations.empty()) << to_text(report);
  EXPECT_EQ(report.connections, 2U);
  EXPECT_EQ(report.left_out, 0U);
  EXPECT_EQ(report.exit_status(), 0);
}

TEST(Replay, a_program_of_the_kernel_is_played_device_by_device) {
  const ServedCard card;
  const ReplayReport report = replayed(card, test::kernel_migration().acts());
  EXPECT_TRUE(report.deviations.empty()) << to_text(report);
  EXPECT_EQ(report.connections, 1U);
  EXPECT_EQ(report.played, 9U) << "the map, four states, three reads and the write";
  // What is wrong with the data shows, though it went by a descriptor of its own.
  const ServedCard faulty("stop_copy_end_is_enomsg");
  const ReplayReport wrong = replayed(faulty, test::kernel_migration().acts());
  ASSERT_FALSE(wrong.deviations.empty());
  EXPECT_EQ(wrong.deviations.front().text, "read_data") << to_text(wrong);
}

TEST(Replay, what_devices_share_is_played_for_each) {
  Recording recording;
  recording.did(record::MapDma{.range = {{0}, 4096}, .flags = 3, .with_memory = true}).did(record::Reset{});
  recording.in(2).did(record::Reset{});
  std::vector<Act> acts = recording.acts();
  acts.front().also = {2};
  const ServedCard card;
  const ReplayReport report = replayed(card, acts);
  EXPECT_TRUE(report.deviations.empty()) << to_text(report);
  EXPECT_EQ(report.connections, 2U);
  EXPECT_EQ(report.played, 4U);
}

TEST(Replay, a_destination_alone_loads_what_is_saved_now) {
  const ServedCard card;
  const ReplayReport report =
      replayed(card, Recording().did(record::Reset{}).set(Resuming).write(8).write(8).set(Stop).set(Running).acts());
  EXPECT_TRUE(report.deviations.empty()) << to_text(report);
  EXPECT_EQ(report.notes.size(), 1U);
}

struct Found {
  const char* defect;
  const char* act;     // at which it deviates first
  const char* clause;  // or empty
};

TEST(Replay, a_defect_deviates_at_the_act_that_meets_it) {
  for (const Found& each :
       {Found{"resuming_needs_reset", "set_state RESUMING", "RST-NOT-REQUIRED"},
        Found{"stop_copy_starts_anew", "write_data", "DAT-STREAM"},
        Found{"resuming_from_stop_only", "set_state RESUMING", ""}, Found{"initial_bytes_zero", "get_precopy_info", ""},
        Found{"state_reported_late", "", "FSM-COMPLETE"},
        Found{"leaving_stop_copy_hangs", "set_state STOP", "FSM-COMPLETE"},
        Found{"stop_copy_end_is_enomsg", "read_data", "DAT-EOS-STOP"}, Found{"temporary_end_hangs", "read_data", ""},
        Found{"log_off_in_stop", "stop_logging", "LOG-EXACT"}}) {
    const ServedCard card(each.defect);
    ReplayOptions options = card.options();
    const Result<ReplayReport> report = replay(migration().acts(), options);
    ASSERT_TRUE(report.has_value()) << each.defect << ": " << report.error().message;
    ASSERT_FALSE(report->deviations.empty()) << each.defect;
    const Deviation& first = report->deviations.front();
    if (*each.act != '\0') {
      EXPECT_EQ(first.text, each.act) << each.defect << "\n" << to_text(*report);
    }
    if (*each.clause != '\0') {
      EXPECT_EQ(first.clause, each.clause) << each.defect << "\n" << to_text(*report);
    }
    EXPECT_EQ(report->exit_status(), 1);
  }
}

TEST(Replay, answers_that_a_device_gives_of_itself_are_compared) {
  const ServedCard card;
  const std::vector<std::byte> other(4, std::byte{0x77});
  const std::pair<record::Doing, const char*> acts[] = {
      {record::GetInfo{.flags = 3, .regions = 77, .irqs = 5}, "regions"},
      {record::GetRegion{.region = 0, .room = 32, .flags = 3, .size = 7, .type = {}, .mappable = {}}, "size"},
      {record::GetIrq{.type = 1, .flags = 0, .count = 99}, "count"},
      {record::GetMigrationFlags{1}, "flags"},
      {record::GetState{1}, "STOP"},
      {record::ReadRegion{.region = 7, .offset = 0, .size = 4, .data = other, .payload = {}}, "config space at 0x0"},
  };
  for (const auto& [doing, recorded] : acts) {
    const ReplayReport report = replayed(card, Recording().did(doing).acts());
    ASSERT_EQ(report.deviations.size(), 1U) << recorded;
    EXPECT_NE(report.deviations.front().recorded.find(recorded), std::string::npos) << to_text(report);
  }
}

TEST(Replay, an_error_of_another_number_is_a_deviation_and_registers_are_not) {
  const ServedCard card;
  const ReplayReport errors =
      replayed(card, Recording().did(record::SetState{99}, EBUSY).did(record::GetState{2}).acts());
  ASSERT_EQ(errors.deviations.size(), 1U) << to_text(errors);
  EXPECT_EQ(errors.deviations.front().recorded, "EBUSY");
  const std::vector<std::byte> other(4, std::byte{0x77});
  const ReplayReport registers = replayed(
      card,
      Recording().did(record::ReadRegion{.region = 0, .offset = 0, .size = 4, .data = other, .payload = {}}).acts());
  EXPECT_TRUE(registers.deviations.empty()) << to_text(registers);
}

TEST(Replay, only_the_migration_is_played_where_that_is_wanted) {
  const ServedCard card;
  Recording recording;
  recording.did(record::GetInfo{.flags = 0, .regions = 1, .irqs = 1}).set(Stop).set(Running);
  ReplayOptions options = card.options();
  options.migration_only = true;
  const Result<ReplayReport> report = replay(recording.acts(), options);
  ASSERT_TRUE(report.has_value());
  EXPECT_TRUE(report->deviations.empty()) << to_text(*report);
  EXPECT_EQ(report->left_out, 1U);
  EXPECT_EQ(report->played, 2U);
}

TEST(Replay, senseless_recordings_end_in_words) {
  const ServedCard card;
  EXPECT_FALSE(card.replay({}).has_value());
  Recording recording;
  recording.did(record::SetState{0}).did(record::SetState{~0U}).read(0, ~0ULL).read(~0ULL, 0).write(~0ULL).write(0);
  recording.did(record::ReadRegion{.region = ~0U, .offset = ~0ULL, .size = ~0U, .data = {}, .payload = {}});
  recording.did(record::ReadRegion{.region = 7, .offset = ~0ULL, .size = 4, .data = {}, .payload = {}});
  recording.did(record::WriteRegion{.region = 0, .offset = 0, .size = 9, .data = {}, .payload = {}});
  recording.did(
      record::SetIrqs{.type = ~0U, .flags = ~0U, .start = ~0U, .count = ~0U, .bools = {}, .descriptors = ~0U});
  recording.did(
      record::SetIrqs{.type = 1, .flags = 0x24, .start = ~0U, .count = 4096, .bools = {}, .descriptors = ~0U});
  recording.did(record::MapDma{.range = {{~0ULL}, ~0ULL}, .flags = ~0U, .offset = ~0ULL, .with_memory = true});
  recording.did(record::MapDma{.range = {{0x1000}, 0x1000}, .flags = 3, .offset = 0, .with_memory = false});
  recording.did(record::UnmapDma{.range = {{5}, 7}, .flags = ~0U, .bitmap = {}});
  recording.did(record::ReportLogging{.range = {{0}, ~0ULL}, .page_size = 1, .bitmap = {}});
  recording.did(record::ReportLogging{.range = {{0}, ~0ULL}, .page_size = 0, .bitmap = {}});
  recording.did(record::StartLogging{.page_size = 0, .ranges = {{{~0ULL}, ~0ULL}}, .answered_page_size = 0});
  recording.did(record::ProbeFeature{.feature = 0xffff, .get = true, .set = true});
  const Result<ReplayReport> report = card.replay(recording.acts());
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_FALSE(report->deviations.empty());
  EXPECT_FALSE(to_json(*report).empty());
}

}  // namespace
}  // namespace gangway::profile
