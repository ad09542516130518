#include "vfio_user/client.h"

#include <gtest/gtest.h>

#include <future>

#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using namespace std::chrono_literals;
using test::bytes;
using test::Bytes;
using test::Heard;
using test::RawPeer;
using test::ServedDevice;
using test::TestDevice;
using test::with;

constexpr std::uint32_t kBar0 = 0;
constexpr std::uint32_t kBar2 = 2;

std::unique_ptr<Client> open(const ServedDevice& served, ClientOptions options = {}) {
  auto client = Client::connect(served.path(), options);
  EXPECT_TRUE(client) << client.error().message;
  return client ? *std::move(client) : nullptr;
}
void write_register(DeviceHandle& device, std::uint64_t offset, std::uint64_t value) {
  EXPECT_TRUE(device.write(kBar0, offset, bytes_of(value)));
}
std::uint64_t read_register(DeviceHandle& device, std::uint64_t offset) {
  std::uint64_t value = 0;
  EXPECT_TRUE(device.read(kBar0, offset, std::as_writable_bytes(std::span(&value, 1))));
  return value;
}

TEST(Client, finds_what_the_server_has) {
  const ServedDevice served;
  const auto opened = open_device("vfio-user:" + served.path().native());
  ASSERT_TRUE(opened);
  DeviceHandle& device = **opened;
  EXPECT_EQ(device.info()->irqs, 5U);
  EXPECT_TRUE(device.info()->pci);
  const auto region = device.region(kBar2);
  ASSERT_TRUE(region) << region.error().message;
  EXPECT_TRUE(region->mmap);
  ASSERT_EQ(region->areas.size(), 2U);
  EXPECT_EQ(region->areas[1].offset, 0x3000U);
  EXPECT_NE(::mmap(nullptr, 0x1000, PROT_READ, MAP_SHARED, region->file->get(), 0x1000), MAP_FAILED);
  EXPECT_FALSE(device.region(kBar0)->mmap);
  EXPECT_EQ(device.irq(2)->count, TestDevice::kVectors);
  EXPECT_EQ(device.region(99).error().code, EINVAL);
  EXPECT_EQ(device.target(), "vfio-user:" + served.path().native());
  EXPECT_TRUE(device.reset());
}

TEST(Client, targets_that_are_none_are_explained) {
  for (const std::string_view target : {"", "vfio-user:", "nvme0", "/dev/vfio/1"}) {
    const auto opened = open_device(target);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, EINVAL);
    EXPECT_NE(opened.error().message.find("vfio-user:SOCKET"), std::string::npos);
  }
  EXPECT_EQ(open_device("vfio-user:/nowhere/at/all").error().code, ENOENT);
}

TEST(Client, accesses_are_cut_to_what_the_server_takes) {
  const ServedDevice served({}, {.max_data_xfer_size = 100});
  const auto device = open(served);
  ASSERT_EQ(device->server().max_data_xfer_size, 100U);
  Bytes written(1234);
  for (std::size_t i = 0; i < written.size(); ++i) written[i] = static_cast<std::byte>(i);
  ASSERT_TRUE(device->write(kBar0, 0x10, written));
  Bytes read(written.size());
  ASSERT_TRUE(device->read(kBar0, 0x10, read));
  EXPECT_EQ(read, written);
  EXPECT_EQ(device->read(kBar0, TestDevice::kBar0 - 1, read).error().code, EINVAL);
}

