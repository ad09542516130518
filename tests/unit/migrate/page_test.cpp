// Pages: which are in a set, which are zero, which were never written, and how they travel in batches.
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <optional>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "migrate/channel.h"
#include "migrate/page_batch.h"
#include "migrate/page_set.h"
#include "migrate/prefault.h"
#include "migrate/zero_page.h"
#include "test_machine.h"

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;

TEST(PageSet, agrees_with_a_set_of_numbers) {
  const TestMachine machine({{"a", 0, 130}, {"b", 0x100000000, 64}, {"c", 0x200000000, 1}});
  PageSet pages(machine.memory());
  std::set<std::pair<std::size_t, std::uint64_t>> model;
  std::mt19937_64 random(7);
  for (int step = 0; step < 3000; ++step) {
    const std::size_t block = random() % 3;
    const std::uint64_t size = machine.memory()[block].pages();
    const std::uint64_t first = random() % size;
    const std::uint64_t count = random() % (size - first + 1);
    const bool insert = random() % 2 == 0;
    insert ? pages.insert(block, first, count) : pages.erase(block, first, count);
    for (std::uint64_t page = first; page < first + count; ++page) {
      insert ? (void)model.emplace(block, page) : (void)model.erase({block, page});
    }
    ASSERT_EQ(pages.count(), model.size()) << "step " << step;

    const std::uint64_t from = random() % size;
    const std::uint64_t until = from + random() % (size - from + 1);
    std::uint64_t next = from;
    while (next < until && !model.contains({block, next})) ++next;
    std::uint64_t absent = from;
    while (absent < until && model.contains({block, absent})) ++absent;
    ASSERT_EQ(pages.next(block, from, until), next) << "step " << step;
    ASSERT_EQ(pages.next_absent(block, from, until), absent) << "step " << step;
  }
}

TEST(PageSet, counts_no_page_beyond_the_end) {
  const TestMachine machine({{"a", 0, 130}, {"b", 0x100000000, 1}});
  PageSet pages(machine.memory());
  pages.fill();
  EXPECT_EQ(pages.count(), 131U);
  EXPECT_EQ(pages.next_absent(0, 0, 130), 130U);
}

TEST(ZeroPage, one_byte_anywhere_makes_a_page_data) {
  std::vector<std::byte> page(kPageSize);
  const std::span<const std::byte, kPageSize> bytes(page.data(), kPageSize);
  EXPECT_TRUE(is_zero(bytes));
  for (std::size_t at = 0; at < kPageSize; ++at) {
    page[at] = std::byte{1};
    ASSERT_FALSE(is_zero(bytes)) << "byte " << at;
    page[at] = std::byte{0};
  }
}

TEST(ZeroPage, holes_are_what_was_never_written) {
  TestMachine machine({{"ram0", 0, 100}});
  const std::byte zero{0};  // written, though zero: the file has memory for it
  machine.write(0, 10 * kPageSize, std::span(&zero, 1));
  machine.write(0, 11 * kPageSize + 5, std::span(&zero, 1));
  machine.write(0, 99 * kPageSize, std::span(&zero, 1));
  std::vector<std::pair<std::uint64_t, std::uint64_t>> holes;
  for (const PageRange& hole : find_holes(machine.memory()[0])) holes.emplace_back(hole.first, hole.count);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected{{0, 10}, {12, 87}};
  EXPECT_EQ(holes, expected);
}

TEST(ZeroPage, a_block_without_a_file_has_no_holes) {
  const TestMachine machine({{"ram0", 0, 10}});
  MemoryBlock block = machine.memory()[0];
  block.file = -1;
  EXPECT_TRUE(find_holes(block).empty());
}

struct ChannelPair {
  ChannelPair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    left.emplace(Channel::adopt(Fd(ends[0]), 5s).value());
    right.emplace(Channel::adopt(Fd(ends[1]), 5s).value());
  }
  std::optional<Channel> left;
  std::optional<Channel> right;
};

