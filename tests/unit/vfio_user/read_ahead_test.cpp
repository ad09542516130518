// Migration data with requests under way between calls: the same stream, the same ends and errors, whatever the caller
// does in between.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <ostream>

#include "unit/vfio_user/served_device.h"
#include "vfio_user/client.h"

namespace gangway::vfio_user {
namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::bytes;
using test::ServedDevice;

constexpr std::size_t kMemory = 5'000'000;

struct Manner {
  bool shared_data;
  std::size_t transfer;
};

void PrintTo(const Manner& manner, std::ostream* out) {
  *out << manner.transfer << (manner.shared_data ? " bytes by shared memory" : " bytes in messages");
}

class UnderWay : public testing::TestWithParam<Manner> {
 protected:
  UnderWay() {
    for (std::size_t i = 0; i < kMemory; ++i) content_[i] = static_cast<std::byte>(i * 7 >> 8);
    device_.device().set_memory(content_);
    auto client = Client::connect(device_.path(), {.shared_data = GetParam().shared_data});
    EXPECT_TRUE(client) << client.error().message;
    client_ = *std::move(client);
  }

  // Appends what one call brings.
  StreamRead read(Bytes& stream, Result<StreamRead> (DeviceHandle::*call)(std::span<std::byte>), std::size_t size) {
    Bytes buffer(size);
    const Result<StreamRead> got = (*client_.*call)(buffer);
    EXPECT_TRUE(got) << got.error().message;
    if (!got) return {.end = StreamEnd::Final};
    EXPECT_TRUE(got->size == size || got->end != StreamEnd::More) << "short, and no end";
    stream.insert(stream.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(got->size));
    return *got;
  }
  Bytes read_to_end(Result<StreamRead> (DeviceHandle::*call)(std::span<std::byte>)) {
    Bytes stream;
    while (read(stream, call, GetParam().transfer).end == StreamEnd::More) {
    }
    return stream;
  }
  // Each read by itself.
  Bytes whole_stream() {
    EXPECT_TRUE(client_->set_state(DeviceState::StopCopy));
    Bytes stream = read_to_end(&DeviceHandle::read_data);
    EXPECT_TRUE(client_->set_state(DeviceState::Running));
    return stream;
  }
  Result<void> write_behind(std::span<const std::byte> stream) {
    for (Bytes piece; !stream.empty(); stream = stream.subspan(piece.size())) {
      const std::span<const std::byte> next = stream.first(std::min(stream.size(), GetParam().transfer));
      piece.assign(next.begin(), next.end());
      if (Result<void> written = client_->write_behind(piece); !written) return written;
      std::ranges::fill(piece, std::byte{0xee});  // the buffer is ours again
    }
    return {};
  }

