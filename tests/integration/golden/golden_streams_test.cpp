// What a released version saved loads for ever; what a newer one saves is refused at its first bytes unless it says
// otherwise. By the processes that serve the devices.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "device/state_checksum.h"
#include "device/state_frame.h"
#include "integration/golden/golden_stream.h"

namespace gangway::golden {
namespace {

std::vector<GoldenStream> all_streams() {
  std::vector<GoldenStream> all;
  for (const auto& entry : std::filesystem::directory_iterator(GOLDEN_STREAMS)) {
    if (entry.path().extension() != ".json") continue;
    auto golden = GoldenStream::read(entry.path());
    EXPECT_TRUE(golden) << entry.path() << ": " << golden.error().message;
    if (golden) all.push_back(*std::move(golden));
  }
  return all;
}

// The stream as a later model of the device would save it: other versions, and all checksums anew.
Bytes restamp(Bytes stream, std::uint32_t model_version, std::uint32_t compatible_with) {
  auto preamble = *load_at<frame::PreambleHead>(stream);
  preamble.model_version = model_version;
  preamble.compatible_with = compatible_with;
  (void)store_at(std::span(stream), 0, preamble);
  StateChecksum checksum;
  std::size_t at = 0;
  const auto seal = [&](std::size_t size) {
    checksum.update(std::span(stream).subspan(at, size));
    (void)store_at(std::span(stream), at + size, checksum.seal());
    at += size + frame::kChecksumSize;
  };
  seal(sizeof preamble + preamble.type_length);
  while (at < stream.size()) {
    const auto head = *load_at<frame::SectionHead>(stream, at);
    seal(sizeof head + head.name_length + head.length);
  }
  return stream;
}

std::size_t preamble_size(const Bytes& stream) {
  return sizeof(frame::PreambleHead) + load_at<frame::PreambleHead>(stream)->type_length + frame::kChecksumSize;
}

std::uint32_t model_version(const Bytes& stream) { return load_at<frame::PreambleHead>(stream)->model_version; }

struct Destination {
  explicit Destination(const GoldenStream& golden) : kind(*find_kind(golden.device)) {
    auto started = Served::start(kind);
    if (!started) throw std::runtime_error(started.error().message);
    served.emplace(*std::move(started));
    auto set = kind.surround(served->device());
    if (!set) throw std::runtime_error(set.error().message);
    around = *std::move(set);
  }
  [[nodiscard]] DeviceHandle& device() { return served->device(); }

  const Kind& kind;
  std::optional<Served> served;
  Surroundings around;
};

TEST(GoldenStreams, each_device_has_one) {
  const std::vector<GoldenStream> all = all_streams();
  for (const Kind& kind : kinds()) {
    EXPECT_NE(std::ranges::find(all, kind.name, &GoldenStream::device), all.end()) << kind.name;
  }
}

TEST(GoldenStreams, load_for_ever) {
  for (const GoldenStream& golden : all_streams()) {
    SCOPED_TRACE(golden.device + " of " + golden.release);
    ASSERT_NE(find_kind(golden.device), nullptr);
    Destination destination(golden);
    const Result<void> loaded = load(destination.device(), golden.stream);
    ASSERT_TRUE(loaded) << loaded.error().message << destination.served->output();
    const auto values = read_registers(destination.device(), golden.registers);
    ASSERT_TRUE(values) << values.error().message;
    EXPECT_EQ(*values, golden.values);
    EXPECT_TRUE(save(destination.device())) << "it goes on";
  }
}

// A restamped stream differs in nothing else, so what is refused below is refused for its version.
TEST(GoldenStreams, load_when_stamped_with_their_own_versions) {
  for (const GoldenStream& golden : all_streams()) {
    const auto preamble = *load_at<frame::PreambleHead>(golden.stream);
    EXPECT_EQ(restamp(golden.stream, preamble.model_version, preamble.compatible_with), golden.stream);
  }
}

TEST(GoldenStreams, of_a_newer_version_are_refused_at_their_first_bytes) {
  for (const GoldenStream& golden : all_streams()) {
    SCOPED_TRACE(golden.device);
    Destination destination(golden);
    const std::uint32_t newer = model_version(golden.stream) + 7;
    const Bytes stream = restamp(golden.stream, newer, newer);
    ASSERT_TRUE(destination.device().set_state(DeviceState::Resuming));
    const std::span<const std::byte> preamble = std::span(stream).first(preamble_size(stream));
    EXPECT_TRUE(destination.device().write_data(preamble.first(preamble.size() - 1)));
    const Result<void> refused = destination.device().write_data(preamble.last(1));
    EXPECT_FALSE(refused) << "the preamble is enough";
    EXPECT_FALSE(destination.device().set_state(DeviceState::Running));
    // The device is not lost by it.
    ASSERT_TRUE(destination.device().reset());
    EXPECT_TRUE(load(destination.device(), golden.stream));
  }
}

TEST(GoldenStreams, of_a_newer_version_are_refused_with_both_versions_in_the_message) {
  for (const GoldenStream& golden : all_streams()) {
    if (golden.device == "filler") continue;  // an example that logs nothing
    SCOPED_TRACE(golden.device);
    Destination destination(golden);
    const Result<Bytes> own = save(destination.device());
    ASSERT_TRUE(own) << own.error().message;
    ASSERT_FALSE(load(destination.device(), restamp(golden.stream, 41, 39)));
    const std::string output = destination.served->output();
    EXPECT_NE(output.find("model version 41 can be loaded from model version 39 on"), std::string::npos) << output;
    EXPECT_NE(output.find("this device is of " + std::to_string(model_version(*own))), std::string::npos) << output;
  }
}

TEST(GoldenStreams, of_a_newer_version_that_says_it_is_compatible_load) {
  for (const GoldenStream& golden : all_streams()) {
    SCOPED_TRACE(golden.device);
    Destination destination(golden);
    const std::uint32_t version = model_version(golden.stream);
    ASSERT_TRUE(load(destination.device(), restamp(golden.stream, version + 7, version)));
    EXPECT_EQ(read_registers(destination.device(), golden.registers).value(), golden.values);
  }
}

TEST(GoldenStreams, of_another_device_are_refused) {
  const std::vector<GoldenStream> all = all_streams();
  for (const GoldenStream& golden : all) {
    Destination destination(golden);
    for (const GoldenStream& other : all) {
      if (other.device == golden.device) continue;
      EXPECT_FALSE(load(destination.device(), other.stream)) << other.device << " into " << golden.device;
      ASSERT_TRUE(destination.device().reset());
    }
  }
}

}  // namespace
}  // namespace gangway::golden
