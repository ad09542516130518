// Migration data in memory that a hostile client has mapped too: wrong places and sizes, memory that it writes to while
// it is read, tries to shorten, empties, or is gone.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "integration/hostile/hostile_test.h"

namespace gangway::hostile {
namespace {

// docs/vfio-user.md, "Migration data in shared memory".
constexpr std::uint16_t kReadShared = 0xff01;
constexpr std::uint16_t kWriteShared = 0xff02;
constexpr std::uint32_t kFeatureSharedData = 0xff01;
constexpr std::string_view kSharing =
    R"({"capabilities":{"max_msg_fds":8,"gangway":{"enomsg":true,"shared_data":true}}})";

constexpr std::uint32_t kDeviceMemory = 256U << 10;

Bytes shared(std::uint32_t size, std::uint64_t offset, std::uint32_t argsz = 16) {
  return Fields().u32(argsz).u32(size).u64(offset).take();
}

class SharedDataTest : public HostileTest {
 protected:
  void SetUp() override {
    HostileTest::SetUp();
    device_ = &serve({.memory_size = kDeviceMemory});
    peer_.emplace(device_->socket());
    peer_->negotiate(kSharing);
    expect_accepted(*peer_, kRegionWrite, region_write(kMemory, 0, pattern(kDeviceMemory)));
  }
  void TearDown() override {
    unmap();
    file_.reset();
    peer_.reset();
    HostileTest::TearDown();
  }

  void map() {
    Message reply = peer_->request(kFeature, feature(kFeatureSharedData | kFeatureGet, {}, 16));
    ASSERT_FALSE(reply.failed()) << "errno " << reply.error();
    size_ = field<std::uint64_t>(reply.body, 8);
    ASSERT_EQ(reply.fds.size(), 1U);
    file_ = std::move(reply.fds.front());
    void* at = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    bytes_ = static_cast<std::byte*>(at);
  }
  void unmap() {
    if (bytes_ != nullptr) ::munmap(std::exchange(bytes_, nullptr), size_);
  }