  Bytes content_ = Bytes(kMemory);
  ServedDevice device_{{.state_memory = kMemory}};
  std::unique_ptr<Client> client_;
};

TEST_P(UnderWay, reading_ahead_yields_the_same_stream) {
  const Bytes whole = whole_stream();
  for (int save = 0; save < 2; ++save) {
    ASSERT_TRUE(client_->set_state(DeviceState::StopCopy));
    EXPECT_EQ(read_to_end(&DeviceHandle::read_ahead), whole) << "DAT-STREAM";
    Bytes nothing;
    EXPECT_EQ(read(nothing, &DeviceHandle::read_ahead, 100).end, StreamEnd::Final) << "DAT-EOS-STOP";
    EXPECT_EQ(read(nothing, &DeviceHandle::read_data, 100).end, StreamEnd::Final);
    EXPECT_TRUE(nothing.empty());
    ASSERT_TRUE(client_->set_state(DeviceState::Running));
  }
}

TEST_P(UnderWay, reads_of_both_kinds_and_all_sizes_follow_one_another) {
  const Bytes whole = whole_stream();
  ASSERT_TRUE(client_->set_state(DeviceState::StopCopy));
  Bytes mixed;
  std::size_t size = 1;
  for (StreamRead last; last.end == StreamEnd::More; size = size * 7 % 900'001 + 1) {
    last = read(mixed, size % 3 == 0 ? &DeviceHandle::read_data : &DeviceHandle::read_ahead, size);
    EXPECT_TRUE(client_->state()) << "other calls are answered meanwhile";
  }
  EXPECT_EQ(mixed, whole);
}

TEST_P(UnderWay, nothing_read_ahead_is_lost_when_pre_copy_ends) {
  ASSERT_TRUE(client_->set_state(DeviceState::PreCopy));
  Bytes stream;
  EXPECT_EQ(read(stream, &DeviceHandle::read_ahead, GetParam().transfer).end, StreamEnd::More);
  ASSERT_TRUE(client_->set_state(DeviceState::StopCopy));  // DAT-EARLY
  const Bytes rest = read_to_end(&DeviceHandle::read_ahead);
  stream.insert(stream.end(), rest.begin(), rest.end());
  ASSERT_TRUE(client_->set_state(DeviceState::Running));
  device_.device().set_memory(Bytes(content_.size()));
  ASSERT_TRUE(client_->set_state(DeviceState::Resuming));
  ASSERT_TRUE(client_->write_data(stream));
  ASSERT_TRUE(client_->set_state(DeviceState::Running)) << "the stream is whole";
  EXPECT_TRUE(device_.device().copy_of_memory() == content_);
}

TEST_P(UnderWay, an_end_met_ahead_in_pre_copy_is_none_after_it) {
  ASSERT_TRUE(client_->set_state(DeviceState::PreCopy));
  Bytes stream;
  while (stream.size() < kMemory - (64U << 10)) {
    ASSERT_EQ(read(stream, &DeviceHandle::read_ahead, 16U << 10).end, StreamEnd::More);
  }
  ASSERT_TRUE(client_->set_state(DeviceState::StopCopy));
  for (StreamRead last; last.end != StreamEnd::Final;) {
    last = read(stream, &DeviceHandle::read_ahead, GetParam().transfer);
    ASSERT_NE(last.end, StreamEnd::Temporary) << "DAT-EOS-STOP";
  }
  ASSERT_TRUE(client_->set_state(DeviceState::Running));
  ASSERT_TRUE(client_->set_state(DeviceState::Resuming));
  ASSERT_TRUE(client_->write_data(stream));
  EXPECT_TRUE(client_->set_state(DeviceState::Running)) << "the stream is whole";
}

TEST_P(UnderWay, the_temporary_end_is_met_by_those_who_read_ahead) {
  ASSERT_TRUE(client_->set_state(DeviceState::PreCopy));
  Bytes stream;
  while (read(stream, &DeviceHandle::read_ahead, GetParam().transfer).end == StreamEnd::More) {
  }
  EXPECT_GT(stream.size(), kMemory);
  EXPECT_EQ(read(stream, &DeviceHandle::read_ahead, 100).end, StreamEnd::Temporary) << "DAT-EOS-PRECOPY";
  ASSERT_TRUE(client_->set_state(DeviceState::StopCopy));
  EXPECT_EQ(read(stream, &DeviceHandle::read_ahead, kMemory).end, StreamEnd::Final);
}

TEST_P(UnderWay, what_was_read_ahead_is_dropped_with_its_session) {
  const Bytes whole = whole_stream();
  const std::array<std::function<Result<void>()>, 2> leave{[&] { return client_->set_state(DeviceState::Running); },
                                                           [&] { return client_->reset(); }};
  for (const auto& left : leave) {
    ASSERT_TRUE(client_->set_state(DeviceState::StopCopy));
    Bytes begun;
    (void)read(begun, &DeviceHandle::read_ahead, GetParam().transfer);
    ASSERT_TRUE(left());
    Bytes buffer(100);
    EXPECT_EQ(client_->read_ahead(buffer).error().code, EINVAL) << "DAT-DIRECTION";
    EXPECT_EQ(client_->read_data(buffer).error().code, EINVAL) << "DAT-DIRECTION";
  }
  device_.device().set_memory(content_);
  ASSERT_TRUE(client_->set_state(DeviceState::StopCopy));
  EXPECT_EQ(read_to_end(&DeviceHandle::read_ahead), whole) << "a new session begins at its beginning";
}

TEST_P(UnderWay, a_client_may_go_in_the_middle) {
  ASSERT_TRUE(client_->set_state(DeviceState::StopCopy));
  Bytes begun;
  (void)read(begun, &DeviceHandle::read_ahead, GetParam().transfer);
  client_.reset();
  auto next = Client::connect(device_.path(), {});
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_EQ((*next)->state(), DeviceState::Running) << "WIR-GONE";
}

TEST_P(UnderWay, what_is_written_behind_is_loaded) {
  const Bytes whole = whole_stream();
  device_.device().set_memory(Bytes(content_.size()));
  ASSERT_TRUE(client_->set_state(DeviceState::Resuming));
  ASSERT_TRUE(write_behind(std::span(whole).first(whole.size() / 3)));
  ASSERT_TRUE(client_->settle());
  ASSERT_TRUE(write_behind(std::span(whole).subspan(whole.size() / 3, 1'000'000)));
  ASSERT_TRUE(client_->write_data(std::span(whole).subspan(whole.size() / 3 + 1'000'000, 3)));
  ASSERT_TRUE(write_behind(std::span(whole).subspan(whole.size() / 3 + 1'000'003)));
  ASSERT_TRUE(client_->set_state(DeviceState::Running)) << "waits for what is under way";
  EXPECT_TRUE(device_.device().copy_of_memory() == content_);
}

TEST_P(UnderWay, every_flipped_bit_is_refused_however_it_is_written) {
  const Bytes whole = whole_stream();
  for (const std::size_t at : {std::size_t{3}, whole.size() / 2, whole.size() - 1}) {
    Bytes damaged = whole;
    damaged[at] ^= std::byte{1};
    ASSERT_TRUE(client_->set_state(DeviceState::Resuming));
    Result<void> told = write_behind(damaged);
    if (told) told = client_->settle();
    ASSERT_FALSE(told) << "byte " << at;
    EXPECT_EQ(told.error().code, EINVAL);
    EXPECT_FALSE(client_->set_state(DeviceState::Stop)) << "DAT-VALIDATE";
    EXPECT_TRUE(client_->reset());
    device_.device().set_memory(content_);
  }
}

TEST_P(UnderWay, an_error_behind_is_told_once_and_before_the_state_changes) {
  ASSERT_TRUE(client_->set_state(DeviceState::Resuming));
  ASSERT_TRUE(client_->write_behind(Bytes(100))) << "not yet";
  EXPECT_EQ(client_->set_state(DeviceState::Resuming).error().code, EINVAL) << "of the write";
  EXPECT_TRUE(client_->set_state(DeviceState::Resuming)) << "no change, and nothing left to tell";
  EXPECT_TRUE(client_->settle());
  ASSERT_TRUE(client_->write_behind(Bytes(100)));
  EXPECT_EQ(client_->write_data(Bytes(100)).error().code, EINVAL);
  ASSERT_TRUE(client_->write_behind(Bytes(100)));
  EXPECT_TRUE(client_->reset()) << "RST-ABORTS";
  EXPECT_TRUE(client_->settle());
  EXPECT_FALSE(client_->broken());
}

TEST_P(UnderWay, an_error_stops_who_writes_on) {
  ASSERT_TRUE(client_->set_state(DeviceState::Resuming));
  Result<void> told;
  for (int i = 0; i < 100 && told; ++i) told = client_->write_behind(Bytes(1'000));
  ASSERT_FALSE(told);
  EXPECT_EQ(told.error().code, EINVAL);
}

INSTANTIATE_TEST_SUITE_P(Manners, UnderWay,
                         testing::Values(Manner{false, 65'536}, Manner{false, 1 << 20}, Manner{true, 65'536},
                                         Manner{true, 1 << 20}, Manner{true, 300'001}));

// A server gives up a client that leaves its replies unread, and who reads ahead may take its time between calls.
TEST(ReadingAhead, leaves_no_more_unread_than_the_socket_holds) {
  const ServedDevice served({.state_memory = 64U << 20});
  const auto client = Client::connect(served.path(), {.shared_data = false});
  ASSERT_TRUE(client) << client.error().message;
  ASSERT_TRUE((*client)->set_state(DeviceState::StopCopy));
  constexpr std::uint64_t kFraming = 1024;  // about, as DAT-SIZE has it
  const std::uint64_t whole = (*client)->data_size().value_or(0);
  Bytes buffer(1 << 20);
  std::uint64_t total = 0;
  for (int i = 0; i < 3; ++i) {
    const Result<StreamRead> read = (*client)->read_ahead(buffer);
    ASSERT_TRUE(read) << read.error().message;
    total += read->size;
    const Result<std::uint64_t> left = (*client)->data_size();  // answered after all that was asked for
    ASSERT_TRUE(left) << left.error().message;
    EXPECT_LE(whole - *left, total + (128U << 10) + kFraming);
  }
}

}  // namespace
}  // namespace gangway::vfio_user