TEST(PageBatch, arrives_as_it_was_put_together) {
  TestMachine machine({{"a", 0, 5000}, {"b", 0x100000000, 5000}});
  machine.fill(1);
  for (const bool checksums : {false, true}) {
    ChannelPair pair;
    std::set<std::pair<std::size_t, std::uint64_t>> data;
    std::set<std::pair<std::size_t, std::uint64_t>> zero;
    std::jthread sender([&] {
      PageBatchWriter writer(machine.memory(), *pair.left, checksums);
      std::mt19937_64 random(3);
      for (std::size_t block = 0; block < 2; ++block) {
        for (std::uint64_t page = 0; page < 5000;) {
          const std::uint64_t count = std::min<std::uint64_t>(random() % 40 + 1, 5000 - page);
          const bool is_data = random() % 2 == 0;
          const auto kind = is_data ? PageRun::Kind::Data : PageRun::Kind::Zero;
          ASSERT_TRUE(writer.add(block, page, count, kind));
          for (std::uint64_t i = 0; i < count; ++i) (is_data ? data : zero).emplace(block, page + i);
          page += count + random() % 3;
        }
      }
      ASSERT_TRUE(writer.flush());
      ASSERT_EQ(writer.bytes_sent(), data.size() * kPageSize);
      pair.left.reset();
    });
    std::set<std::pair<std::size_t, std::uint64_t>> got_data;
    std::set<std::pair<std::size_t, std::uint64_t>> got_zero;
    std::vector<std::byte> bytes(kMaxBatchPages * kPageSize);
    while (auto message = pair.right->receive()) {
      ASSERT_EQ(message->type, MessageType::Pages);
      const auto batch = read_page_batch(message->payload, machine.memory(), checksums);
      ASSERT_TRUE(batch) << batch.error().message;
      ASSERT_EQ(batch->checksums.size(), checksums ? batch->data_pages : 0);
      iovec place{.iov_base = bytes.data(), .iov_len = batch->data_pages * kPageSize};
      ASSERT_TRUE(pair.right->receive_data(std::span(&place, 1)));
      std::size_t at = 0;
      for (const PageRun& run : batch->runs) {
        for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
          const bool is_data = run.kind == PageRun::Kind::Data;
          ASSERT_TRUE((is_data ? got_data : got_zero).emplace(batch->block, page).second)
              << "page " << page << " twice";
          if (!is_data) continue;
          const auto sent = machine.memory()[batch->block].bytes.subspan(page * kPageSize).first<kPageSize>();
          ASSERT_EQ(std::memcmp(bytes.data() + at * kPageSize, sent.data(), kPageSize), 0) << "page " << page;
          if (checksums) {
            ASSERT_EQ(batch->checksums[at], page_checksum(sent));
          }
          ++at;
        }
      }
    }
    sender.join();
    EXPECT_EQ(got_data, data);
    EXPECT_EQ(got_zero, zero);
  }
}

TEST(Channel, a_changed_bit_is_noticed) {
  std::vector<std::byte> payload(100, std::byte{5});
  MessageHeader header;
  for (std::size_t bit = 0; bit < (sizeof header + payload.size()) * 8; bit += 7) {
    ChannelPair honest;
    ASSERT_TRUE(honest.left->send(MessageType::Cpus, payload));
    honest.left->finish();
    std::vector<std::byte> bytes(sizeof header + payload.size());
    iovec all{.iov_base = bytes.data(), .iov_len = bytes.size()};
    ASSERT_TRUE(honest.right->receive_data(std::span(&all, 1)));
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));

    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    Channel receiver = Channel::adopt(Fd(ends[0]), 5s).value();
    Fd raw(ends[1]);
    ASSERT_EQ(::send(raw.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    raw.reset();
    EXPECT_FALSE(receiver.receive()) << "bit " << bit;
  }
}

TEST(Prefault, allocates_all_of_the_memory_but_what_is_passed_over) {
  TestMachine machine({{"ram0", 0, 2048}});
  {
    Prefault prefault(machine.memory());
    prefault.need(0, 0, 1);
    prefault.need(0, 1900, 148);
    while (!find_holes(machine.memory()[0]).empty()) std::this_thread::yield();
  }
  TestMachine passed({{"ram0", 0, 2048}});
  Prefault prefault(passed.memory());
  prefault.pass_over(0, 0, 2048);  // harmless at any time, before the thread got there or after
  for (const MemoryBlock& block : passed.memory()) EXPECT_TRUE(is_zero(block.bytes.first<kPageSize>()));
}

}  // namespace
}  // namespace gangway::migrate