  // A whole save, by shared memory, at varying places.
  Bytes save_shared(std::uint32_t transfer) {
    Bytes stream;
    for (std::uint64_t offset = 0;; offset = (offset + 12'345) % (size_ - transfer)) {
      const Message reply = peer_->request(kReadShared, shared(transfer, offset));
      if (reply.failed()) throw std::runtime_error("a read failed with errno " + std::to_string(reply.error()));
      const auto size = field<std::uint32_t>(reply.body, 4);
      EXPECT_EQ(reply.body.size(), 16U);
      EXPECT_EQ(field<std::uint64_t>(reply.body, 8), offset);
      stream.insert(stream.end(), bytes_ + offset, bytes_ + offset + size);
      if (size < transfer) return stream;
    }
  }

  ServedDevice* device_ = nullptr;
  std::optional<RawPeer> peer_;
  Fd file_;
  std::uint64_t size_ = 0;
  std::byte* bytes_ = nullptr;
};

TEST_F(SharedDataTest, the_stream_is_that_of_messages) {
  map();
  go_to(*peer_, kStateStopCopy);
  const Bytes by_messages = read_stream(*peer_);
  for (const std::uint32_t transfer : {100U, 65'536U, 300'000U}) {
    go_to(*peer_, kStateStop);
    go_to(*peer_, kStateStopCopy);
    EXPECT_EQ(save_shared(transfer), by_messages) << "DAT-STREAM";
  }
}

TEST_F(SharedDataTest, is_there_only_for_who_negotiated_and_asked) {
  go_to(*peer_, kStateStopCopy);
  expect_refused(*peer_, kReadShared, shared(100, 0), {EINVAL});
  expect_refused(*peer_, kWriteShared, shared(100, 0), {EINVAL});
  peer_.reset();
  for (const std::string_view json :
       {"{}", R"({"capabilities":{"max_msg_fds":8}})", R"({"capabilities":{"gangway":{"shared_data":false}}})",
        R"({"capabilities":{"max_msg_fds":0,"gangway":{"shared_data":true}}})"}) {
    SCOPED_TRACE(json);
    RawPeer plain(device_->socket());
    plain.negotiate(json);
    go_to(plain, kStateStopCopy);
    expect_refused(plain, kReadShared, shared(100, 0), {ENOTSUP});
    expect_refused(plain, kWriteShared, shared(100, 0), {ENOTSUP});
    expect_refused(plain, kFeature, feature(kFeatureSharedData | kFeatureGet, {}, 16), {ENOTTY});
  }
}

TEST_F(SharedDataTest, asking_again_gives_the_same_memory_and_needs_room_for_the_reply) {
  expect_refused(*peer_, kFeature, feature(kFeatureSharedData | kFeatureGet, {}, 15), {EINVAL});
  map();
  bytes_[77] = std::byte{0x5a};
  unmap();
  map();
  EXPECT_EQ(bytes_[77], std::byte{0x5a});
}

TEST_F(SharedDataTest, places_and_sizes_that_do_not_fit_are_refused_and_take_nothing_from_the_stream) {
  map();
  go_to(*peer_, kStateStopCopy);
  const Bytes stream = read_stream(*peer_);
  go_to(*peer_, kStateStop);
  go_to(*peer_, kStateStopCopy);
  const auto whole = static_cast<std::uint32_t>(size_);
  for (const auto& [size, offset] :
       std::initializer_list<std::pair<std::uint32_t, std::uint64_t>>{{1, size_},
                                                                      {whole, 1},
                                                                      {whole + 1, 0},
                                                                      {kMax32, 0},
                                                                      {1, kMax64},
                                                                      {kMax32, kMax64},
                                                                      {2, kMax64 - 1},
                                                                      {16, kMax64 - 15},
                                                                      {1, 1ULL << 63},
                                                                      {whole, kMax64 - size_ + 1}}) {
    SCOPED_TRACE(testing::Message() << size << " bytes at " << offset);
    expect_refused(*peer_, kReadShared, shared(size, offset), {EINVAL});
  }
  for (const std::uint32_t argsz : {0U, 8U, 15U}) expect_refused(*peer_, kReadShared, shared(100, 0, argsz), {EINVAL});
  const Bytes request = shared(100, 0);
  for (std::size_t size = 0; size < request.size(); ++size) {
    expect_refused(*peer_, kReadShared, std::span(request).first(size), {EINVAL});
  }
  EXPECT_EQ(save_shared(1000), stream) << "DAT-STREAM";
}

TEST_F(SharedDataTest, a_malformed_write_is_missing_from_the_stream) {
  map();
  go_to(*peer_, kStateStopCopy);
  const Bytes stream = read_stream(*peer_);
  std::memcpy(bytes_, stream.data(), stream.size());
  const auto size = static_cast<std::uint32_t>(stream.size());
  for (const Bytes& malformed : {shared(1, size_), shared(kMax32, 0), shared(16, kMax64 - 15), Bytes(), Bytes(8),
                                 joined(shared(1, 0), pattern(1))}) {
    go_to(*peer_, kStateResuming);
    expect_refused(*peer_, kWriteShared, malformed, {EINVAL});
    expect_refused(*peer_, kWriteShared, shared(size, 0), {EINVAL});
    EXPECT_TRUE(peer_->request(kFeature, set_state(kStateStop)).failed()) << "DAT-VALIDATE";
    expect_accepted(*peer_, kReset, {});
  }
  go_to(*peer_, kStateResuming);
  expect_accepted(*peer_, kWriteShared, shared(size, 0));
  go_to(*peer_, kStateRunning);
}

TEST_F(SharedDataTest, direction_is_kept) {
  map();
  for (const std::uint32_t state : {kStateRunning, kStateStop, kStateRunningP2p}) {
    go_to(*peer_, state);
    expect_refused(*peer_, kReadShared, shared(100, 0), {EINVAL});
    expect_refused(*peer_, kWriteShared, shared(100, 0), {EINVAL});
    EXPECT_EQ(state_of(*peer_), state) << "DAT-DIRECTION";
  }
}

TEST_F(SharedDataTest, the_memory_cannot_be_shortened_or_unsealed) {
  map();
  EXPECT_NE(::ftruncate(file_.get(), 0), 0);
  EXPECT_EQ(errno, EPERM);
  EXPECT_NE(::ftruncate(file_.get(), static_cast<off_t>(size_) * 2), 0);
  EXPECT_NE(::fcntl(file_.get(), F_ADD_SEALS, F_SEAL_WRITE), 0) << "it would take the server's own access";
  // Emptied it can be, which costs the client its data and nobody else anything.
  ASSERT_EQ(::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size_)), 0);
  go_to(*peer_, kStateStopCopy);
  EXPECT_GT(save_shared(100'000).size(), kDeviceMemory);
  ASSERT_EQ(::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size_)), 0);
  go_to(*peer_, kStateResuming);
  expect_refused(*peer_, kWriteShared, shared(1000, 0), {EINVAL});
  expect_accepted(*peer_, kReset, {});
}

TEST_F(SharedDataTest, a_client_that_unmaps_and_closes_it_reads_nothing_and_hurts_nobody) {
  map();
  unmap();
  file_.reset();
  go_to(*peer_, kStateStopCopy);
  EXPECT_EQ(field<std::uint32_t>(peer_->request(kReadShared, shared(1000, 0)).body, 4), 1000U);
  expect_in_step(*peer_);
}

TEST_F(SharedDataTest, a_client_that_vanishes_in_a_transfer_leaves_nothing) {
  map();
  go_to(*peer_, kStateStopCopy);
  for (int i = 0; i < 64; ++i) peer_->post(kReadShared, shared(100'000, 0));
  peer_->close();
}

// What is checked is what was copied, so what a load lets in is the stream or nothing, however the client writes to the
// memory meanwhile.
TEST_F(SharedDataTest, memory_that_changes_while_it_is_loaded_is_let_in_only_whole) {
  map();
  go_to(*peer_, kStateStopCopy);
  const Bytes stream = read_stream(*peer_);
  const Bytes memory = pattern(kDeviceMemory);
  std::memcpy(bytes_, stream.data(), stream.size());
  const auto size = static_cast<std::uint32_t>(stream.size());
  std::atomic<bool> quit{false};
  std::thread scribbler([&] {
    const std::size_t at = stream.size() / 2;
    while (!quit) {
      std::atomic_ref(bytes_[at]).store(stream[at] ^ std::byte{0xff});
      std::atomic_ref(bytes_[at]).store(stream[at]);
    }
  });
  for (int i = 0; i < 50; ++i) {
    go_to(*peer_, kStateResuming);
    const bool written = !peer_->request(kWriteShared, shared(size, 0)).failed();
    const bool loaded = written && !peer_->request(kFeature, set_state(kStateStop)).failed();
    if (!loaded) {
      expect_accepted(*peer_, kReset, {});
      continue;
    }
    const Message reply = peer_->request(kRegionRead, region_read(kMemory, 0, kDeviceMemory));
    ASSERT_FALSE(reply.failed());
    EXPECT_TRUE(std::ranges::equal(std::span(reply.body).subspan(16), memory)) << "DAT-VALIDATE";
  }
  quit = true;
  scribbler.join();
  expect_in_step(*peer_);
}

}  // namespace
}  // namespace gangway::hostile