TEST(Client, interrupts_are_set_in_messages_that_the_server_takes) {
  const ServedDevice served;
  const auto device = open(served);
  gangway::IrqSet set{.type = IrqType::Msix, .data = gangway::IrqSet::Data::Eventfd, .count = TestDevice::kVectors};
  for (std::uint32_t i = 0; i < set.count; ++i) {
    set.eventfds.emplace_back(i == 5 || i == 6 ? -1 : ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  EXPECT_TRUE(device->set_irqs(std::move(set))) << "30 descriptors and 2 gaps, 8 in a message";
  EXPECT_TRUE(device->set_irqs({.type = IrqType::Msix}));
  EXPECT_EQ(device->set_irqs({.type = IrqType::Msix, .data = gangway::IrqSet::Data::Bool, .count = 3}).error().code,
            EINVAL);
}

struct ClientDma : testing::TestWithParam<bool> {
  ClientOptions options{.twin_socket = GetParam()};
};

TEST_P(ClientDma, memory_is_shared_by_descriptor_or_served_by_messages) {
  const ServedDevice served;
  const auto device = open(served, options);
  for (const bool shared : {false, true}) {
    const Fd file(::memfd_create("guest", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), 4 << 20), 0);
    auto* const base =
        static_cast<std::byte*>(::mmap(nullptr, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
    const std::span memory(base, 4 << 20);
    memory[5] = std::byte{42};
    const IovaRange range{{0x100000}, memory.size()};
    ASSERT_TRUE(device->dma_map({.range = range, .memory = memory, .file = shared ? file.get() : -1}));
    write_register(*device, TestDevice::kSource, 0x100000);
    write_register(*device, TestDevice::kDestination, 0x100000 + (2 << 20));
    write_register(*device, TestDevice::kLength, 1'500'000);  // more than one message
    const std::uint64_t done = read_register(*device, TestDevice::kDone);
    write_register(*device, TestDevice::kGo, 1);
    // An access that fails ends the wait: it has failed the test.
    while (!HasFailure() && read_register(*device, TestDevice::kDone) == done) std::this_thread::yield();
    EXPECT_EQ(memory[(2 << 20) + 5], std::byte{42});
    ASSERT_TRUE(device->dma_unmap(range));
    EXPECT_EQ(device->dma_unmap(range).error().code, ENOENT);
    ::munmap(base, memory.size());
  }
}

TEST_P(ClientDma, the_server_reaches_only_what_is_mapped_and_permitted) {
  ServedDevice served;
  const auto device = open(served, options);
  Bytes memory(0x2000);
  ASSERT_TRUE(device->dma_map({.range = {{0}, 0x2000}, .permissions = {.read = true}, .memory = memory}));
  Bytes out(16);
  EXPECT_TRUE(served.endpoint().dma().read({0x1ff0}, out)) << "while no call is in progress";
  EXPECT_FALSE(served.endpoint().dma().read({0x1ff1}, out));
  EXPECT_FALSE(served.endpoint().dma().write({0}, out));
  ASSERT_TRUE(device->dma_unmap({{0}, 0x2000}));
  EXPECT_FALSE(served.endpoint().dma().read({0}, out));
}

// As of completions, whose phase is the last word: a device writes each at once, and its host polls for it.
TEST_P(ClientDma, the_last_word_of_a_write_comes_when_the_others_are_there) {
  using Entry = std::array<std::uint32_t, 4>;
  ServedDevice served;
  const auto device = open(served, options);
  std::array<Entry, 256> queue{};
  ASSERT_TRUE(device->dma_map({.range = {{0}, sizeof queue}, .memory = std::as_writable_bytes(std::span(queue))}));
  std::thread host([&] {
    for (Entry& entry : queue) {
      const std::atomic_ref phase(entry.back());
      while (phase.load(std::memory_order_acquire) == 0 && !HasFailure()) std::this_thread::yield();
      EXPECT_EQ(entry, (Entry{1, 2, 3, 4}));
    }
  });
  const Entry written{1, 2, 3, 4};
  for (std::size_t i = 0; i < queue.size(); ++i) {
    EXPECT_TRUE(served.endpoint().dma().write({i * sizeof(Entry)}, std::as_bytes(std::span(written))));
  }
  host.join();
}

TEST_P(ClientDma, a_reset_may_wait_for_dma_by_messages) {
  const ServedDevice served;
  const auto device = open(served, options);
  Bytes memory(1 << 20);
  ASSERT_TRUE(device->dma_map({.range = {{0}, memory.size()}, .memory = memory}));
  for (int i = 0; i < 50; ++i) {
    write_register(*device, TestDevice::kDestination, 0x80000);
    write_register(*device, TestDevice::kLength, 0x80000);
    write_register(*device, TestDevice::kGo, 1);
    ASSERT_TRUE(device->reset());
  }
}

TEST_P(ClientDma, several_threads_may_call_at_once) {
  const ServedDevice served;
  const auto device = open(served, options);
  Bytes memory(1 << 20);
  ASSERT_TRUE(device->dma_map({.range = {{0}, memory.size()}, .memory = memory}));
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 300; ++i) {
        write_register(*device, t * 8, i);
        EXPECT_EQ(read_register(*device, t * 8), i);
        if (i % 50 == 0) write_register(*device, TestDevice::kGo, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(Sockets, ClientDma, testing::Bool(),
                         [](const auto& info) { return info.param ? "twin" : "one"; });

// --- migration ---

TEST(Client, migrates_a_device_whatever_the_sizes) {
  ServedDevice source({.state_memory = 3'000'000}, {.max_data_xfer_size = 256 << 10});
  for (std::size_t i = 0; i < 3'000'000; ++i) source.device().memory()[i] = static_cast<std::byte>(i * 7 >> 8);
  const auto from = open(source);
  write_register(*from, 0x20, 1234);
  EXPECT_EQ(*from->migration_flags(), (MigrationFlags{true, true}));
  EXPECT_EQ(*from->state(), DeviceState::Running);
  EXPECT_GT(*from->data_size(), 3'000'000U);
  EXPECT_EQ(from->set_state_number(99).error().code, EINVAL);
  ASSERT_TRUE(from->set_state(DeviceState::StopCopy));
  Bytes stream;
  Bytes buffer(777'777);
  for (;;) {
    const Result<StreamRead> read = from->read_data(buffer);
    ASSERT_TRUE(read) << read.error().message;
    stream.insert(stream.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(read->size));
    if (read->end == StreamEnd::Final) break;
    ASSERT_EQ(read->end, StreamEnd::More);
  }
  EXPECT_EQ(from->read_data(buffer)->size, 0U);

  ServedDevice destination({.state_memory = 3'000'000});
  const auto to = open(destination);
  ASSERT_TRUE(to->set_state(DeviceState::Resuming));
  ASSERT_TRUE(to->write_data(stream));
  ASSERT_TRUE(to->set_state(DeviceState::Running));
  EXPECT_EQ(read_register(*to, 0x20), 1234U);
  EXPECT_TRUE(destination.device().copy_of_memory() == source.device().copy_of_memory());
}

TEST(Client, tells_the_temporary_end_from_the_last) {
  for (const bool extensions : {true, false}) {
    const ServedDevice served;
    const auto device = open(served, {.extensions = extensions});
    EXPECT_EQ(device->precopy_info().error().code, extensions ? EINVAL : ENOTTY);
    ASSERT_TRUE(device->set_state(DeviceState::PreCopy));
    if (extensions) {
      EXPECT_GT(device->precopy_info()->initial_bytes, 0U);
      EXPECT_TRUE(device->feature_probe(Feature::MigPrecopyInfoV2, false, true));
      EXPECT_TRUE(device->feature_set(Feature::MigPrecopyInfoV2, {}));
    }
    Bytes buffer(1 << 20);
    EXPECT_EQ(device->read_data(buffer)->end, StreamEnd::Temporary);
    ASSERT_TRUE(device->set_state(DeviceState::StopCopy));
    EXPECT_EQ(device->read_data(buffer)->end, StreamEnd::Final);
  }
}

TEST(Client, reads_the_dma_log) {
  ServedDevice served;
  const auto device = open(served);
  const Fd file(::memfd_create("guest", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 1 << 20), 0);
  ASSERT_TRUE(device->dma_map({.range = {{0}, 1 << 20}, .file = file.get()}));
  EXPECT_EQ(device->dma_logging_stop().error().code, EINVAL);
  const std::array ranges{IovaRange{{0}, 1 << 20}};
  EXPECT_GE(*device->dma_logging_start(ranges, 4096), 4096U);
  ASSERT_TRUE(served.endpoint().dma().write({0x7000}, Bytes(0x1000)));
  std::vector<std::uint64_t> bitmap(4, 1);
  ASSERT_TRUE(device->dma_logging_report(ranges[0], 4096, bitmap));
  EXPECT_EQ(bitmap[0], 1U << 7 | 1U) << "sets bits and clears none";
  EXPECT_EQ(bitmap[1], 1U);
  EXPECT_EQ(device->dma_logging_report(ranges[0], 4096, std::span(bitmap).first(3)).error().code, EINVAL);
  EXPECT_TRUE(device->dma_logging_stop());
}

// Several messages of bitmap, the last of them short; pages close together, scattered and in long clean stretches,
// among bits that the caller had and where it had none.
TEST(Client, merges_a_long_dma_log) {
  constexpr std::uint64_t kPage = 4096;
  constexpr std::uint64_t kPages = (5U << 20) + 77;
  ServedDevice served;
  const auto device = open(served);
  const std::array ranges{IovaRange{{0}, kPages * kPage}};
  ASSERT_TRUE(device->dma_logging_start(ranges, kPage));
  std::vector<std::uint64_t> bitmap(kPages / 64 + 1);
  for (std::size_t word = 0; word < bitmap.size() / 2; word += 333) bitmap[word] = word;
  std::vector<std::uint64_t> expected = bitmap;
  const auto mark = [&](std::uint64_t page) {
    served.endpoint().log().mark({page * kPage}, kPage);
    expected[page / 64] |= std::uint64_t{1} << (page % 64);
  };
  for (std::uint64_t page = 0; page < 300'000; page += 3) mark(page);
  for (std::uint64_t page = 1'000'000; page < kPages; page += 70'001) mark(page);
  mark(kPages - 1);
  ASSERT_TRUE(device->dma_logging_report(ranges[0], kPage, bitmap));
  EXPECT_TRUE(bitmap == expected);
  std::vector<std::uint64_t> again(bitmap.size());
  ASSERT_TRUE(device->dma_logging_report(ranges[0], kPage, again));
  EXPECT_TRUE(again == std::vector<std::uint64_t>(bitmap.size())) << "told twice";
}

}  // namespace
}  // namespace gangway::vfio_user
